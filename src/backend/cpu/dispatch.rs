//! Dispatch on the cpu: each rank publishes its tokens once in its own mailbox; ranks of the same node
//! read them there, ranks of other nodes are sent the tokens that they need.

use rayon::prelude::*;

use super::shared_mut::SharedMut;
use super::{Cpu, CpuStream, rows};
use crate::error::{Error, Result};
use crate::moe::buffer::{EpBuffer, MailboxHeader, Signal};
use crate::moe::dispatch::{
    DispatchGatherArgs, DispatchRecvArgs, DispatchSendArgs, Routing, TokensMut, TokensRef,
};
use crate::moe::handle::HandleState;
use crate::tensor::TensorRef;

const OP: &str = "dispatch";

pub(super) fn send(stream: &CpuStream, args: DispatchSendArgs<'_, Cpu>) -> Result<()> {
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
    publish(ep, epoch, state, x, new_routing);
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
    ep: &EpBuffer<Cpu>,
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
    ep: &EpBuffer<Cpu>,
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

/// Writes the own mailbox.
fn publish(
    ep: &EpBuffer<Cpu>,
    epoch: u64,
    state: &HandleState<Cpu>,
    x: TokensRef<'_, Cpu>,
    new_routing: bool,
) {
    let mailbox = ep.layout.mailbox;
    let num_tokens = state.num_tokens;
    // SAFETY: every peer has read the tokens of the epoch before, so the mailbox is ours until
    // the signal is sent; its regions are as `EpLayout` sized them.
    let memory =
        unsafe { std::slice::from_raw_parts_mut(ep.symmetric.local_ptr(), ep.layout.returned) };
    let header = MailboxHeader { num_tokens: num_tokens as u64, epoch };
    memory[..size_of::<MailboxHeader>()].copy_from_slice(bytemuck::bytes_of(&header));
    if new_routing {
        let num_slots = num_tokens * ep.config.num_topk;
        let topk_idx: &[u8] = bytemuck::cast_slice(&state.topk_idx.view().as_span()[..num_slots]);
        let weights: &[u8] =
            bytemuck::cast_slice(&state.topk_weights.view().as_span()[..num_slots]);
        memory[mailbox.topk_idx..][..topk_idx.len()].copy_from_slice(topk_idx);
        memory[mailbox.topk_weights..][..weights.len()].copy_from_slice(weights);
    }
    let (values, scales) = memory[mailbox.values..].split_at_mut(mailbox.scales - mailbox.values);
    let values = values.par_chunks_mut(mailbox.value_bytes).take(num_tokens).enumerate();
    match x {
        TokensRef::Bf16(x) => {
            values.for_each(|(token, to)| to.copy_from_slice(bytemuck::cast_slice(x.row([token]))));
        }
        TokensRef::Fp8(x) => {
            let layout = x.scales.layout();
            let from = x.scales.as_span();
            values.zip(scales.par_chunks_mut(mailbox.scale_bytes)).for_each(
                |((token, to), to_scales)| {
                    to.copy_from_slice(bytemuck::cast_slice(x.values.row([token])));
                    let to_scales: &mut [f32] = bytemuck::cast_slice_mut(to_scales);
                    for (block, to) in to_scales.iter_mut().enumerate() {
                        *to = from[layout.offset([token, block])];
                    }
                },
            );
        }
    }
}

/// Sends a rank of another node what it needs of the own mailbox.
fn put_tokens(
    ep: &EpBuffer<Cpu>,
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
fn check_header(ep: &EpBuffer<Cpu>, epoch: u64, src: usize, header: MailboxHeader) -> Result<()> {
    if header.epoch == epoch && header.num_tokens <= ep.config.num_max_tokens_per_rank as u64 {
        return Ok(());
    }
    let num_max = ep.config.num_max_tokens_per_rank;
    let expected = format!("epoch {epoch} and at most {num_max} tokens");
    let got = format!("epoch {}, {} tokens from rank {src}", header.epoch, header.num_tokens);
    Err(Error::value(OP, "mailbox", expected, got))
}

pub(super) fn recv(args: DispatchRecvArgs<'_, Cpu>) -> Result<()> {
    let DispatchRecvArgs { ep, epoch, state, rows: out } = args;
    wait_for_tokens(ep, epoch)?;
    let num_max = ep.config.num_max_tokens_per_rank;
    let layout = ep.layout.mailbox;
    let mailboxes: Vec<&[u8]> =
        (0..ep.topology.num_ranks()).map(|src| mailbox_of(ep, src)).collect();
    let source = |slot: usize| {
        let token = slot / state.num_topk;
        (mailboxes[token / num_max], token % num_max)
    };
    match out {
        TokensMut::Bf16(mut out) => {
            let stride = out.layout().strides()[0];
            let out = SharedMut::new(out.as_mut_span());
            rows::par_for_each_row(state, |row, slot| {
                let (mailbox, token) = source(slot);
                let from =
                    &mailbox[layout.values + token * layout.value_bytes..][..layout.value_bytes];
                // SAFETY: each row is visited once.
                let to = unsafe { out.slice(row * stride, ep.config.hidden) };
                bytemuck::cast_slice_mut(to).copy_from_slice(from);
            });
        }
        TokensMut::Fp8(mut out) => {
            let stride = out.values.layout().strides()[0];
            let scale_layout = out.scales.layout();
            let values = SharedMut::new(out.values.as_mut_span());
            let scales = SharedMut::new(out.scales.as_mut_span());
            rows::par_for_each_row(state, |row, slot| {
                let (mailbox, token) = source(slot);
                let from =
                    &mailbox[layout.values + token * layout.value_bytes..][..layout.value_bytes];
                let from_scales: &[f32] = bytemuck::cast_slice(
                    &mailbox[layout.scales + token * layout.scale_bytes..][..layout.scale_bytes],
                );
                // SAFETY: each row is visited once, and `scale_layout` maps rows to distinct places.
                unsafe {
                    let to = values.slice(row * stride, ep.config.hidden);
                    bytemuck::cast_slice_mut(to).copy_from_slice(from);
                    for (block, &scale) in from_scales.iter().enumerate() {
                        scales.write(scale_layout.offset([row, block]), scale);
                    }
                }
            });
        }
    }
    for peer in ep.active_ranks() {
        ep.symmetric.signal(OP, "recv", peer, Signal::DispatchRead.idx(), epoch)?;
    }
    Ok(())
}

fn wait_for_tokens(ep: &EpBuffer<Cpu>, epoch: u64) -> Result<()> {
    ep.active_ranks().try_for_each(|src| {
        ep.symmetric.wait_signal(OP, "recv: tokens", src, Signal::Dispatched.idx(), epoch)
    })
}

/// The mailbox with `src`'s tokens: in `src`'s memory on the same node, else where they were sent to.
fn mailbox_of(ep: &EpBuffer<Cpu>, src: usize) -> &[u8] {
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
