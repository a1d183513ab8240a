//! Whom to name when a wait fails.

use std::time::Duration;

use super::control::{AbortRecord, Status, WaitRecord, pack_text, unpack_text};
use super::rank::Rank;
use super::wait::Wait;
use crate::error::Error;

impl Rank {
    /// Returns a dead rank and the cause; the one waited for also if it closed its world.
    pub(super) fn find_dead(
        &self,
        awaited: usize,
        look_for_ended: bool,
    ) -> Option<(usize, &'static str)> {
        let by_status = self
            .active_peers()
            .find_map(|peer| Some((peer, self.control(peer).status().cause_of_death()?)));
        if by_status.is_some() {
            return by_status;
        }
        if awaited != self.rank_idx && self.control(awaited).status() == Status::Closed {
            return Some((awaited, "it closed its world before"));
        }
        if !look_for_ended {
            return None;
        }
        let mut running = self
            .active_peers()
            .filter(|&peer| self.is_local(peer) && self.control(peer).status() == Status::Running);
        let ended = self.neighbours.find_ended(&mut running)?;
        // Its last words come before its end: look again.
        let cause = match self.control(ended).status() {
            Status::Closed => return None,
            status => status.cause_of_death(),
        };
        Some((ended, cause.unwrap_or("its process ended without closing its world")))
    }

    /// Publishes that `dead` died while this rank was in `wait`.
    pub(super) fn blame_dead(&self, wait: &Wait, got: u64, dead: usize, cause: &str) -> Error {
        let record = AbortRecord {
            died: 1,
            culprit: dead as u64,
            cause: pack_text(cause),
            ..self.abort_record(&wait.record(got), wait)
        };
        self.fail(&record)
    }

    /// Publishes who holds everyone up: the end of the chain of waits that starts at `wait`.
    pub(super) fn blame_late(&self, wait: &Wait, got: u64) -> Error {
        let link = self.last_link(wait.record(got));
        self.fail(&self.abort_record(&link, wait))
    }

    /// Returns the error of a record that another rank published, after spreading it.
    pub(super) fn adopt(&self, record: &AbortRecord) -> Error {
        self.spread_abort(record);
        error_of(record)
    }

    fn fail(&self, record: &AbortRecord) -> Error {
        let record = self.publish_abort(record);
        self.adopt(&record)
    }

    fn abort_record(&self, link: &WaitRecord, wait: &Wait) -> AbortRecord {
        AbortRecord {
            died: 0,
            culprit: link.peer,
            reporter: self.rank_idx as u64,
            expected: link.expected,
            got: link.got,
            waited_us: wait.started.elapsed().as_micros() as u64,
            op: link.op,
            step: link.step,
            cause: [0; 160],
        }
    }

    /// Follows "waits for" from rank to rank, to the last wait, whose peer waits for nobody.
    ///
    /// In a circle all ranks are equal; the wait for the lowest of its ranks is named, so that
    /// every rank names the same.
    fn last_link(&self, first: WaitRecord) -> WaitRecord {
        let mut links = vec![first];
        loop {
            let last = links[links.len() - 1];
            if last.peer == self.rank_idx as u64 {
                return lowest_peer(&links);
            }
            let Some(next) = self.wait_of(last.peer as usize) else { return last };
            if let Some(start) = links.iter().position(|link| link.peer == next.peer) {
                // `links[start]` leads into the circle; the waits after it and `next` form it.
                links.push(next);
                return lowest_peer(&links[start + 1..]);
            }
            links.push(next);
        }
    }
}

fn lowest_peer(links: &[WaitRecord]) -> WaitRecord {
    *links.iter().min_by_key(|link| link.peer).expect("a circle should have a link")
}

fn error_of(record: &AbortRecord) -> Error {
    let op = unpack_text(&record.op).into();
    let step = unpack_text(&record.step).into();
    let peer = record.culprit as usize;
    if record.died == 1 {
        return Error::PeerDied { op, step, peer, cause: unpack_text(&record.cause) };
    }
    Error::Timeout {
        op,
        step,
        peer,
        expected: record.expected,
        got: record.got,
        waited: Duration::from_micros(record.waited_us),
    }
}
