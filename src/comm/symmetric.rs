//! Symmetric buffers: the same layout on every rank, written by peers.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::engine::MAX_PAYLOAD_BYTES;
use super::rank::Rank;
use super::segment::{PAGE_BYTES, Segment};
use super::transport::{Header, Kind};
use super::wait::Wait;
use crate::error::{Error, Result};

/// Bytes on their way to one rank of another node before a put waits for room.
const MAX_OUTSTANDING_BYTES: usize = 32 << 20;

/// Extents of a symmetric buffer: data first, then the signal words from the next page on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub num_bytes: usize,
    pub num_signals: usize,
    pub num_ranks: usize,
}

impl Layout {
    /// Bytes of a segment with this layout; `None` if they do not fit an address.
    pub(super) fn segment_bytes(&self) -> Option<usize> {
        let signal_bytes = self.num_signals.checked_mul(self.num_ranks)?.checked_mul(8)?;
        self.num_bytes.checked_next_multiple_of(PAGE_BYTES)?.checked_add(signal_bytes)
    }

    pub(super) fn data_range(&self, offset: usize, num_bytes: usize) -> Option<Range<usize>> {
        let end = offset.checked_add(num_bytes)?;
        (end <= self.num_bytes).then_some(offset..end)
    }

    /// Returns the word into which `src` signals, in a segment of this layout.
    pub(super) fn signal_word<'a>(
        &self,
        segment: &'a Segment,
        signal_idx: usize,
        src: usize,
    ) -> Option<&'a AtomicU64> {
        if signal_idx >= self.num_signals || src >= self.num_ranks {
            return None;
        }
        let offset =
            self.num_bytes.next_multiple_of(PAGE_BYTES) + (signal_idx * self.num_ranks + src) * 8;
        // SAFETY: the segment has `segment_bytes()` bytes, of which these 8 are within; they are
        // aligned, are valid as zeros, and only ever accessed as an atomic.
        Some(unsafe { &*segment.ptr().add(offset).cast::<AtomicU64>() })
    }
}

pub(super) struct Buffer {
    pub rank: Arc<Rank>,
    pub id: u64,
    pub layout: Layout,
    pub own: Arc<Segment>,
    /// Segment of each rank of the node (the own one too), `None` for other nodes.
    pub segments: Vec<Option<Arc<Segment>>>,
}

/// Memory of the same extents on every rank, which peers write into, with signal words.
///
/// Within a node peers copy directly ([`peer_ptr`](Self::peer_ptr)); [`put`](Self::put) reaches
/// every rank. A [`signal`](Self::signal) says that what was written before it is there. Signal
/// words are `u64` per (signal, source rank), start at 0 and only ever grow.
///
/// Clones name the same memory, which stays mapped until the last clone is gone; a peer holds its
/// own mapping, so a drop never takes memory from a peer that still writes.
///
/// # Examples
///
/// ```
/// use moekit::comm::{World, WorldOptions};
///
/// let sums = World::run_threads(4, WorldOptions::default(), |world| {
///     let buffer = world.alloc_symmetric(8 * world.num_ranks(), 1)?;
///     let own = world.rank_idx();
///     for dst in 0..world.num_ranks() {
///         buffer.put("example", "put", dst, 8 * own, &(own as u64).to_le_bytes())?;
///         buffer.signal("example", "signal", dst, 0, 1)?;
///     }
///     let mut sum = 0;
///     for src in 0..world.num_ranks() {
///         buffer.wait_signal("example", "signal", src, 0, 1)?;
///         // SAFETY: `src` has written these bytes, and writes them no more.
///         sum += unsafe { buffer.local_ptr().add(8 * src).cast::<u64>().read() };
///     }
///     world.close()?;
///     Ok(sum)
/// })?;
/// assert!(sums.into_iter().all(|sum| sum.is_ok_and(|sum| sum == 0 + 1 + 2 + 3)));
/// # Ok::<(), moekit::Error>(())
/// ```
#[derive(Clone)]
pub struct SymmetricBuffer {
    buffer: Arc<Buffer>,
}

impl std::fmt::Debug for SymmetricBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SymmetricBuffer")
            .field("rank_idx", &self.buffer.rank.rank_idx)
            .field("layout", &self.buffer.layout)
            .finish()
    }
}

impl SymmetricBuffer {
    pub(super) fn new(buffer: Buffer) -> Self {
        Self { buffer: Arc::new(buffer) }
    }

    /// Bytes of data on each rank.
    pub fn num_bytes(&self) -> usize {
        self.buffer.layout.num_bytes
    }

    /// Signals on each rank; each has one word per source rank.
    pub fn num_signals(&self) -> usize {
        self.buffer.layout.num_signals
    }

    /// Address of this rank's data, a multiple of 4096; zeros at first.
    pub fn local_ptr(&self) -> *mut u8 {
        self.buffer.own.ptr()
    }

    /// Address of a rank's data in this process: `Some` for the ranks of the same node (this one
    /// too), `None` for other nodes and for ranks that were masked out at the allocation.
    ///
    /// Writes through it are ordered before a later [`signal`](Self::signal) to that rank.
    pub fn peer_ptr(&self, rank_idx: usize) -> Option<*mut u8> {
        Some(self.buffer.segments.get(rank_idx)?.as_ref()?.ptr())
    }

    /// Copies `src` to `dst_offset` (bytes) of the data of rank `dst_rank_idx`, on any node.
    ///
    /// Returns when `src` may be reused. The copy is ordered before a later
    /// [`signal`](Self::signal) to the same rank. To another node it waits, bounded, for room on
    /// the way once 32 MiB are under way to that rank. To a masked-out rank it does nothing.
    ///
    /// # Errors
    ///
    /// - [`Error::Value`] unless `dst_rank_idx < num_ranks`.
    /// - [`Error::Capacity`] unless `dst_offset + src.len() <= num_bytes`.
    /// - [`Error::Timeout`], [`Error::PeerDied`] if the wait for room fails.
    pub fn put(
        &self,
        op: &'static str,
        step: &'static str,
        dst_rank_idx: usize,
        dst_offset: usize,
        src: &[u8],
    ) -> Result<()> {
        let Buffer { rank, layout, .. } = &*self.buffer;
        rank.check_peer(op, "dst_rank_idx", dst_rank_idx)?;
        if layout.data_range(dst_offset, src.len()).is_none() {
            return Err(Error::Capacity {
                op,
                arg: "dst_offset + src.len()",
                needed: dst_offset.saturating_add(src.len()),
                capacity: layout.num_bytes,
                unit: "bytes",
            });
        }
        if !rank.is_active(dst_rank_idx) {
            return Ok(());
        }
        if let Some(segment) = &self.buffer.segments[dst_rank_idx] {
            // SAFETY: the range was checked against the layout that the peer's segment has too,
            // and the segment is mapped while `self` lives. `src` may be of the same memory: `copy`
            // allows overlap. That nobody reads the range before the signal is the caller's
            // protocol.
            unsafe {
                std::ptr::copy(src.as_ptr(), segment.ptr().add(dst_offset), src.len());
            }
            return Ok(());
        }
        self.put_remote(op, step, dst_rank_idx, dst_offset, src)
    }

    fn put_remote(
        &self,
        op: &'static str,
        step: &'static str,
        dst: usize,
        dst_offset: usize,
        src: &[u8],
    ) -> Result<()> {
        for (chunk_idx, chunk) in src.chunks(MAX_PAYLOAD_BYTES).enumerate() {
            let offset = dst_offset + chunk_idx * MAX_PAYLOAD_BYTES;
            let header = Header::new(Kind::Put, self.buffer.id, offset as u64, 0);
            self.send_when_there_is_room(op, step, dst, header, chunk)?;
        }
        Ok(())
    }

    fn send_when_there_is_room(
        &self,
        op: &'static str,
        step: &'static str,
        dst: usize,
        header: Header,
        payload: &[u8],
    ) -> Result<()> {
        let rank = &self.buffer.rank;
        let has_room = || {
            let num_bytes = rank.engine().transport.num_outstanding_bytes(dst);
            u64::from(num_bytes < MAX_OUTSTANDING_BYTES)
        };
        let started = Instant::now();
        let wait = Wait { op, step, peer: dst, expected: 1, started, by_message: true };
        rank.wait(&wait, has_room)?;
        rank.engine().send(dst, header, payload);
        Ok(())
    }

    /// Publishes `value` in the word (`signal_idx`, this rank) of rank `dst_rank_idx`.
    ///
    /// Whoever sees the value there also sees this thread's earlier writes and puts to that rank.
    /// Values to one word must not fall. To another node it waits for room as
    /// [`put`](Self::put) does. To a masked-out rank it does nothing.
    ///
    /// # Errors
    ///
    /// - [`Error::Value`] unless `dst_rank_idx < num_ranks` and `signal_idx < num_signals`.
    /// - [`Error::Timeout`], [`Error::PeerDied`] if the wait for room fails.
    pub fn signal(
        &self,
        op: &'static str,
        step: &'static str,
        dst_rank_idx: usize,
        signal_idx: usize,
        value: u64,
    ) -> Result<()> {
        let Buffer { rank, layout, id, .. } = &*self.buffer;
        rank.check_peer(op, "dst_rank_idx", dst_rank_idx)?;
        self.check_signal(op, signal_idx)?;
        if !rank.is_active(dst_rank_idx) {
            return Ok(());
        }
        if let Some(segment) = &self.buffer.segments[dst_rank_idx] {
            if let Some(word) = layout.signal_word(segment, signal_idx, rank.rank_idx) {
                word.store(value, Ordering::Release);
            }
            return Ok(());
        }
        let header = Header::new(Kind::Signal, *id, signal_idx as u64, value);
        self.send_when_there_is_room(op, step, dst_rank_idx, header, &[])?;
        rank.progress();
        Ok(())
    }

    /// Waits until the word (`signal_idx`, `src_rank_idx`) in the own memory is at least
    /// `expected`; what that rank wrote before it signalled is visible then.
    ///
    /// Messages from other nodes are received meanwhile. A masked-out rank is not waited for.
    ///
    /// # Errors
    ///
    /// - [`Error::Value`] unless `src_rank_idx < num_ranks` and `signal_idx < num_signals`.
    /// - [`Error::PeerDied`] if any active rank ended without closing its world; it names that one.
    /// - [`Error::Timeout`] after the world's timeout; it names the rank that holds everyone up,
    ///   which need not be the one waited for here, and the step that it did not reach.
    pub fn wait_signal(
        &self,
        op: &'static str,
        step: &'static str,
        src_rank_idx: usize,
        signal_idx: usize,
        expected: u64,
    ) -> Result<()> {
        let rank = &self.buffer.rank;
        rank.check_peer(op, "src_rank_idx", src_rank_idx)?;
        self.check_signal(op, signal_idx)?;
        if !rank.is_active(src_rank_idx) {
            return Ok(());
        }
        let by_message = !rank.is_local(src_rank_idx);
        let started = Instant::now();
        let wait = Wait { op, step, peer: src_rank_idx, expected, started, by_message };
        rank.wait(&wait, || self.read_signal(src_rank_idx, signal_idx))
    }

    /// Returns the word (`signal_idx`, `src_rank_idx`) in the own memory (acquire); 0 for an index
    /// out of range.
    ///
    /// It receives no messages: a poll for a rank of another node needs
    /// [`wait_signal`](Self::wait_signal).
    pub fn read_signal(&self, src_rank_idx: usize, signal_idx: usize) -> u64 {
        let Buffer { layout, own, .. } = &*self.buffer;
        layout
            .signal_word(own, signal_idx, src_rank_idx)
            .map_or(0, |word| word.load(Ordering::Acquire))
    }

    fn check_signal(&self, op: &'static str, signal_idx: usize) -> Result<()> {
        let num_signals = self.num_signals();
        if signal_idx < num_signals {
            return Ok(());
        }
        Err(Error::value(op, "signal_idx", format!("below {num_signals}"), signal_idx))
    }
}
