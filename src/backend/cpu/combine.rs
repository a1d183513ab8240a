//! Combine on the cpu: each rank writes its rows into the owners' memory; owners add them.

use rayon::prelude::*;

use super::dispatch::give_up_unread;
use super::simd::{Kernel, SimdLevel};
use super::{Cpu, rows};
use crate::error::Result;
use crate::moe::buffer::{EpBuffer, Reduce, Signal};
use crate::moe::combine::{CombineRecvArgs, CombineSendArgs, CombineWeights};
use crate::moe::handle::HandleState;
use crate::num::bf16;

const OP: &str = "combine";
/// Columns that are added at a time, in registers and L1.
const COLS: usize = 512;

pub(super) fn send(simd: SimdLevel, args: CombineSendArgs<'_, Cpu>) -> Result<()> {
    let CombineSendArgs { ep, epoch, state, y, weights } = args;
    give_up_unread(ep, OP, Signal::CombineRead, epoch - 1)?;
    for peer in ep.active_ranks() {
        ep.symmetric.wait_signal(
            OP,
            "send: peer has read the rows before",
            peer,
            Signal::CombineRead.idx(),
            epoch - 1,
        )?;
    }
    let returns = Returns { ep, state };
    match ep.config.reduce {
        Reduce::BySlot => {
            rows::par_for_each_row(state, |row, slot| returns.write_local(slot, y.row([row])));
            rows::try_for_each_row(state, |row, slot| returns.put_remote(slot, y.row([row])))?;
            if rows::overflowed(state) {
                returns.zero_clipped()?;
            }
        }
        Reduce::ByRank => {
            let weights = (weights == CombineWeights::Routed)
                .then(|| state.recv_topk_weights.view().as_span());
            let slot_rows = state.slot_rows.view();
            let partial = |token: usize, out: &mut [bf16]| -> Option<usize> {
                let first_slot = token * state.num_topk;
                let terms = || {
                    slot_rows.row([token]).iter().enumerate().filter(|(_, row)| **row >= 0).map(
                        |(slot, &row)| {
                            let weight = weights.map_or(1.0, |w| w[first_slot + slot]);
                            (weight, y.row([row as usize]))
                        },
                    )
                };
                let first = slot_rows.row([token]).iter().position(|&row| row >= 0)?;
                add_rows(simd, terms, None, out);
                Some(first_slot + first)
            };
            returns.write_partials(partial)?;
        }
    }
    for peer in ep.active_ranks() {
        ep.symmetric.signal(OP, "send", peer, Signal::Combined.idx(), epoch)?;
    }
    Ok(())
}

pub(super) fn recv(simd: SimdLevel, args: CombineRecvArgs<'_, Cpu>) -> Result<()> {
    let CombineRecvArgs { ep, epoch, state, weights, bias, mut out } = args;
    for src in ep.active_ranks() {
        ep.symmetric.wait_signal(OP, "recv: rows", src, Signal::Combined.idx(), epoch)?;
    }
    let (hidden, num_topk) = (ep.config.hidden, ep.config.num_topk);
    let stride = out.layout().strides()[0].max(1);
    let topk_idx = state.topk_idx.view();
    let topk_weights = state.topk_weights.view();
    // SAFETY: all peers signalled that their rows are written, and none writes again until this
    // rank signals that it has read them.
    let returned: &[bf16] = unsafe {
        let start = ep.symmetric.local_ptr().add(ep.layout.returned).cast();
        std::slice::from_raw_parts(start, ep.config.num_max_tokens_per_rank * num_topk * hidden)
    };
    out.as_mut_span().par_chunks_mut(stride).enumerate().for_each(|(token, out)| {
        let idx = topk_idx.row([token]);
        let row = |slot: usize| &returned[(token * num_topk + slot) * hidden..][..hidden];
        let bias = bias.map(|bias| bias.row([token]));
        let out = &mut out[..hidden];
        match ep.config.reduce {
            Reduce::BySlot => {
                let weight = |slot: usize| match weights {
                    CombineWeights::Routed => topk_weights.row([token])[slot],
                    CombineWeights::Ones => 1.0,
                };
                let terms = || {
                    (0..num_topk)
                        .filter(|&slot| idx[slot] >= 0)
                        .map(|slot| (weight(slot), row(slot)))
                };
                add_rows(simd, terms, bias, out);
            }
            Reduce::ByRank => {
                let rank_of = |slot: usize| ep.topology.rank_of(idx[slot] as usize);
                // The first slot of each rank, by ascending rank.
                let terms = || {
                    ep.active_ranks().filter_map(|rank_idx| {
                        (0..num_topk)
                            .find(|&slot| idx[slot] >= 0 && rank_of(slot) == rank_idx)
                            .map(|slot| (1.0, row(slot)))
                    })
                };
                add_rows(simd, terms, bias, out);
            }
        }
    });
    for peer in ep.active_ranks() {
        ep.symmetric.signal(OP, "recv", peer, Signal::CombineRead.idx(), epoch)?;
    }
    Ok(())
}

/// `out = bf16(sum of weight * row, in order, + bias)`.
fn add_rows<'a, I: Iterator<Item = (f32, &'a [bf16])>>(
    simd: SimdLevel,
    terms: impl Fn() -> I,
    bias: Option<&[bf16]>,
    out: &mut [bf16],
) {
    for (block, out) in out.chunks_mut(COLS).enumerate() {
        let cols = block * COLS..block * COLS + out.len();
        let mut acc = [0.0f32; COLS];
        let acc = &mut acc[..out.len()];
        for (weight, row) in terms() {
            simd.run(AddScaled { acc, weight, row: &row[cols.clone()] });
        }
        simd.run(Finish { acc, bias: bias.map(|bias| &bias[cols]), out });
    }
}

struct AddScaled<'a> {
    acc: &'a mut [f32],
    weight: f32,
    row: &'a [bf16],
}

impl Kernel for AddScaled<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (acc, y) in self.acc.iter_mut().zip(self.row) {
            *acc = self.weight.mul_add(widen(*y), *acc);
        }
    }
}

struct Finish<'a> {
    acc: &'a mut [f32],
    bias: Option<&'a [bf16]>,
    out: &'a mut [bf16],
}

impl Kernel for Finish<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        if let Some(bias) = self.bias {
            for (acc, bias) in self.acc.iter_mut().zip(bias) {
                *acc += widen(*bias);
            }
        }
        for (out, acc) in self.out.iter_mut().zip(self.acc) {
            *out = crate::num::round_bf16(*acc);
        }
    }
}

#[inline(always)]
fn widen(x: bf16) -> f32 {
    f32::from_bits(u32::from(x.to_bits()) << 16)
}

/// Rows on their way to the tokens' owners; `slot` counts over all ranks' tokens.
struct Returns<'a> {
    ep: &'a EpBuffer<Cpu>,
    state: &'a HandleState<Cpu>,
}

impl Returns<'_> {
    /// The owner of a slot, and the offset in its memory where the slot's row returns.
    fn place(&self, slot: usize) -> (usize, usize) {
        let slots_per_rank = self.ep.config.num_max_tokens_per_rank * self.state.num_topk;
        let row_bytes = self.ep.config.hidden * size_of::<bf16>();
        (slot / slots_per_rank, self.ep.layout.returned + slot % slots_per_rank * row_bytes)
    }

    /// Writes a row into its owner's memory if that is on this node.
    fn write_local(&self, slot: usize, row: &[bf16]) {
        let (owner, offset) = self.place(slot);
        let Some(base) = self.ep.symmetric.peer_ptr(owner) else { return };
        // SAFETY: the place lies within the owner's memory; this rank alone serves the slot, visits
        // it once, and the owner has read the epoch before.
        unsafe {
            let to: *mut bf16 = base.add(offset).cast();
            to.copy_from_nonoverlapping(row.as_ptr(), row.len());
        }
    }

    /// Sends a row to its owner if that is on another node.
    fn put_remote(&self, slot: usize, row: &[bf16]) -> Result<()> {
        const STEP: &str = "send: rows to another node";
        let (owner, offset) = self.place(slot);
        if self.ep.symmetric.peer_ptr(owner).is_some() {
            return Ok(());
        }
        self.ep.symmetric.put(OP, STEP, owner, offset, bytemuck::cast_slice(row))
    }

    /// Returns zeros for slots whose rows were clipped, so that owners never add old rows.
    fn zero_clipped(&self) -> Result<()> {
        let zeros = vec![bf16::ZERO; self.ep.config.hidden];
        let local_experts = self.ep.topology.local_experts();
        let topk_idx = self.state.recv_topk_idx.view().as_span();
        let slot_rows = self.state.slot_rows.view().as_span();
        for (slot, (&idx, &row)) in topk_idx.iter().zip(slot_rows).enumerate() {
            if row < 0 && idx >= 0 && local_experts.contains(&(idx as usize)) {
                self.write_local(slot, &zeros);
                self.put_remote(slot, &zeros)?;
            }
        }
        Ok(())
    }

    /// Returns one row for each token that `partial` computes; it gives the slot that carries it.
    fn write_partials(
        &self,
        partial: impl Fn(usize, &mut [bf16]) -> Option<usize> + Sync,
    ) -> Result<()> {
        let hidden = self.ep.config.hidden;
        let num_max = self.ep.config.num_max_tokens_per_rank;
        for owner in self.ep.active_ranks() {
            let tokens = owner * num_max..(owner + 1) * num_max;
            if self.ep.symmetric.peer_ptr(owner).is_some() {
                tokens.into_par_iter().for_each_init(
                    || vec![bf16::ZERO; hidden],
                    |row, token| {
                        if let Some(slot) = partial(token, row) {
                            self.write_local(slot, row);
                        }
                    },
                );
            } else {
                let mut row = vec![bf16::ZERO; hidden];
                for token in tokens {
                    if let Some(slot) = partial(token, &mut row) {
                        self.put_remote(slot, &row)?;
                    }
                }
            }
        }
        Ok(())
    }
}
