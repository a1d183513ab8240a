//! Barrier and all-gather: for set-up, reports and digests.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::engine::MAX_PAYLOAD_BYTES;
use super::rank::Rank;
use super::transport::{Header, Kind};
use super::wait::Wait;
use crate::error::{Error, Result};

impl Rank {
    pub(super) fn barrier(&self, op: &'static str) -> Result<()> {
        self.check_active(op)?;
        let key = self.next_collective_key();
        self.control(self.rank_idx).barrier_key.store(key, Ordering::Release);
        if self.spans_nodes() {
            self.tell_other_nodes(Header::new(Kind::Barrier, key, 0, 0), &[]);
        }
        let started = Instant::now();
        for peer in self.active_peers() {
            let by_message = !self.is_local(peer);
            let wait = Wait { op, step: "barrier", peer, expected: key, started, by_message };
            self.wait(&wait, || self.control(peer).barrier_key.load(Ordering::Acquire))?;
        }
        Ok(())
    }

    /// Returns every rank's bytes in rank order; nothing for a masked-out rank.
    pub(super) fn all_gather(&self, op: &'static str, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.check_active(op)?;
        let key = self.next_collective_key();
        // Empty bytes go as one empty frame.
        let num_frames = bytes.len().div_ceil(MAX_PAYLOAD_BYTES).max(1);
        for peer in self.active_peers() {
            for frame in 0..num_frames {
                let start = frame * MAX_PAYLOAD_BYTES;
                let end = bytes.len().min(start + MAX_PAYLOAD_BYTES);
                let header = Header::new(Kind::Gather, key, 0, bytes.len() as u64);
                self.engine().send(peer, header, &bytes[start..end]);
            }
        }
        let started = Instant::now();
        let mut gathered = vec![Vec::new(); self.num_ranks()];
        gathered[self.rank_idx] = bytes.to_vec();
        for peer in self.active_peers() {
            let wait =
                Wait { op, step: "all_gather", peer, expected: key, started, by_message: true };
            self.wait(&wait, || self.gathered[peer].load(Ordering::Acquire))?;
            let contribution = self.engine().take_contribution(peer, key);
            gathered[peer] = contribution.ok_or_else(|| {
                let expected = "the same collective operations in the same order on every rank";
                Error::value(op, "all_gather", expected, format!("another one on rank {peer}"))
            })?;
        }
        Ok(gathered)
    }

    fn check_active(&self, op: &'static str) -> Result<()> {
        if self.is_active(self.rank_idx) {
            return Ok(());
        }
        let expected = "this rank active, so that it may take part in a collective operation";
        Err(Error::value(op, "rank_mask", expected, "this rank masked out"))
    }
}
