//! What the loader finds out about `wgmma`: which registers are in flight until which wait, and
//! whether fences must be looked for while the kernel runs.

use std::collections::HashMap;

use super::inst::{Inst, Op, Reg};
use super::liveness::{Block, blocks, visit};
use super::matrix::MatrixOp;

/// Registers of the sum, and of A if it lies in registers; `None` for other instructions.
fn registers<'a>(inst: &Inst, operands: &'a [Reg]) -> Option<(&'a [Reg], &'a [Reg])> {
    let Op::Matrix(MatrixOp::Wgmma(op)) = inst.op else { return None };
    let (first, count) = (inst.operands as usize, usize::from(inst.num_defs));
    let num_a = if op.a_in_registers { 4 } else { 0 };
    Some((&operands[first..first + count], &operands[first + 2 * count..][..num_a]))
}

/// Calls `see` with a register of a product and a position until which it is in flight: the nearest
/// waits for all products, and the ends of the blocks before them.
pub(super) fn each_flight(
    code: &[Inst],
    operands: &[Reg],
    blocks: &[Block],
    mut see: impl FnMut(Reg, u32),
) {
    let lands = |inst: &Inst| {
        matches!(inst.op, Op::Matrix(MatrixOp::Wait { keep: 0 })) && inst.guard.is_none()
    };
    // Where each block's first such wait is; looked up for every product.
    let wait_of = |from: usize, end: usize| (from..end).find(|i| lands(&code[*i]));
    let first_wait: Vec<Option<usize>> =
        blocks.iter().map(|block| wait_of(block.first, block.end)).collect();
    for (b, block) in blocks.iter().enumerate() {
        for (i, inst) in code[block.first..block.end].iter().enumerate() {
            let Some((sum, a)) = registers(inst, operands) else { continue };
            for position in flight(blocks, b, &first_wait, wait_of(block.first + i, block.end)) {
                sum.iter().chain(a).for_each(|reg| see(*reg, position));
            }
        }
    }
}

/// Positions that a product of block `b` is in flight at.
fn flight(
    blocks: &[Block],
    b: usize,
    first_wait: &[Option<usize>],
    wait: Option<usize>,
) -> Vec<u32> {
    let position = |i: usize| 2 * i as u32 + 1;
    if let Some(wait) = wait {
        return vec![position(wait)];
    }
    let mut out = vec![position(blocks[b].end - 1)];
    let mut seen = vec![false; blocks.len()];
    let mut open: Vec<usize> = blocks[b].successors.iter().flatten().copied().collect();
    while let Some(next) = open.pop() {
        if std::mem::replace(&mut seen[next], true) {
            continue;
        }
        let Block { first, end, successors } = &blocks[next];
        out.push(position(*first));
        match first_wait[next] {
            Some(wait) => out.push(position(wait)),
            None => {
                out.push(position(end - 1));
                open.extend(successors.iter().flatten());
            }
        }
    }
    out
}

/// A product may be reached whose registers were used since the last `wgmma.fence`, as far as the
/// control flow tells; whether it happens shows when the kernel runs.
pub(super) fn may_lack(code: &[Inst], operands: &[Reg]) -> bool {
    let mut bit_of: HashMap<Reg, usize> = HashMap::new();
    for (sum, a) in code.iter().filter_map(|inst| registers(inst, operands)) {
        for reg in sum.iter().chain(a) {
            let next = bit_of.len();
            bit_of.entry(*reg).or_insert(next);
        }
    }
    if bit_of.is_empty() {
        return false;
    }
    let blocks = blocks(code);
    let words = bit_of.len().div_ceil(64);
    // Used at the start of each block, since the last fence.
    let mut used = vec![vec![0u64; words]; blocks.len()];
    let mut open: Vec<usize> = (0..blocks.len()).rev().collect();
    let mut lacks = false;
    while let Some(b) = open.pop() {
        let block = &blocks[b];
        let mut state = used[b].clone();
        for inst in &code[block.first..block.end] {
            match inst.op {
                Op::Matrix(MatrixOp::Fence) if inst.guard.is_none() => state.fill(0),
                Op::Matrix(MatrixOp::Wgmma(_)) => {
                    let (sum, a) = registers(inst, operands).unwrap_or_default();
                    let mut bits = sum.iter().chain(a).map(|reg| bit_of[reg]);
                    lacks |= bits.any(|bit| state[bit / 64] >> (bit % 64) & 1 == 1);
                }
                _ => visit(inst, operands, |reg, _| {
                    if let Some(bit) = bit_of.get(&reg) {
                        state[bit / 64] |= 1 << (bit % 64);
                    }
                }),
            }
        }
        for next in block.successors.iter().flatten() {
            let mut grows = false;
            for (into, from) in used[*next].iter_mut().zip(&state) {
                grows |= *from & !*into != 0;
                *into |= from;
            }
            if grows && !open.contains(next) {
                open.push(*next);
            }
        }
        if lacks {
            return true;
        }
    }
    false
}
