//! Dispatch on the cpu: each rank publishes its tokens once in its own mailbox; ranks of the same node
//! read them there, ranks of other nodes are sent the tokens that they need.

use super::parallel::for_each_range;
use super::row_copy::RowCopy;
use super::shared_mut::SharedMut;
use super::simd::SimdLevel;
use super::{Cpu, CpuStream, rows};
use crate::error::{Error, Result};
use crate::moe::buffer::EpRef;
use crate::moe::dispatch::{
    DispatchGatherArgs, DispatchRecvArgs, DispatchSendArgs, Routing, TokensMut, TokensRef,
};
use crate::moe::ep_layout::{MailboxHeader, MailboxLayout, Signal};
use crate::moe::handle::HandleState;
use crate::num::bf16;
use crate::tensor::{Layout, TensorRef};

const OP: &str = "dispatch";

pub(super) fn send(
    simd: SimdLevel,
    stream: &CpuStream,
    args: DispatchSendArgs<'_, Cpu>,
) -> Result<()> {
    let DispatchSendArgs { ep, epoch, x, routing, state } = args;
    give_up_unread(ep, OP, Signal::DispatchRead, epoch - 1)?;
    for peer in ep.active_ranks() {
        ep.symmetric.wait_signal(
            OP,
            "send: peer has read the tokens before",
            peer,
            Signal::DispatchRead.idx(),
            epoch - 1,
        )?;
    }
    let new_routing = matches!(routing, Routing::New { .. });
    if let Routing::New { topk_idx, topk_weights } = routing {
        route(stream, ep, topk_idx, topk_weights, state);
    }
    publish_routing(ep, epoch, state, new_routing);
    publish_tokens(simd, ep, state, x);
    for peer in ep.active_ranks() {
        if ep.symmetric.peer_ptr(peer).is_none() {
            put_tokens(ep, peer, state, new_routing)?;
        }
        ep.symmetric.signal(OP, "send", peer, Signal::Dispatched.idx(), epoch)?;
    }
    Ok(())
}

/// Tells all ranks that this one will not read what they sent in `epoch`, unless it has read it.
pub(super) fn give_up_unread(
    ep: EpRef<'_, Cpu>,
    op: &'static str,
    read: Signal,
    epoch: u64,
) -> Result<()> {
    // NOTE: a rank also signals itself, so its own word shows whether it ran the receive half.
    if ep.symmetric.read_signal(ep.topology.rank_idx(), read.idx()) >= epoch {
        return Ok(());
    }
    const STEP: &str = "send: give up the step before";
    ep.active_ranks().try_for_each(|peer| ep.symmetric.signal(op, STEP, peer, read.idx(), epoch))
}

/// Chooses the replica of each slot; drops slots whose rank is left out or whose index is wrong.
fn route(
    stream: &CpuStream,
    ep: EpRef<'_, Cpu>,
    topk_idx: TensorRef<'_, Cpu, i32, 2>,
    topk_weights: TensorRef<'_, Cpu, f32, 2>,
    state: &mut HandleState<Cpu>,
) {
    let num_topk = ep.config.num_topk;
    let first_token = ep.topology.rank_idx() * ep.config.num_max_tokens_per_rank;
    let logical = topk_idx.as_span();
    let mut topk_idx = state.topk_idx.view_mut();
    let physical = &mut topk_idx.as_mut_span()[..logical.len()];
    state.num_masked_slots = 0;
    for (i, (&logical_idx, physical)) in logical.iter().zip(physical).enumerate() {
        *physical = ep.expert_map.physical(logical_idx, first_token + i / num_topk);
        if *physical == i32::MIN {
            *physical = -1;
            let expected = format!("-1 to {}", ep.expert_map.num_logical_experts() as i64 - 1);
            let got = format!("{logical_idx} (token {}, slot {})", i / num_topk, i % num_topk);
            stream.report(Error::value(OP, "topk_idx", expected, got));
        }
        if *physical >= 0 && !ep.active[ep.topology.rank_of(*physical as usize)] {
            *physical = -1;
            state.num_masked_slots += 1;
        }
    }
    let weights = topk_weights.as_span();
    state.topk_weights.view_mut().as_mut_span()[..weights.len()].copy_from_slice(weights);
}

/// The own mailbox, and what follows up to the returned rows.
///
/// # Safety
///
/// Every peer has read the tokens of the epoch before, and this one was not signalled yet.
unsafe fn own_mailbox(ep: EpRef<'_, Cpu>) -> SharedMut<'_, u8> {
    // SAFETY: the mailbox is this rank's alone until the signal is sent; `EpLayout` sized it.
    SharedMut::new(unsafe {
        std::slice::from_raw_parts_mut(ep.symmetric.local_ptr(), ep.layout.returned)
    })
}

/// Writes the own mailbox's header and the routing.
fn publish_routing(ep: EpRef<'_, Cpu>, epoch: u64, state: &HandleState<Cpu>, new_routing: bool) {
    let mailbox = ep.layout.mailbox;
    // SAFETY: `send` has waited for all peers, and nothing else borrows the mailbox here.
    let memory = unsafe { own_mailbox(ep).slice(0, mailbox.values) };
    let header = MailboxHeader { num_tokens: state.num_tokens as u64, epoch };
    memory[..size_of::<MailboxHeader>()].copy_from_slice(bytemuck::bytes_of(&header));
    if new_routing {
        let num_slots = state.num_tokens * ep.config.num_topk;
        let topk_idx: &[u8] = bytemuck::cast_slice(&state.topk_idx.view().as_span()[..num_slots]);
        let weights: &[u8] =
            bytemuck::cast_slice(&state.topk_weights.view().as_span()[..num_slots]);
        memory[mailbox.topk_idx..][..topk_idx.len()].copy_from_slice(topk_idx);
        memory[mailbox.topk_weights..][..weights.len()].copy_from_slice(weights);
    }
}

/// Writes the own mailbox's tokens.
fn publish_tokens(
    simd: SimdLevel,
    ep: EpRef<'_, Cpu>,
    state: &HandleState<Cpu>,
    x: TokensRef<'_, Cpu>,
) {
    let (mailbox, num_tokens) = (ep.layout.mailbox, state.num_tokens);
    // SAFETY: `send` has waited for all peers.
    let memory = unsafe { own_mailbox(ep) };
    let copy = RowCopy::of(simd, num_tokens * mailbox.value_bytes);
    for_each_range(num_tokens, 2 * mailbox.value_bytes, |tokens| {
        copy.run(|copy| {
            for token in tokens {
                let start = mailbox.values + token * mailbox.value_bytes;
                // SAFETY: each token is in one range alone.
                let to = unsafe { memory.slice(start, mailbox.value_bytes) };
                match x {
                    TokensRef::Bf16(x) => copy.copy(to, bytemuck::cast_slice(x.row([token]))),
                    TokensRef::Fp8(x) => {
                        copy.copy(to, bytemuck::cast_slice(x.values.row([token])));
                        let start = mailbox.scales + token * mailbox.scale_bytes;
                        // SAFETY: as above.
                        let to = unsafe { memory.slice(start, mailbox.scale_bytes) };
                        read_scales(x.scales, token, bytemuck::cast_slice_mut(to));
                    }
                }
            }
        });
    });
}

fn read_scales(from: TensorRef<'_, Cpu, f32, 2>, token: usize, to: &mut [f32]) {
    let layout = from.layout();
    if layout.has_contiguous_rows() {
        return to.copy_from_slice(from.row([token]));
    }
    let from = from.as_span();
    for (block, to) in to.iter_mut().enumerate() {
        *to = from[layout.offset([token, block])];
    }
}

/// Sends a rank of another node what it needs of the own mailbox.
fn put_tokens(
    ep: EpRef<'_, Cpu>,
    peer: usize,
    state: &HandleState<Cpu>,
    new_routing: bool,
) -> Result<()> {
    const STEP: &str = "send: tokens to another node";
    let mailbox = ep.layout.mailbox;
    let inbox = ep.layout.inbox(ep.topology.rank_idx(), peer);
    // SAFETY: nobody writes the own mailbox between `publish` and the next epoch.
    let memory =
        unsafe { std::slice::from_raw_parts(ep.symmetric.local_ptr(), ep.layout.returned) };
    let put = |start: usize, num_bytes: usize| {
        ep.symmetric.put(OP, STEP, peer, inbox + start, &memory[start..][..num_bytes])
    };
    let num_topk = ep.config.num_topk;
    if new_routing {
        put(0, size_of::<MailboxHeader>())?;
        put(mailbox.topk_idx, state.num_tokens * num_topk * size_of::<i32>())?;
        put(mailbox.topk_weights, state.num_tokens * num_topk * size_of::<f32>())?;
    }
    let topk_idx = &state.topk_idx.view().as_span()[..state.num_tokens * num_topk];
    let needed = |token: usize| {
        topk_idx[token * num_topk..][..num_topk]
            .iter()
            .any(|&idx| idx >= 0 && ep.topology.rank_of(idx as usize) == peer)
    };
    let mut token = 0;
    while token < state.num_tokens {
        let run = (token..state.num_tokens).take_while(|&token| needed(token)).count();
        if run > 0 {
            put(mailbox.values + token * mailbox.value_bytes, run * mailbox.value_bytes)?;
            put(mailbox.scales + token * mailbox.scale_bytes, run * mailbox.scale_bytes)?;
        }
        token += run.max(1);
    }
    Ok(())
}

pub(super) fn gather(args: DispatchGatherArgs<'_, Cpu>) -> Result<()> {
    let DispatchGatherArgs { ep, epoch, state } = args;
    wait_for_tokens(ep, epoch)?;
    let num_max = ep.config.num_max_tokens_per_rank;
    let num_slots_per_rank = num_max * ep.config.num_topk;
    let mut topk_idx = state.recv_topk_idx.view_mut();
    let mut weights = state.recv_topk_weights.view_mut();
    let idx_of_ranks = topk_idx.as_mut_span().chunks_mut(num_slots_per_rank);
    let weights_of_ranks = weights.as_mut_span().chunks_mut(num_slots_per_rank);
    for (src, (idx, weights)) in idx_of_ranks.zip(weights_of_ranks).enumerate() {
        let num_slots = if ep.active[src] {
            let mailbox = mailbox_of(ep, src);
            let header: MailboxHeader =
                *bytemuck::from_bytes(&mailbox[..size_of::<MailboxHeader>()]);
            check_header(ep, epoch, src, header)?;
            let num_slots = header.num_tokens as usize * ep.config.num_topk;
            let region = |start: usize| &mailbox[start..][..num_slots * size_of::<i32>()];
            idx[..num_slots]
                .copy_from_slice(bytemuck::cast_slice(region(ep.layout.mailbox.topk_idx)));
            weights[..num_slots]
                .copy_from_slice(bytemuck::cast_slice(region(ep.layout.mailbox.topk_weights)));
            num_slots
        } else {
            0
        };
        idx[num_slots..].fill(-1);
    }
    Ok(())
}

/// Refuses a mailbox that another epoch, or another configuration, wrote.
fn check_header(ep: EpRef<'_, Cpu>, epoch: u64, src: usize, header: MailboxHeader) -> Result<()> {
    if header.epoch == epoch && header.num_tokens <= ep.config.num_max_tokens_per_rank as u64 {
        return Ok(());
    }
    let num_max = ep.config.num_max_tokens_per_rank;
    let expected = format!("epoch {epoch} and at most {num_max} tokens");
    let got = format!("epoch {}, {} tokens from rank {src}", header.epoch, header.num_tokens);
    Err(Error::value(OP, "mailbox", expected, got))
}

pub(super) fn recv(simd: SimdLevel, args: DispatchRecvArgs<'_, Cpu>) -> Result<()> {
    let DispatchRecvArgs { ep, epoch, state, rows: mut out } = args;
    wait_for_tokens(ep, epoch)?;
    let rows_out = RowsOut::new(&mut out, ep.config.hidden);
    let num_max = ep.config.num_max_tokens_per_rank;
    let num_tokens = ep.topology.num_ranks() * num_max;
    let layout = ep.layout.mailbox;
    let copy = RowCopy::of(simd, rows::num_rows(state) * layout.value_bytes);
    let slot_rows = state.slot_rows.view();
    // Token by token: one with several experts here is read from memory once.
    for_each_range(num_tokens, 2 * layout.value_bytes, |tokens| {
        copy.run(|copy| {
            for token in tokens {
                let of_token = slot_rows.row([token]).iter().filter(|&&row| row >= 0);
                for &row in of_token {
                    let mailbox = Mailbox { bytes: mailbox_of(ep, token / num_max), layout };
                    // SAFETY: the plan gives each row to one slot, and each slot is visited once.
                    unsafe { rows_out.write(row as usize, &mailbox, token % num_max, copy) };
                }
            }
        });
    });
    for peer in ep.active_ranks() {
        ep.symmetric.signal(OP, "recv", peer, Signal::DispatchRead.idx(), epoch)?;
    }
    Ok(())
}

/// One rank's tokens.
struct Mailbox<'a> {
    bytes: &'a [u8],
    layout: MailboxLayout,
}

impl<'a> Mailbox<'a> {
    fn values(&self, token: usize) -> &'a [u8] {
        let len = self.layout.value_bytes;
        &self.bytes[self.layout.values + token * len..][..len]
    }

    fn scales(&self, token: usize) -> &'a [f32] {
        let len = self.layout.scale_bytes;
        bytemuck::cast_slice(&self.bytes[self.layout.scales + token * len..][..len])
    }
}

/// Receive memory whose rows tasks write.
struct RowsOut<'a> {
    values: SharedMut<'a, u8>,
    row_stride: usize,
    row_bytes: usize,
    scales: Option<(SharedMut<'a, f32>, Layout<2>)>,
}

impl<'a> RowsOut<'a> {
    fn new(out: &'a mut TokensMut<'_, Cpu>, hidden: usize) -> Self {
        match out {
            TokensMut::Bf16(out) => Self {
                row_stride: out.layout().strides()[0] * size_of::<bf16>(),
                row_bytes: hidden * size_of::<bf16>(),
                values: SharedMut::new(bytemuck::cast_slice_mut(out.as_mut_span())),
                scales: None,
            },
            TokensMut::Fp8(out) => Self {
                row_stride: out.values.layout().strides()[0],
                row_bytes: hidden,
                scales: {
                    let layout = out.scales.layout();
                    Some((SharedMut::new(out.scales.as_mut_span()), layout))
                },
                values: SharedMut::new(bytemuck::cast_slice_mut(out.values.as_mut_span())),
            },
        }
    }

    /// Copies a token into a row.
    ///
    /// # Safety
    ///
    /// No other task has this row meanwhile.
    unsafe fn write(&self, row: usize, from: &Mailbox<'_>, token: usize, copy: RowCopy) {
        // SAFETY: rows do not overlap, and the caller has this one alone.
        let to = unsafe { self.values.slice(row * self.row_stride, self.row_bytes) };
        copy.copy(to, from.values(token));
        let Some((scales, layout)) = self.scales else { return };
        let from = from.scales(token);
        if layout.has_contiguous_rows() {
            // SAFETY: as above.
            let to = unsafe { scales.slice(layout.offset([row, 0]), from.len()) };
            return to.copy_from_slice(from);
        }
        for (block, &scale) in from.iter().enumerate() {
            // SAFETY: the layout maps rows to distinct places.
            unsafe { scales.write(layout.offset([row, block]), scale) };
        }
    }
}

fn wait_for_tokens(ep: EpRef<'_, Cpu>, epoch: u64) -> Result<()> {
    ep.active_ranks().try_for_each(|src| {
        ep.symmetric.wait_signal(OP, "recv: tokens", src, Signal::Dispatched.idx(), epoch)
    })
}

/// The mailbox with `src`'s tokens: in `src`'s memory on the same node, else where they were sent to.
fn mailbox_of(ep: EpRef<'_, Cpu>, src: usize) -> &[u8] {
    let num_bytes = ep.layout.mailbox.num_bytes;
    // SAFETY: `src` signalled that it wrote the mailbox and leaves it until this rank signals that
    // it has read it; the mailbox lies within the symmetric memory.
    unsafe {
        let base = match ep.symmetric.peer_ptr(src) {
            Some(peer) => peer,
            None => ep.symmetric.local_ptr().add(ep.layout.inbox(src, ep.topology.rank_idx())),
        };
        std::slice::from_raw_parts(base, num_bytes)
    }
}
