//! What one rank keeps: its place, the pages of its peers, its messages.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::control::{AbortRecord, ControlPage, Status, WaitRecord};
use super::engine::Engine;
use super::segment::Segment;
use super::transport::{Header, Kind};
use super::world::WorldOptions;
use crate::error::{Error, Result};

/// Names a segment to the ranks of the same node.
pub(super) type Ticket = [u64; 4];

/// How the ranks of one node share memory and notice each other's end.
pub(super) trait Neighbours: Send + Sync {
    /// Allocates a segment of which `offer` can make a ticket.
    fn allocate(&self, op: &'static str, num_bytes: usize) -> Result<Segment>;

    /// Offers this rank's segment of buffer `buffer_id` to the node.
    fn offer(&self, buffer_id: u64, segment: &Arc<Segment>) -> Result<Ticket>;

    /// Maps the segment that rank `src` offered under `ticket`.
    fn attach(&self, buffer_id: u64, src: usize, ticket: Ticket) -> Result<Arc<Segment>>;

    /// Returns a rank among `ranks` whose process has ended.
    fn find_ended(&self, ranks: &mut dyn Iterator<Item = usize>) -> Option<usize>;
}

/// What a rank is made of.
pub(super) struct RankParts {
    pub rank_idx: usize,
    pub node_of: Vec<usize>,
    pub options: WorldOptions,
    /// Control page of each rank: shared on the own node, a private mirror for others.
    pub controls: Vec<Arc<Segment>>,
    pub neighbours: Box<dyn Neighbours>,
    pub engine: Engine,
}

/// One rank's state, shared by its world and its buffers.
pub(super) struct Rank {
    pub rank_idx: usize,
    pub node_of: Vec<usize>,
    pub options: WorldOptions,
    pub neighbours: Box<dyn Neighbours>,
    /// Key of the last all-gather to which each rank's contribution is complete.
    pub gathered: Arc<[AtomicU64]>,
    controls: Vec<Arc<Segment>>,
    engine: Mutex<Engine>,
    active: Vec<AtomicBool>,
    /// How often the rank mask was set, in the upper half, and the collectives since.
    collective_key: Mutex<u64>,
    /// Ranks of other nodes that want to know what this rank waits for.
    askers: Vec<AtomicBool>,
    /// When each rank of another node last told what it waits for, in microseconds of `clock`.
    heard_us: Vec<AtomicU64>,
    /// `seq` of the abort record that this rank last told other nodes.
    abort_seq_told: AtomicU64,
    clock: Instant,
}

impl Rank {
    pub(super) fn new(parts: RankParts) -> Self {
        let RankParts { rank_idx, node_of, options, controls, neighbours, engine } = parts;
        let num_ranks = node_of.len();
        Self {
            rank_idx,
            options,
            neighbours,
            gathered: engine.gathered(),
            controls,
            engine: Mutex::new(engine),
            active: (0..num_ranks).map(|_| AtomicBool::new(true)).collect(),
            collective_key: Mutex::new(0),
            askers: (0..num_ranks).map(|_| AtomicBool::new(false)).collect(),
            heard_us: (0..num_ranks).map(|_| AtomicU64::new(0)).collect(),
            abort_seq_told: AtomicU64::new(0),
            clock: Instant::now(),
            node_of,
        }
    }

    /// Takes the messages out of a rank that only served to find out who is where.
    #[cfg(feature = "mpi")]
    pub(super) fn into_engine(self) -> Engine {
        self.engine.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn num_ranks(&self) -> usize {
        self.node_of.len()
    }

    pub(super) fn is_local(&self, rank_idx: usize) -> bool {
        self.node_of.get(rank_idx) == Some(&self.node_of[self.rank_idx])
    }

    pub(super) fn spans_nodes(&self) -> bool {
        self.node_of.iter().any(|node| *node != self.node_of[0])
    }

    pub(super) fn is_active(&self, rank_idx: usize) -> bool {
        self.active[rank_idx].load(Ordering::Acquire)
    }

    pub(super) fn set_active(&self, active: &[bool]) {
        for (slot, &active) in self.active.iter().zip(active) {
            slot.store(active, Ordering::Release);
        }
        // A key of a new mask exceeds all keys before it, so survivors of a failure agree again
        // however many collectives each of them had begun.
        let mut key = lock(&self.collective_key);
        *key = ((*key >> 32) + 1) << 32;
    }

    /// Returns the key of the next collective operation; all active ranks count alike.
    pub(super) fn next_collective_key(&self) -> u64 {
        let mut key = lock(&self.collective_key);
        *key += 1;
        *key
    }

    /// The other ranks that count, in ascending order.
    pub(super) fn active_peers(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.num_ranks()).filter(|&peer| peer != self.rank_idx && self.is_active(peer))
    }

    fn remote_peers(&self) -> impl Iterator<Item = usize> + '_ {
        self.active_peers().filter(|&peer| !self.is_local(peer))
    }

    pub(super) fn control(&self, rank_idx: usize) -> &ControlPage {
        // SAFETY: every control segment holds a page-aligned `ControlPage`, which is valid as
        // zeros, is only accessed through atomics, and lives as long as `self`.
        unsafe { &*self.controls[rank_idx].ptr().cast::<ControlPage>() }
    }

    pub(super) fn own_status(&self) -> Status {
        self.control(self.rank_idx).status()
    }

    /// The page that carries the node's abort record.
    pub(super) fn node_control(&self) -> &ControlPage {
        let node = self.node_of[self.rank_idx];
        let first = self.node_of.iter().position(|&of| of == node);
        self.control(first.unwrap_or(self.rank_idx))
    }

    pub(super) fn engine(&self) -> MutexGuard<'_, Engine> {
        lock(&self.engine)
    }

    /// Handles arrived frames, unless another thread of this rank is at it; returns whether there
    /// were any.
    pub(super) fn progress(&self) -> bool {
        match self.engine.try_lock() {
            Ok(mut engine) => engine.progress(self),
            Err(_) => false,
        }
    }

    pub(super) fn check_peer(
        &self,
        op: &'static str,
        arg: &'static str,
        peer: usize,
    ) -> Result<()> {
        if peer < self.num_ranks() {
            return Ok(());
        }
        Err(Error::value(op, arg, format!("a rank below {}", self.num_ranks()), peer))
    }

    /// Sends a control message to every active rank of other nodes.
    pub(super) fn tell_other_nodes(&self, header: Header, payload: &[u8]) {
        let mut engine = self.engine();
        for peer in self.remote_peers() {
            engine.send(peer, header, payload);
        }
    }

    /// Publishes this rank's end, and gives the message time to leave.
    pub(super) fn leave(&self, status: Status) {
        self.control(self.rank_idx).set_status(status);
        if self.spans_nodes() {
            self.tell_other_nodes(Header::new(Kind::Status, 0, 0, status as u64), &[]);
            self.engine().transport.flush(FLUSH_LIMIT);
        }
    }

    /// Notes that the transport lost a rank. One of this node shows its end itself, and better.
    pub(super) fn lost(&self, src: usize) {
        let control = self.control(src);
        if !self.is_local(src) && control.status() == Status::Running {
            control.set_status(Status::Lost);
        }
    }

    pub(super) fn asked_by(&self, peer: usize) {
        self.askers[peer].store(true, Ordering::Relaxed);
    }

    /// Tells those who asked what this rank waits for.
    pub(super) fn answer_askers(&self, wait: &WaitRecord) {
        for peer in self.remote_peers() {
            if self.askers[peer].swap(false, Ordering::Relaxed) {
                let header = Header::new(Kind::WaitState, 0, 0, 0);
                self.engine().send(peer, header, bytemuck::bytes_of(wait));
            }
        }
    }

    pub(super) fn heard_wait(&self, src: usize, wait: &WaitRecord) {
        let slot = &self.control(src).wait;
        if slot.replace(slot.seq(), wait) {
            self.heard_us[src].store(self.clock_us(), Ordering::Relaxed);
        }
    }

    /// Returns what `peer` waits for, if it does and that is known to be so now.
    pub(super) fn wait_of(&self, peer: usize) -> Option<WaitRecord> {
        let (_, wait) = self.control(peer).wait.read::<WaitRecord>()?;
        let is_fresh = self.is_local(peer) || {
            let age_us = self.clock_us() - self.heard_us[peer].load(Ordering::Relaxed);
            u128::from(age_us) <= (self.options.timeout / 4).as_micros()
        };
        (is_fresh && (wait.peer as usize) < self.num_ranks()).then_some(wait)
    }

    pub(super) fn heard_abort(&self, abort: &AbortRecord) {
        if self.counts(abort) {
            self.publish_abort(abort);
        }
    }

    /// Returns the record that stopped the world, if one did.
    pub(super) fn abort(&self) -> Option<AbortRecord> {
        let (_, record) = self.node_control().abort.read::<AbortRecord>()?;
        self.counts(&record).then_some(record)
    }

    /// Publishes `record` on the node unless another came first; returns the one that counts.
    pub(super) fn publish_abort(&self, record: &AbortRecord) -> AbortRecord {
        let slot = &self.node_control().abort;
        // A writer that was killed half-way leaves the slot unstable for ever; do not wait for it.
        for _ in 0..1000 {
            match slot.read::<AbortRecord>() {
                Some((_, present)) if self.counts(&present) => return present,
                Some((seq, _)) if slot.replace(seq, record) => return *record,
                None if slot.replace(0, record) => return *record,
                _ => std::thread::yield_now(),
            }
        }
        *record
    }

    /// Tells other nodes about the node's abort record, once.
    pub(super) fn spread_abort(&self, record: &AbortRecord) {
        let seq = self.node_control().abort.seq();
        if self.spans_nodes() && self.abort_seq_told.swap(seq, Ordering::Relaxed) != seq {
            let header = Header::new(Kind::Abort, 0, 0, 0);
            self.tell_other_nodes(header, bytemuck::bytes_of(record));
            self.engine().transport.flush(FLUSH_LIMIT);
        }
    }

    /// An abort in which a masked-out rank is the culprit or the reporter is of no concern.
    fn counts(&self, record: &AbortRecord) -> bool {
        let is_active =
            |rank: u64| (rank as usize) < self.num_ranks() && self.is_active(rank as usize);
        is_active(record.culprit) && is_active(record.reporter)
    }

    fn clock_us(&self) -> u64 {
        self.clock.elapsed().as_micros() as u64
    }
}

/// How long a failing rank stays to let its last messages leave.
const FLUSH_LIMIT: Duration = Duration::from_millis(50);

/// A panic elsewhere leaves counters and queues usable: ignore the poison.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
