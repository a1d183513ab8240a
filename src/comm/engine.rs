//! Messages of one rank: what it sends, and what arriving frames do.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use super::control::{AbortRecord, Status, WaitRecord};
use super::rank::Rank;
use super::segment::Segment;
use super::symmetric::Layout;
use super::transport::{Arrival, Header, Kind, Transport};

/// Payload of one frame at most; longer data travels in several.
pub(super) const MAX_PAYLOAD_BYTES: usize = 1 << 20;

/// One rank's contribution to an all-gather, as far as it arrived.
struct Contribution {
    key: u64,
    num_bytes: usize,
    bytes: Vec<u8>,
}

/// A rank's end of the transport, with the state that arriving frames change.
pub(super) struct Engine {
    pub transport: Box<dyn Transport>,
    contributions: Vec<VecDeque<Contribution>>,
    /// Key of the last all-gather to which each rank's contribution is complete.
    gathered: Arc<[AtomicU64]>,
    buffers: HashMap<u64, (Weak<Segment>, Layout)>,
}

impl Engine {
    pub(super) fn new(transport: Box<dyn Transport>, num_ranks: usize) -> Self {
        Self {
            transport,
            contributions: (0..num_ranks).map(|_| VecDeque::new()).collect(),
            gathered: (0..num_ranks).map(|_| AtomicU64::new(0)).collect(),
            buffers: HashMap::new(),
        }
    }

    pub(super) fn gathered(&self) -> Arc<[AtomicU64]> {
        Arc::clone(&self.gathered)
    }

    /// Makes a buffer known to arriving puts and signals, for as long as its segment lives.
    pub(super) fn register(&mut self, buffer_id: u64, segment: &Arc<Segment>, layout: Layout) {
        self.buffers.retain(|_, (segment, _)| segment.strong_count() > 0);
        self.buffers.insert(buffer_id, (Arc::downgrade(segment), layout));
    }

    pub(super) fn send(&mut self, dst: usize, header: Header, payload: &[u8]) {
        let mut frame = self.transport.pool().take();
        frame.extend_from_slice(bytemuck::bytes_of(&header));
        frame.extend_from_slice(payload);
        self.transport.send(dst, frame);
    }

    /// Removes the contribution of `src` to all-gather `key`, and any older one; `None` if `src`
    /// made none to this one.
    pub(super) fn take_contribution(&mut self, src: usize, key: u64) -> Option<Vec<u8>> {
        let queue = &mut self.contributions[src];
        while queue.front().is_some_and(|front| front.key < key) {
            queue.pop_front();
        }
        queue.pop_front_if(|front| front.key == key).map(|front| front.bytes)
    }

    /// Handles the frames that have arrived, a bounded number of them; returns whether any had.
    pub(super) fn progress(&mut self, rank: &Rank) -> bool {
        for num_handled in 0..64 {
            match self.transport.receive() {
                None => return num_handled > 0,
                Some(Arrival::Lost { src }) => rank.lost(src),
                Some(Arrival::Frame { src, frame }) => {
                    match Header::split(&frame) {
                        Some((header, payload)) => self.handle(rank, src, &header, payload),
                        None => tracing::warn!(src, "dropped a frame shorter than its header"),
                    }
                    self.transport.pool().put_back(frame);
                }
            }
        }
        true
    }

    fn handle(&mut self, rank: &Rank, src: usize, header: &Header, payload: &[u8]) {
        match Kind::from_u64(header.kind) {
            Some(Kind::Put) => self.handle_put(src, header, payload),
            Some(Kind::Signal) => self.handle_signal(src, header),
            Some(Kind::Gather) => self.handle_gather(src, header, payload),
            Some(Kind::Barrier) => {
                rank.control(src).barrier_key.fetch_max(header.id, Ordering::Release);
            }
            Some(Kind::Status) => {
                rank.control(src).set_status(Status::from_u32(header.value as u32));
            }
            Some(Kind::WaitQuery) => rank.asked_by(src),
            Some(Kind::WaitState) if payload.len() == size_of::<WaitRecord>() => {
                rank.heard_wait(src, &bytemuck::pod_read_unaligned(payload));
            }
            Some(Kind::Abort) if payload.len() == size_of::<AbortRecord>() => {
                rank.heard_abort(&bytemuck::pod_read_unaligned(payload));
            }
            _ => tracing::warn!(src, ?header, "dropped a frame of unknown form"),
        }
    }

    fn handle_put(&self, src: usize, header: &Header, payload: &[u8]) {
        // A buffer that this rank dropped wants its bytes no longer.
        let Some((segment, layout)) = self.live_buffer(header.id) else { return };
        match layout.data_range(header.offset as usize, payload.len()) {
            // SAFETY: `data_range` checked the range against the segment, which `segment` keeps
            // mapped. That nobody reads the range before the signal is the caller's protocol, as
            // for a put within a node.
            Some(range) => unsafe {
                let dst = segment.ptr().add(range.start);
                std::ptr::copy_nonoverlapping(payload.as_ptr(), dst, payload.len());
            },
            None => tracing::warn!(src, ?header, "dropped a put beyond its buffer"),
        }
    }

    fn handle_signal(&self, src: usize, header: &Header) {
        let Some((segment, layout)) = self.live_buffer(header.id) else { return };
        match layout.signal_word(&segment, header.offset as usize, src) {
            Some(word) => word.store(header.value, Ordering::Release),
            None => tracing::warn!(src, ?header, "dropped a signal beyond its buffer"),
        }
    }

    fn live_buffer(&self, buffer_id: u64) -> Option<(Arc<Segment>, Layout)> {
        let (segment, layout) = self.buffers.get(&buffer_id)?;
        Some((segment.upgrade()?, *layout))
    }

    fn handle_gather(&mut self, src: usize, header: &Header, payload: &[u8]) {
        let queue = &mut self.contributions[src];
        if queue.back().is_none_or(|back| back.key != header.id) {
            let num_bytes = header.value as usize;
            queue.push_back(Contribution { key: header.id, num_bytes, bytes: Vec::new() });
        }
        let Some(back) = queue.back_mut() else { return };
        back.bytes.extend_from_slice(payload);
        if back.bytes.len() == back.num_bytes {
            self.gathered[src].store(header.id, Ordering::Release);
        }
    }
}
