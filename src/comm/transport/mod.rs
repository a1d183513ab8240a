//! Frames between ranks that share no memory (and, in set-up, between all ranks).

mod channel;
#[cfg(feature = "mpi")]
mod mpi;
mod pool;

use std::time::Duration;

use bytemuck::{Pod, Zeroable};

pub(super) use channel::channels;
#[cfg(feature = "mpi")]
pub(super) use mpi::MpiTransport;
pub(super) use pool::FramePool;

/// Carries frames between ranks: in order per pair, never blocking.
pub(super) trait Transport: Send {
    /// Takes `frame` for rank `dst`. One for a rank that is gone vanishes: who waits for that rank
    /// hears of its end.
    fn send(&mut self, dst: usize, frame: Vec<u8>);

    /// Returns what arrived next.
    fn receive(&mut self) -> Option<Arrival>;

    /// Bytes sent to `dst` that still occupy memory on their way.
    fn num_outstanding_bytes(&mut self, dst: usize) -> usize;

    /// Frames to fill for `send`, and where received frames go back to.
    fn pool(&mut self) -> &mut FramePool;

    /// Lets sent frames leave, for at most `limit`; what is left then is abandoned.
    fn flush(&mut self, limit: Duration);

    /// Ends the transport: with all ranks together if `clean`, else without waiting for anyone.
    fn finish(&mut self, clean: bool);
}

/// What comes out of a transport.
pub(super) enum Arrival {
    /// A frame that `src` sent.
    Frame { src: usize, frame: Vec<u8> },
    /// The transport found that `src` has ended; said once. Only processes can be lost.
    #[cfg_attr(not(feature = "mpi"), expect(dead_code))]
    Lost { src: usize },
}

/// What a frame asks its receiver to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(super) enum Kind {
    /// Copy the payload to `offset` of buffer `id`.
    Put = 1,
    /// Set signal word `offset` of buffer `id` to `value`.
    Signal = 2,
    /// A part of the sender's contribution to all-gather `id`, `value` bytes in total.
    Gather = 3,
    /// The sender entered barrier `id`.
    Barrier = 4,
    /// The sender's status is `value`.
    Status = 5,
    /// Answer with your `WaitState` when you wait.
    WaitQuery = 6,
    /// The payload is the sender's `WaitRecord`.
    WaitState = 7,
    /// The payload is an `AbortRecord`.
    Abort = 8,
}

impl Kind {
    pub(super) fn from_u64(value: u64) -> Option<Self> {
        use Kind::{Abort, Barrier, Gather, Put, Signal, Status, WaitQuery, WaitState};
        [Put, Signal, Gather, Barrier, Status, WaitQuery, WaitState, Abort]
            .into_iter()
            .find(|&kind| kind as u64 == value)
    }
}

/// Start of every frame; the payload follows.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Header {
    pub kind: u64,
    pub id: u64,
    pub offset: u64,
    pub value: u64,
}

impl Header {
    pub(super) const NUM_BYTES: usize = size_of::<Self>();

    pub(super) fn new(kind: Kind, id: u64, offset: u64, value: u64) -> Self {
        Self { kind: kind as u64, id, offset, value }
    }

    /// Splits a frame; `None` if it is shorter than a header.
    pub(super) fn split(frame: &[u8]) -> Option<(Self, &[u8])> {
        let (header, payload) = frame.split_at_checked(Self::NUM_BYTES)?;
        Some((bytemuck::pod_read_unaligned(header), payload))
    }
}
