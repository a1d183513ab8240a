//! Combine on the cpu: each rank writes its rows into the owners' memory; owners add them.

use super::dispatch::give_up_unread;
use super::parallel::for_each_range;
use super::row_copy::RowCopy;
use super::scratch::with_scratch;
use super::shared_mut::SharedMut;
use super::simd::{Kernel, SimdLevel};
use super::{Cpu, rows};
use crate::error::Result;
use crate::moe::Reduce;
use crate::moe::buffer::EpRef;
use crate::moe::combine::{CombineRecvArgs, CombineSendArgs, CombineWeights};
use crate::moe::ep_layout::Signal;
use crate::moe::handle::HandleState;
use crate::num::bf16;

const OP: &str = "combine";
/// Columns that are added at a time, in registers.
const COLS: usize = 64;
/// Bytes ahead of which rows are fetched.
const AHEAD: usize = 1024;

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
    let returns = Returns { simd, ep, state };
    match ep.config.reduce {
        Reduce::BySlot => {
            let row_bytes = ep.config.hidden * size_of::<bf16>();
            let copy = RowCopy::of(simd, rows::num_rows(state) * row_bytes);
            rows::par_for_each_row(state, copy, |row, slot, copy| {
                returns.write_local(slot, y.row([row]), copy);
            });
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
                // The row is copied on at once, from a cache.
                add_rows(simd, terms, None, RowCopy::of(simd, 0), out);
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
    let num_tokens = out.shape()[0];
    let out = SharedMut::new(out.as_mut_span());
    let row_bytes = hidden * size_of::<bf16>();
    let add = |token: usize, copy: RowCopy| {
        let idx = topk_idx.row([token]);
        let row = |slot: usize| &returned[(token * num_topk + slot) * hidden..][..hidden];
        let bias = bias.map(|bias| bias.row([token]));
        // SAFETY: each token is in one range alone, and rows do not overlap.
        let out = unsafe { out.slice(token * stride, hidden) };
        match ep.config.reduce {
            Reduce::BySlot => {
                let token_weights = topk_weights.row([token]);
                let weight = |slot: usize| match weights {
                    CombineWeights::Routed => token_weights[slot],
                    CombineWeights::Ones => 1.0,
                };
                let terms = || {
                    (0..num_topk)
                        .filter(|&slot| idx[slot] >= 0)
                        .map(|slot| (weight(slot), row(slot)))
                };
                add_rows(simd, terms, bias, copy, out);
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
                add_rows(simd, terms, bias, copy, out);
            }
        }
    };
    let copy = RowCopy::of(simd, num_tokens * row_bytes);
    for_each_range(num_tokens, (num_topk + 1) * row_bytes, |tokens| {
        copy.run(|copy| tokens.for_each(|token| add(token, copy)));
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
    copy: RowCopy,
    out: &mut [bf16],
) {
    simd.run(AddRows { terms, bias, copy, out });
}

struct AddRows<'a, F> {
    terms: F,
    bias: Option<&'a [bf16]>,
    copy: RowCopy,
    out: &'a mut [bf16],
}

impl<'a, I: Iterator<Item = (f32, &'a [bf16])>, F: Fn() -> I> Kernel for AddRows<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let (strips, rest) = self.out.as_chunks_mut::<COLS>();
        let num_cols = strips.len() * COLS;
        for (idx, out) in strips.iter_mut().enumerate() {
            let mut acc = [0.0; COLS];
            for (weight, row) in (self.terms)() {
                let (strips, _) = row.as_chunks();
                add_scaled(&mut acc, weight, &strips[idx]);
            }
            let bias = self.bias.map(|bias| &bias[idx * COLS..][..COLS]);
            let mut rounded = [bf16::ZERO; COLS];
            finish(&mut acc, bias, &mut rounded);
            self.copy.copy(bytemuck::cast_slice_mut(out), bytemuck::cast_slice(&rounded));
        }
        let mut acc = [0.0; COLS];
        let acc = &mut acc[..rest.len()];
        for (weight, row) in (self.terms)() {
            for (acc, y) in acc.iter_mut().zip(&row[num_cols..]) {
                *acc = weight.mul_add(widen(*y), *acc);
            }
        }
        finish(acc, self.bias.map(|bias| &bias[num_cols..]), rest);
    }
}

#[inline(always)]
fn add_scaled(acc: &mut [f32; COLS], weight: f32, row: &[bf16; COLS]) {
    prefetch(row);
    for (acc, y) in acc.iter_mut().zip(row) {
        *acc = weight.mul_add(widen(*y), *acc);
    }
}

#[inline(always)]
fn finish(acc: &mut [f32], bias: Option<&[bf16]>, out: &mut [bf16]) {
    if let Some(bias) = bias {
        for (acc, bias) in acc.iter_mut().zip(bias) {
            *acc += widen(*bias);
        }
    }
    for (out, acc) in out.iter_mut().zip(acc) {
        *out = crate::num::round_bf16(*acc);
    }
}

/// Asks for what comes [`AHEAD`] bytes after the strip: with many rows read at a time, the processor itself
/// is late.
#[inline(always)]
fn prefetch(strip: &[bf16; COLS]) {
    #[cfg(target_arch = "x86_64")]
    for line in 0..size_of_val(strip) / 64 {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let ahead = strip.as_ptr().wrapping_byte_add(AHEAD + 64 * line).cast();
        // SAFETY: every x86-64 processor has SSE, and a prefetch faults at no address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(ahead) };
    }
}

#[inline(always)]
fn widen(x: bf16) -> f32 {
    f32::from_bits(u32::from(x.to_bits()) << 16)
}

/// Rows on their way to the tokens' owners; `slot` counts over all ranks' tokens.
struct Returns<'a> {
    simd: SimdLevel,
    ep: EpRef<'a, Cpu>,
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
    fn write_local(&self, slot: usize, row: &[bf16], copy: RowCopy) {
        let (owner, offset) = self.place(slot);
        let Some(base) = self.ep.symmetric.peer_ptr(owner) else { return };
        // SAFETY: the place lies within the owner's memory; this rank alone serves the slot, visits
        // it once, and the owner has read the epoch before.
        unsafe { copy.copy_to(base.add(offset), bytemuck::cast_slice(row)) };
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
        let copy = RowCopy::of(self.simd, zeros.len() * size_of::<bf16>());
        let local_experts = self.ep.topology.local_experts();
        let topk_idx = self.state.recv_topk_idx.view().as_span();
        let slot_rows = self.state.slot_rows.view().as_span();
        for (slot, (&idx, &row)) in topk_idx.iter().zip(slot_rows).enumerate() {
            if row < 0 && idx >= 0 && local_experts.contains(&(idx as usize)) {
                self.write_local(slot, &zeros, copy);
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
        let row_bytes = hidden * size_of::<bf16>();
        let num_max = self.ep.config.num_max_tokens_per_rank;
        for owner in self.ep.active_ranks() {
            let first_token = owner * num_max;
            if self.ep.symmetric.peer_ptr(owner).is_some() {
                let copy = RowCopy::of(self.simd, num_max * row_bytes);
                for_each_range(num_max, self.state.num_topk * row_bytes, |tokens| {
                    with_row(hidden, |row| {
                        copy.run(|copy| {
                            for token in tokens {
                                if let Some(slot) = partial(first_token + token, row) {
                                    self.write_local(slot, row, copy);
                                }
                            }
                        });
                    });
                });
            } else {
                with_row(hidden, |row| {
                    (first_token..first_token + num_max).try_for_each(|token| {
                        partial(token, row).map_or(Ok(()), |slot| self.put_remote(slot, row))
                    })
                })?;
            }
        }
        Ok(())
    }
}

/// Lends a row of unspecified content.
fn with_row<R>(hidden: usize, f: impl FnOnce(&mut [bf16]) -> R) -> R {
    with_scratch(hidden.div_ceil(2), |row| f(&mut bytemuck::cast_slice_mut(row)[..hidden]))
}
