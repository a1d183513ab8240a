//! Atomics: the lanes one after the other.

use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use half::{bf16, f16};

use super::exec::Exec;
use super::lanes::Cell;
use super::pointers::Kind;
use super::{Flow, Trap, lanes_of};
use crate::program::Inst;
use crate::program::inst::{Atom, AtomicOp, Number};

/// 128-bit atomics of all devices take turns.
static WIDE: Mutex<()> = Mutex::new(());

impl Exec<'_, '_> {
    pub(super) fn atomic(&mut self, inst: &Inst, atom: &Atom, active: u32) -> Result<Flow, Trap> {
        let access = &atom.access;
        let addresses = self.addresses(self.used(inst, 0), access.wide_address, access.offset);
        let (width, vector) = (usize::from(access.bytes), usize::from(access.vector));
        let bytes = (width * vector) as u64;
        let pointers = self.pointers(access.space, &addresses, active, bytes, Kind::Atomic)?;
        self.tally(access.space, &addresses, active, bytes, Kind::Atomic);
        self.observe_access(inst, access, &addresses, active, Kind::Atomic)?;
        for lane in lanes_of(active) {
            for element in 0..vector {
                let operand = |i: usize| {
                    let reg = self.used(inst, 1 + i * vector + element);
                    self.warp.registers.get(access.class, reg, lane)
                };
                let b = operand(0);
                let Atom { op, number, .. } = *atom;
                let c = if atom.op == AtomicOp::Cas { operand(1) } else { 0 };
                let at = pointers[lane].wrapping_add(element * width);
                // SAFETY: `pointers` checked bounds and alignment of all elements.
                let old = unsafe {
                    update(at, width, |old| combine(op, number, access.bytes, old, b, c))
                };
                if inst.num_defs > 0 {
                    let dest = self.def(inst, element);
                    self.warp.registers.set(access.class, dest, lane, old);
                }
            }
        }
        Ok(if inst.num_defs > 0 { Flow::Yield } else { Flow::Next })
    }
}

/// Replaces a value by a function of it and returns the old one.
///
/// # Safety
///
/// `at` is valid and aligned for `width` bytes.
pub(super) unsafe fn update(at: *mut u8, width: usize, f: impl Fn(u128) -> u128) -> u128 {
    // SAFETY: the caller's, in each arm.
    unsafe {
        match width {
            2 => {
                let cell = AtomicU16::from_ptr(at.cast());
                cell.update(Ordering::AcqRel, Ordering::Acquire, |x| f(x.into()) as u16).into()
            }
            4 => {
                let cell = AtomicU32::from_ptr(at.cast());
                cell.update(Ordering::AcqRel, Ordering::Acquire, |x| f(x.into()) as u32).into()
            }
            8 => {
                let cell = AtomicU64::from_ptr(at.cast());
                cell.update(Ordering::AcqRel, Ordering::Acquire, |x| f(x.into()) as u64).into()
            }
            _ => {
                let _turn = WIDE.lock().unwrap_or_else(PoisonError::into_inner);
                let old = u128::get(at);
                u128::put(at, f(old));
                old
            }
        }
    }
}

/// The new value.
pub(super) fn combine(
    op: AtomicOp,
    number: Number,
    bytes: u8,
    old: u128,
    b: u128,
    c: u128,
) -> u128 {
    match op {
        AtomicOp::Exch => b,
        AtomicOp::Cas => {
            let mask = u128::MAX >> (128 - 8 * u32::from(bytes));
            if old == b & mask { c } else { old }
        }
        _ => match number {
            Number::Unsigned | Number::Signed => {
                let (wide, signed) = (bytes == 8, number == Number::Signed);
                apply_integer(op, old as u64, b as u64, wide, signed).into()
            }
            Number::F32 => {
                let sum = f32::from_bits(old as u32) + f32::from_bits(b as u32);
                u128::from(sum.to_bits())
            }
            Number::F64 => {
                let sum = f64::from_bits(old as u64) + f64::from_bits(b as u64);
                u128::from(sum.to_bits())
            }
            Number::F16 | Number::Bf16 => half_of(op, number, old as u16, b as u16).into(),
            Number::F16x2 | Number::Bf16x2 => {
                let low = half_of(op, number, old as u16, b as u16);
                let high = half_of(op, number, (old >> 16) as u16, (b >> 16) as u16);
                u128::from(low) | u128::from(high) << 16
            }
        },
    }
}

/// An integer operation on 32 or, if `wide`, 64 bits.
pub(super) fn apply_integer(op: AtomicOp, old: u64, b: u64, wide: bool, signed: bool) -> u64 {
    let extend = |x: u64| match (wide, signed) {
        (false, true) => i64::from(x as u32 as i32),
        (false, false) => i64::from(x as u32),
        (true, _) => x as i64,
    };
    let less = if wide && !signed { old < b } else { extend(old) < extend(b) };
    let (old32, b32) = (old as u32, b as u32);
    match op {
        AtomicOp::Add => old.wrapping_add(b),
        AtomicOp::And => old & b,
        AtomicOp::Or => old | b,
        AtomicOp::Xor => old ^ b,
        AtomicOp::Min => {
            if less {
                old
            } else {
                b
            }
        }
        AtomicOp::Max => {
            if less {
                b
            } else {
                old
            }
        }
        AtomicOp::Inc => {
            if old32 >= b32 {
                0
            } else {
                (old32 + 1).into()
            }
        }
        AtomicOp::Dec => {
            if old32 == 0 || old32 > b32 {
                b
            } else {
                (old32 - 1).into()
            }
        }
        AtomicOp::Exch | AtomicOp::Cas => b,
    }
}

/// A sum, minimum or maximum of two 16-bit floats.
fn half_of(op: AtomicOp, number: Number, old: u16, b: u16) -> u16 {
    let is_f16 = matches!(number, Number::F16 | Number::F16x2);
    let wide = |x: u16| match is_f16 {
        true => f16::from_bits(x).to_f32(),
        false => bf16::from_bits(x).to_f32(),
    };
    let (x, y) = (wide(old), wide(b));
    let result = match op {
        AtomicOp::Min => x.min(y),
        AtomicOp::Max => x.max(y),
        _ => x + y,
    };
    if is_f16 { f16::from_f32(result).to_bits() } else { bf16::from_f32(result).to_bits() }
}
