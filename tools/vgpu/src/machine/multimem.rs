//! Accesses to the same place in several devices' memory, in the order in which it was bound.

use half::{bf16, f16};

use super::atomic::{combine, update};
use super::exec::Exec;
use super::lanes::Cell;
use super::pointers::Kind;
use super::{Flow, Trap, lanes_of};
use crate::fault::FaultKind;
use crate::program::Inst;
use crate::program::inst::{Multimem, MultimemKind, Number, Space};

impl Exec<'_, '_> {
    pub(super) fn multimem(
        &mut self,
        inst: &Inst,
        it: &Multimem,
        active: u32,
    ) -> Result<Flow, Trap> {
        let access = &it.access;
        let addresses = self.addresses(self.used(inst, 0), access.wide_address, access.offset);
        let (width, vector) = (usize::from(access.bytes), usize::from(access.vector));
        let bytes = (width * vector) as u64;
        for lane in lanes_of(active) {
            let copies = self.copies(addresses[lane], bytes, lane)?;
            for element in 0..vector {
                let places = copies.iter().map(|start| start.wrapping_add(element * width));
                if let MultimemKind::LoadReduce { in_f32 } = it.kind {
                    // SAFETY: `copies` checked bounds and alignment of all elements.
                    let values = places.map(|at| unsafe { load(at, width) }).collect();
                    let dest = self.def(inst, element);
                    let sum = reduce(it, in_f32, values);
                    self.warp.registers.set(access.class, dest, lane, sum);
                    continue;
                }
                let source = self.used(inst, 1 + element);
                let value = self.warp.registers.get(access.class, source, lane);
                for at in places {
                    // A store replaces, as an exchange does.
                    let new = |old| combine(it.op, it.number, access.bytes, old, value, 0);
                    // SAFETY: as above.
                    unsafe { update(at, width, new) };
                }
            }
        }
        let kind = match it.kind {
            MultimemKind::LoadReduce { .. } => Kind::Read,
            MultimemKind::Store => Kind::Write,
            MultimemKind::Reduce => Kind::Atomic,
        };
        self.tally(Space::Global, &addresses, active, bytes, kind);
        Ok(if kind == Kind::Read { Flow::Yield } else { Flow::Next })
    }

    /// Where the devices have the bytes of an address.
    fn copies(&self, address: u64, bytes: u64, lane: usize) -> Result<Vec<*mut u8>, Trap> {
        let align = bytes.next_power_of_two().min(16);
        let access = || "multimem access".to_owned();
        if !address.is_multiple_of(align) {
            let fault = FaultKind::Misaligned { access: access(), address, bytes };
            return Err(Trap::new(fault, lane as u32));
        }
        self.grid.memory.copies(address, bytes).ok_or_else(|| {
            let hint = ": no memory of every device of a multicast object".to_owned();
            let fault = FaultKind::OutOfBounds { access: access(), address, bytes, hint };
            Trap::new(fault, lane as u32)
        })
    }
}

/// # Safety
///
/// `at` is valid and aligned for `width` bytes.
unsafe fn load(at: *mut u8, width: usize) -> u128 {
    // SAFETY: the caller's, in each arm.
    unsafe {
        match width {
            2 => u16::get(at).into(),
            4 => u32::get(at).into(),
            _ => u64::get(at).into(),
        }
    }
}

/// One value of all. Sums of halves in FP32 are rounded once.
fn reduce(it: &Multimem, in_f32: bool, values: Vec<u128>) -> u128 {
    if !in_f32 {
        let (op, number, bytes) = (it.op, it.number, it.access.bytes);
        let all = values.into_iter().reduce(|a, b| combine(op, number, bytes, a, b, 0));
        return all.unwrap_or(0);
    }
    let part = |shift: u32| -> u128 {
        let halves = values.iter().map(|value| (value >> shift) as u16);
        let bits = match it.number {
            Number::F16 | Number::F16x2 => {
                f16::from_f32(halves.map(|x| f16::from_bits(x).to_f32()).sum()).to_bits()
            }
            _ => bf16::from_f32(halves.map(|x| bf16::from_bits(x).to_f32()).sum()).to_bits(),
        };
        u128::from(bits) << shift
    };
    match it.number {
        Number::F16x2 | Number::Bf16x2 => part(0) | part(16),
        _ => part(0),
    }
}
