//! Gives registers their rows in a warp's register file; values that never live at the same time
//! share one. Classes do not mix, since a row of 64 bits does not lie like two of 32.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::FixedReg;
use super::inst::{Inst, Reg};
use super::liveness::spans;
use crate::ops::{Class, LANES};

pub(super) struct Allocation {
    pub num_rows: usize,
}

/// Replaces all register numbers by word offsets.
pub(super) fn allocate(
    code: &mut [Inst],
    operands: &mut [Reg],
    fixed: &mut [FixedReg],
    num_registers: [u32; 4],
) -> Allocation {
    let classes = [(Class::R128, 4), (Class::R64, 2), (Class::R32, 1), (Class::Pred, 0)];
    let mut next_word = 0;
    let mut words: [Vec<u32>; 4] = Default::default();
    for (class, rows) in classes {
        let count = num_registers[class as usize] as usize;
        let slots = slots(code, operands, fixed, class, count);
        let stride = if class == Class::Pred { 1 } else { rows * LANES as u32 };
        words[class as usize] = slots.of.iter().map(|slot| next_word + slot * stride).collect();
        next_word += slots.count * stride;
    }
    let replace = |reg: &mut Reg| *reg = Reg(words[reg.class() as usize][reg.number()]);
    operands.iter_mut().for_each(replace);
    for inst in code {
        if let Some(guard) = &mut inst.guard {
            replace(&mut guard.predicate);
        }
    }
    fixed.iter_mut().for_each(|fixed| replace(&mut fixed.reg));
    Allocation { num_rows: (next_word as usize).div_ceil(LANES) }
}

struct Slots {
    /// Slot of each register; 0 for those that are never used.
    of: Vec<u32>,
    count: u32,
}

/// A linear scan over the spans of one class.
fn slots(
    code: &[Inst],
    operands: &[Reg],
    fixed: &[FixedReg],
    class: Class,
    num_registers: usize,
) -> Slots {
    let spans = spans(code, operands, num_registers, |reg| reg.class() == class);
    let mut slots = Slots { of: vec![0; num_registers], count: 0 };
    let mut is_fixed = vec![false; num_registers];
    for reg in fixed.iter().filter(|fixed| fixed.class == class).map(|fixed| fixed.reg) {
        is_fixed[reg.number()] = true;
        slots.of[reg.number()] = slots.count;
        slots.count += 1;
    }
    let mut order: Vec<usize> =
        (0..num_registers).filter(|n| spans[*n].is_used() && !is_fixed[*n]).collect();
    order.sort_by_key(|n| spans[*n].start);
    let mut free: Vec<u32> = Vec::new();
    let mut active: BinaryHeap<Reverse<(u32, u32)>> = BinaryHeap::new();
    for n in order {
        while let Some(Reverse((end, slot))) = active.peek().copied()
            && end < spans[n].start
        {
            active.pop();
            free.push(slot);
        }
        let slot = free.pop().unwrap_or_else(|| {
            slots.count += 1;
            slots.count - 1
        });
        slots.of[n] = slot;
        active.push(Reverse((spans[n].end, slot)));
    }
    slots
}
