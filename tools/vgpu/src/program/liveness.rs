//! Where each register's value may still be read: one span of positions per register.

use super::fences::each_flight;
use super::inst::{Inst, Op, Reg};

/// First and last position at which a register is in use. Position `2i` is where instruction `i`
/// reads, `2i + 1` where it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub start: u32,
    pub end: u32,
}

impl Span {
    const NONE: Span = Span { start: u32::MAX, end: 0 };

    pub(super) fn is_used(self) -> bool {
        self.start <= self.end
    }

    fn cover(&mut self, position: u32) {
        self.start = self.start.min(position);
        self.end = self.end.max(position);
    }
}

/// Instructions that are executed one after the other.
pub(super) struct Block {
    pub first: usize,
    /// One past the last instruction.
    pub end: usize,
    pub successors: [Option<usize>; 2],
}

/// Registers of one class of `code`, by number. Divergence needs no care: a write touches only the
/// threads that execute it, so what holds for a thread alone holds for its lane.
pub(super) fn spans(
    code: &[Inst],
    operands: &[Reg],
    num_registers: usize,
    is_class: impl Fn(Reg) -> bool,
) -> Vec<Span> {
    let blocks = &blocks(code);
    let mut spans = vec![Span::NONE; num_registers];
    for (i, inst) in code.iter().enumerate() {
        // Rows of the table read all sources before they write; others go thread by thread.
        let reads_late = !matches!(inst.op, Op::Map(_));
        visit(inst, operands, |reg, is_def| {
            if is_class(reg) {
                spans[reg.number()].cover(2 * i as u32 + u32::from(is_def || reads_late));
            }
        });
    }
    let live = LiveSets::solve(code, operands, blocks, num_registers, &is_class);
    for (block, (live_in, live_out)) in blocks.iter().zip(live.sets()) {
        for reg in live_in {
            spans[reg].cover(2 * block.first as u32);
        }
        for reg in live_out {
            spans[reg].cover(2 * block.end as u32 - 1);
        }
    }
    each_flight(code, operands, blocks, |reg, position| {
        if is_class(reg) {
            spans[reg.number()].cover(position);
        }
    });
    spans
}

/// Calls `see` with every register of an instruction and whether it is written.
pub(super) fn visit(inst: &Inst, operands: &[Reg], mut see: impl FnMut(Reg, bool)) {
    if let Some(guard) = inst.guard {
        see(guard.predicate, false);
    }
    let first = inst.operands as usize;
    let defs = usize::from(inst.num_defs);
    let all = &operands[first..first + defs + usize::from(inst.num_uses)];
    for (i, reg) in all.iter().enumerate() {
        see(*reg, i < defs);
    }
}

/// All of them, in order.
pub(super) fn blocks(code: &[Inst]) -> Vec<Block> {
    let mut is_leader = vec![false; code.len() + 1];
    is_leader[0] = true;
    for (i, inst) in code.iter().enumerate() {
        if let Op::Bra(target) = inst.op {
            is_leader[target as usize] = true;
        }
        if inst.op.ends_block() {
            is_leader[i + 1] = true;
        }
    }
    let firsts: Vec<usize> = (0..code.len()).filter(|i| is_leader[*i]).collect();
    let index_of = |position: usize| firsts.binary_search(&position).ok();
    let mut blocks = Vec::with_capacity(firsts.len());
    for (b, first) in firsts.iter().enumerate() {
        let end = firsts.get(b + 1).copied().unwrap_or(code.len());
        let last = &code[end - 1];
        let next = index_of(end);
        let successors = match last.op {
            Op::Bra(target) if last.guard.is_none() => [index_of(target as usize), None],
            Op::Bra(target) => [index_of(target as usize), next],
            Op::Exit | Op::Trap if last.guard.is_none() => [None, None],
            _ => [next, None],
        };
        blocks.push(Block { first: *first, end, successors });
    }
    blocks
}

/// Live registers at the start and end of each block, as bit sets over the registers that are read in
/// some block before they are written there; all others never leave their block.
struct LiveSets {
    /// Register of each bit.
    global: Vec<usize>,
    words: usize,
    live_in: Vec<u64>,
    live_out: Vec<u64>,
}

impl LiveSets {
    fn solve(
        code: &[Inst],
        operands: &[Reg],
        blocks: &[Block],
        num_registers: usize,
        is_class: &impl Fn(Reg) -> bool,
    ) -> Self {
        let (exposed, killed) = local_sets(code, operands, blocks, num_registers, is_class);
        let mut bit_of = vec![usize::MAX; num_registers];
        let mut global = Vec::new();
        for reg in exposed.iter().flatten() {
            if bit_of[*reg] == usize::MAX {
                bit_of[*reg] = global.len();
                global.push(*reg);
            }
        }
        let words = global.len().div_ceil(64);
        let bits = |sets: &[Vec<usize>]| {
            let mut out = vec![0u64; words * blocks.len()];
            for (b, set) in sets.iter().enumerate() {
                for bit in set.iter().map(|reg| bit_of[*reg]).filter(|bit| *bit != usize::MAX) {
                    out[b * words + bit / 64] |= 1 << (bit % 64);
                }
            }
            out
        };
        let kill = bits(&killed);
        let mut live_in = bits(&exposed);
        let mut live_out = vec![0u64; words * blocks.len()];
        let mut changed = true;
        while changed {
            changed = false;
            for b in (0..blocks.len()).rev() {
                for w in 0..words {
                    let out = blocks[b].successors.iter().flatten();
                    let out = out.fold(0, |out, s| out | live_in[s * words + w]);
                    let at = b * words + w;
                    let through = live_in[at] | out & !kill[at];
                    live_out[at] = out;
                    changed |= through != live_in[at];
                    live_in[at] = through;
                }
            }
        }
        LiveSets { global, words, live_in, live_out }
    }

    /// The registers of each block's two sets.
    fn sets(&self) -> impl Iterator<Item = (Vec<usize>, Vec<usize>)> {
        let num_blocks = self.live_in.len().checked_div(self.words).unwrap_or(0);
        (0..num_blocks).map(|b| {
            let range = b * self.words..(b + 1) * self.words;
            (self.members(&self.live_in[range.clone()]), self.members(&self.live_out[range]))
        })
    }

    fn members(&self, words: &[u64]) -> Vec<usize> {
        let mut members = Vec::new();
        for (w, word) in words.iter().enumerate() {
            let mut rest = *word;
            while rest != 0 {
                members.push(self.global[w * 64 + rest.trailing_zeros() as usize]);
                rest &= rest - 1;
            }
        }
        members
    }
}

/// For each block, the registers read before they are written, and those written for sure.
fn local_sets(
    code: &[Inst],
    operands: &[Reg],
    blocks: &[Block],
    num_registers: usize,
    is_class: &impl Fn(Reg) -> bool,
) -> (Vec<Vec<usize>>, Vec<Vec<usize>>) {
    // The block in which a register was last seen written or read first.
    let mut written_in = vec![usize::MAX; num_registers];
    let mut exposed_in = vec![usize::MAX; num_registers];
    let (mut exposed, mut killed) = (Vec::new(), Vec::new());
    for (b, block) in blocks.iter().enumerate() {
        let (mut reads, mut writes) = (Vec::new(), Vec::new());
        for inst in &code[block.first..block.end] {
            visit(inst, operands, |reg, is_def| {
                let n = reg.number();
                if is_class(reg) && !is_def && written_in[n] != b && exposed_in[n] != b {
                    exposed_in[n] = b;
                    reads.push(n);
                }
            });
            // A guarded write leaves the old value in some threads.
            if inst.guard.is_none() {
                visit(inst, operands, |reg, is_def| {
                    let n = reg.number();
                    if is_class(reg) && is_def && written_in[n] != b {
                        written_in[n] = b;
                        writes.push(n);
                    }
                });
            }
        }
        exposed.push(reads);
        killed.push(writes);
    }
    (exposed, killed)
}
