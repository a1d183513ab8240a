//! The one wait: bounded, cheap when short, and able to say why it ended.

use std::time::{Duration, Instant};

use super::control::{WaitRecord, pack_text};
use super::rank::Rank;
use super::transport::{Header, Kind};
use crate::error::Result;

/// What a rank waits for, and since when.
#[derive(Clone, Copy)]
pub(super) struct Wait {
    pub op: &'static str,
    pub step: &'static str,
    pub peer: usize,
    pub expected: u64,
    pub started: Instant,
    /// Whether frames can end this wait, so that they must be received meanwhile.
    pub by_message: bool,
}

impl Wait {
    pub(super) fn record(&self, got: u64) -> WaitRecord {
        WaitRecord {
            peer: self.peer as u64,
            expected: self.expected,
            got,
            op: pack_text(self.op),
            step: pack_text(self.step),
        }
    }
}

/// Spins before the first yield: about a cross-core round trip.
const NUM_SPINS: u32 = 64;
/// After this a wait looks for failures, and sleeps between looks. Ranks outnumber cores, so the
/// yields before it hand the core to the rank that is waited for.
const EAGER: Duration = Duration::from_micros(200);
/// The same while frames come in: a transport moves a large one in many small steps, each of which
/// needs a call.
const EAGER_FOR_FRAMES: Duration = Duration::from_millis(2);
const NAP: Duration = Duration::from_micros(50);
/// Looking for ended processes costs a system call.
const LIVENESS_INTERVAL: Duration = Duration::from_millis(2);

impl Rank {
    /// Waits until `poll` returns at least `wait.expected`.
    ///
    /// Ends with the error of whoever failed first if a rank fails, and with the name of the rank
    /// that holds everyone up if the timeout runs out.
    pub(super) fn wait(&self, wait: &Wait, mut poll: impl FnMut() -> u64) -> Result<()> {
        if poll() >= wait.expected {
            return Ok(());
        }
        for _ in 0..NUM_SPINS {
            std::hint::spin_loop();
            if poll() >= wait.expected {
                return Ok(());
            }
        }
        // A long wait also moves frames that this rank sent and that others wait for.
        let needs_frames = wait.by_message || self.spans_nodes();
        let eager = if needs_frames { EAGER_FOR_FRAMES } else { EAGER };
        let mut watch: Option<Watch> = None;
        let mut last_move = Instant::now();
        let outcome = loop {
            if (needs_frames || watch.is_some()) && self.progress() {
                last_move = Instant::now();
            }
            let got = poll();
            if got >= wait.expected || !self.is_active(wait.peer) {
                break Ok(());
            }
            let is_eager = last_move.elapsed() < eager;
            if !is_eager || watch.is_some() {
                let watch = watch.get_or_insert_with(|| Watch::new(self, wait));
                if let Err(error) = self.look_for_failures(wait, watch, got, &mut poll) {
                    break Err(error);
                }
            }
            if is_eager {
                std::thread::yield_now();
            } else {
                std::thread::sleep(NAP);
            }
        };
        if watch.is_some() {
            let slot = &self.control(self.rank_idx).wait;
            slot.replace(slot.seq(), &WaitRecord::NONE);
        }
        outcome
    }

    fn look_for_failures(
        &self,
        wait: &Wait,
        watch: &mut Watch,
        got: u64,
        poll: &mut impl FnMut() -> u64,
    ) -> Result<()> {
        if let Some(abort) = self.abort() {
            return Err(self.adopt(&abort));
        }
        let record = wait.record(got);
        self.show_wait(watch, &record);
        self.answer_askers(&record);

        let now = Instant::now();
        let look_for_ended = now >= watch.next_liveness;
        if look_for_ended {
            watch.next_liveness = now + LIVENESS_INTERVAL;
        }
        if let Some((dead, cause)) = self.find_dead(wait.peer, look_for_ended) {
            // What the peer did last may have become visible just before its end.
            if poll() >= wait.expected {
                return Ok(());
            }
            return Err(self.blame_dead(wait, got, dead, cause));
        }
        if now >= watch.next_query {
            watch.next_query = now + self.options.timeout / 16;
            if self.spans_nodes() {
                self.tell_other_nodes(Header::new(Kind::WaitQuery, 0, 0, 0), &[]);
            }
        }
        if wait.started.elapsed() >= self.options.timeout {
            return Err(self.blame_late(wait, got));
        }
        Ok(())
    }

    /// Publishes what this rank waits for, unless the page shows it already.
    fn show_wait(&self, watch: &mut Watch, record: &WaitRecord) {
        let slot = &self.control(self.rank_idx).wait;
        // Another waiting thread of this rank may have replaced or ended the record.
        if watch.shown_seq != slot.seq() && slot.replace(slot.seq(), record) {
            watch.shown_seq = slot.seq();
        }
    }
}

/// State of a wait that has become long.
struct Watch {
    /// `seq` of the wait slot after this wait was published.
    shown_seq: u64,
    next_liveness: Instant,
    next_query: Instant,
}

impl Watch {
    fn new(rank: &Rank, wait: &Wait) -> Self {
        let timeout = rank.options.timeout;
        Self {
            // Odd: no stable `seq` equals it.
            shown_seq: 1,
            next_liveness: Instant::now(),
            // Sooner where the clock does not reach that far.
            next_query: wait.started.checked_add(timeout / 2).unwrap_or(wait.started),
        }
    }
}
