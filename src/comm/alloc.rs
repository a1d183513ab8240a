//! The collective allocation of a symmetric buffer.

use std::sync::Arc;

use bytemuck::{Pod, Zeroable};

use super::rank::{Rank, Ticket};
use super::segment::Segment;
use super::symmetric::{Buffer, Layout};
use crate::error::{Error, Result};

const OP: &str = "alloc_symmetric";

/// What a rank tells the others about its part of a buffer; a reason follows if it failed.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Offer {
    num_bytes: u64,
    num_signals: u64,
    /// 1 if the rank has its segment.
    is_ready: u64,
    ticket: Ticket,
}

pub(super) fn alloc_symmetric(
    rank: &Arc<Rank>,
    num_bytes: usize,
    num_signals: usize,
) -> Result<Buffer> {
    let layout = Layout { num_bytes, num_signals, num_ranks: rank.num_ranks() };
    // All active ranks count their collectives alike, so the key names the buffer.
    let id = rank.next_collective_key();
    let own = own_segment(rank, &layout).and_then(|own| {
        let ticket = rank.neighbours.offer(id, &own)?;
        Ok((own, ticket))
    });

    let offers = exchange_offers(rank, &layout, own.as_ref().map(|(_, ticket)| *ticket))?;
    check_extents(&offers)?;
    let (own, _) = own?;
    check_ready(&layout, &offers)?;

    // Registered before the second exchange: after it, peers may put.
    rank.engine().register(id, &own, layout);
    let segments = attach_peers(rank, id, &own, &offers);
    let problem = segments.as_ref().err().map(ToString::to_string).unwrap_or_default();
    let problems = rank.all_gather(OP, problem.as_bytes())?;
    let segments = segments?;
    if let Some(peer) = problems.iter().position(|problem| !problem.is_empty()) {
        let reason = format!("on rank {peer}: {}", String::from_utf8_lossy(&problems[peer]));
        return Err(Error::Unavailable { op: OP, what: "the peers' memory", reason });
    }
    Ok(Buffer { rank: Arc::clone(rank), id, layout, own, segments })
}

fn own_segment(rank: &Rank, layout: &Layout) -> Result<Arc<Segment>> {
    let num_bytes = layout.segment_bytes().ok_or_else(|| Error::OutOfMemory {
        op: OP,
        arg: "num_bytes",
        bytes: layout.num_bytes,
        reason: "more than the address space".into(),
    })?;
    rank.neighbours.allocate(OP, num_bytes).map(Arc::new)
}

fn exchange_offers(
    rank: &Rank,
    layout: &Layout,
    ticket: Result<Ticket, &Error>,
) -> Result<Vec<Vec<u8>>> {
    let offer = Offer {
        num_bytes: layout.num_bytes as u64,
        num_signals: layout.num_signals as u64,
        is_ready: u64::from(ticket.is_ok()),
        ticket: ticket.unwrap_or_default(),
    };
    let mut message = bytemuck::bytes_of(&offer).to_vec();
    if let Err(error) = ticket {
        message.extend_from_slice(error.to_string().as_bytes());
    }
    rank.all_gather(OP, &message)
}

/// Splits a message into the offer and the reason; `None` for a masked-out rank's empty one.
fn parse_offer(message: &[u8]) -> Option<(Offer, String)> {
    let (offer, reason) = message.split_at_checked(size_of::<Offer>())?;
    Some((bytemuck::pod_read_unaligned(offer), String::from_utf8_lossy(reason).into_owned()))
}

/// Every rank must want the same extents; the lowest deviant is named.
fn check_extents(offers: &[Vec<u8>]) -> Result<()> {
    let mut reference: Option<(usize, Offer)> = None;
    for (peer, message) in offers.iter().enumerate() {
        let Some((offer, _)) = parse_offer(message) else { continue };
        let (first, wanted) = *reference.get_or_insert((peer, offer));
        for (arg, expected, got) in [
            ("num_bytes", wanted.num_bytes, offer.num_bytes),
            ("num_signals", wanted.num_signals, offer.num_signals),
        ] {
            if got != expected {
                let expected = format!("{expected} as on rank {first}");
                return Err(Error::value(OP, arg, expected, format!("{got} on rank {peer}")));
            }
        }
    }
    Ok(())
}

/// Every rank must have its segment.
fn check_ready(layout: &Layout, offers: &[Vec<u8>]) -> Result<()> {
    for (peer, message) in offers.iter().enumerate() {
        if let Some((Offer { is_ready: 0, .. }, reason)) = parse_offer(message) {
            return Err(Error::OutOfMemory {
                op: OP,
                arg: "num_bytes",
                bytes: layout.num_bytes,
                reason: format!("on rank {peer}: {reason}"),
            });
        }
    }
    Ok(())
}

fn attach_peers(
    rank: &Rank,
    id: u64,
    own: &Arc<Segment>,
    offers: &[Vec<u8>],
) -> Result<Vec<Option<Arc<Segment>>>> {
    let attach = |(peer, message): (usize, &Vec<u8>)| {
        if peer == rank.rank_idx {
            return Ok(Some(Arc::clone(own)));
        }
        match parse_offer(message) {
            Some((offer, _)) if rank.is_local(peer) => {
                rank.neighbours.attach(id, peer, offer.ticket).map(Some)
            }
            _ => Ok(None),
        }
    };
    offers.iter().enumerate().map(attach).collect()
}
