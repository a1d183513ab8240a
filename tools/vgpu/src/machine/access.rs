//! Loads and stores.

use super::exec::Exec;
use super::lanes::{Cell, each_lane};
use super::pointers::Kind;
use super::{Flow, Trap};
use crate::ops::{Class, LANES};
use crate::program::inst::{Access, Semantics};
use crate::program::{Inst, Reg};

impl Exec<'_, '_> {
    pub(super) fn load(&mut self, inst: &Inst, access: &Access, active: u32) -> Result<Flow, Trap> {
        let addresses = self.addresses(self.used(inst, 0), access.wide_address, access.offset);
        let bytes = u64::from(access.bytes) * u64::from(access.vector);
        let pointers = self.pointers(access.space, &addresses, active, bytes, Kind::Read)?;
        self.tally(access.space, &addresses, active, bytes, Kind::Read);
        self.observe_access(inst, access, &addresses, active, Kind::Read)?;
        for element in 0..usize::from(access.vector) {
            let dest = self.def(inst, element);
            let at = element * usize::from(access.bytes);
            // SAFETY: `pointers` checked bounds and alignment of all elements.
            unsafe {
                match access.bytes {
                    1 => self.load_rows::<u8>(&pointers, at, access, dest, active),
                    2 => self.load_rows::<u16>(&pointers, at, access, dest, active),
                    4 => self.load_rows::<u32>(&pointers, at, access, dest, active),
                    8 => self.load_rows::<u64>(&pointers, at, access, dest, active),
                    _ => self.load_rows::<u128>(&pointers, at, access, dest, active),
                }
            }
        }
        Ok(polls(access))
    }

    /// # Safety
    ///
    /// Each active lane's pointer is valid and aligned for a `T` at byte `at`.
    unsafe fn load_rows<T: Cell + Widen>(
        &mut self,
        pointers: &[*mut u8; LANES],
        at: usize,
        access: &Access,
        dest: Reg,
        active: u32,
    ) {
        let value = |lane: usize| {
            // SAFETY: the caller's.
            let value = unsafe { T::get(pointers[lane].add(at)) };
            value.widen(access.signed)
        };
        match access.class {
            Class::R64 => {
                let row = self.warp.registers.r64_mut(dest);
                each_lane(active, |lane| row[lane] = value(lane) as u64);
            }
            Class::R128 => {
                let row = self.warp.registers.r128_mut(dest);
                each_lane(active, |lane| row[lane] = value(lane));
            }
            Class::R32 | Class::Pred => {
                let row = self.warp.registers.r32_mut(dest);
                each_lane(active, |lane| row[lane] = value(lane) as u32);
            }
        }
    }

    pub(super) fn store(
        &mut self,
        inst: &Inst,
        access: &Access,
        active: u32,
    ) -> Result<Flow, Trap> {
        let addresses = self.addresses(self.used(inst, 0), access.wide_address, access.offset);
        let bytes = u64::from(access.bytes) * u64::from(access.vector);
        let pointers = self.pointers(access.space, &addresses, active, bytes, Kind::Write)?;
        self.tally(access.space, &addresses, active, bytes, Kind::Write);
        self.observe_access(inst, access, &addresses, active, Kind::Write)?;
        for element in 0..usize::from(access.vector) {
            let source = self.used(inst, 1 + element);
            let at = element * usize::from(access.bytes);
            // SAFETY: `pointers` checked bounds and alignment of all elements.
            unsafe {
                match access.bytes {
                    1 => self.store_rows(&pointers, at, access, source, active, |x| x as u8),
                    2 => self.store_rows(&pointers, at, access, source, active, |x| x as u16),
                    4 => self.store_rows(&pointers, at, access, source, active, |x| x as u32),
                    8 => self.store_rows(&pointers, at, access, source, active, |x| x as u64),
                    _ => self.store_rows(&pointers, at, access, source, active, |x| x),
                }
            }
        }
        Ok(Flow::Next)
    }

    /// # Safety
    ///
    /// Each active lane's pointer is valid and aligned for a `T` at byte `at`.
    unsafe fn store_rows<T: Cell>(
        &self,
        pointers: &[*mut u8; LANES],
        at: usize,
        access: &Access,
        source: Reg,
        active: u32,
        cut: impl Fn(u128) -> T,
    ) {
        // SAFETY: the caller's.
        let put = |lane: usize, value: u128| unsafe { T::put(pointers[lane].add(at), cut(value)) };
        let registers = &self.warp.registers;
        match access.class {
            Class::R64 => {
                let row = registers.r64(source);
                each_lane(active, |lane| put(lane, row[lane].into()));
            }
            Class::R32 => {
                let row = registers.r32(source);
                each_lane(active, |lane| put(lane, row[lane].into()));
            }
            class => each_lane(active, |lane| put(lane, registers.get(class, source, lane))),
        }
    }
}

/// Loads that a kernel may spin on give way to other warps.
fn polls(access: &Access) -> Flow {
    match access.semantics {
        Semantics::Acquire | Semantics::Relaxed | Semantics::Volatile => Flow::Yield,
        _ => Flow::Next,
    }
}

/// A memory element in a register.
trait Widen {
    fn widen(self, signed: bool) -> u128;
}

macro_rules! widen {
    ($($ty:ty, $signed:ty;)*) => {$(
        impl Widen for $ty {
            #[inline(always)]
            fn widen(self, signed: bool) -> u128 {
                if signed { self as $signed as i128 as u128 } else { u128::from(self) }
            }
        }
    )*};
}

widen! {
    u8, i8;
    u16, i16;
    u32, i32;
    u64, i64;
}

impl Widen for u128 {
    fn widen(self, _signed: bool) -> u128 {
        self
    }
}
