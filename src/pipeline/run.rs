//! Runs a resolved schedule in simulated time.
//!
//! Every rank works through its order, so the events of a rank are known in advance and time is
//! settled rank by rank, as far as its messages allow; ranks that others moved on are taken up
//! again. The outcome does not depend on the order in which ranks are taken up.

use std::collections::VecDeque;

use crate::pipeline::program::{Program, op_at};
use crate::pipeline::{Fault, Link, Problem, Sends, Wait, WaitReason};

/// When one operation ran.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Span {
    /// Start, in µs.
    pub start_us: f64,
    /// End, in µs.
    pub end_us: f64,
}

/// Times of all operations and messages.
#[derive(Debug)]
pub(crate) struct Run {
    pub spans: Vec<Vec<Span>>,
    /// When each message is with its receiver.
    pub arrivals: Vec<f64>,
}

/// Runs `program`; `durations[rank][op]` are in µs.
pub(crate) fn run(
    program: &Program<'_>,
    durations: &[Vec<f64>],
    link: Link,
    sends: Sends,
) -> Result<Run, Problem> {
    Runner::new(program, durations, link, sends).run()
}

struct Runner<'a> {
    program: &'a Program<'a>,
    durations: &'a [Vec<f64>],
    link: Link,
    sends: Sends,
    /// Operations that have run so far, by rank.
    spans: Vec<Vec<Span>>,
    arrivals: Vec<Option<f64>>,
    /// When each link is free again.
    link_free: Vec<f64>,
}

impl<'a> Runner<'a> {
    fn new(program: &'a Program<'a>, durations: &'a [Vec<f64>], link: Link, sends: Sends) -> Self {
        let ranks = &program.schedule.ranks;
        Self {
            program,
            durations,
            link,
            sends,
            spans: ranks.iter().map(|ops| Vec::with_capacity(ops.len())).collect(),
            arrivals: vec![None; program.messages.len()],
            link_free: vec![0.0; program.num_links],
        }
    }

    fn run(mut self) -> Result<Run, Problem> {
        let num_pp_ranks = self.spans.len();
        let mut queue: VecDeque<usize> = (0..num_pp_ranks).collect();
        let mut is_queued = vec![true; num_pp_ranks];
        while let Some(rank_idx) = queue.pop_front() {
            is_queued[rank_idx] = false;
            if self.advance(rank_idx) {
                for neighbour in &self.program.neighbours[rank_idx] {
                    if !is_queued[*neighbour] {
                        is_queued[*neighbour] = true;
                        queue.push_back(*neighbour);
                    }
                }
            }
        }
        match (0..num_pp_ranks).find(|rank_idx| self.wait_of(*rank_idx).is_some()) {
            Some(rank_idx) => Err(self.deadlock(rank_idx)),
            None => Ok(Run {
                spans: self.spans,
                arrivals: self.arrivals.into_iter().map(Option::unwrap_or_default).collect(),
            }),
        }
    }

    /// Takes a rank as far as it goes; returns whether anything happened.
    fn advance(&mut self, rank_idx: usize) -> bool {
        let mut has_moved = false;
        loop {
            let has_sent = self.send_results(rank_idx);
            let has_run = self.run_next(rank_idx);
            has_moved |= has_sent || has_run;
            if !has_run {
                return has_moved;
            }
        }
    }

    /// Sends what the last operation made, as far as the receivers take it.
    fn send_results(&mut self, rank_idx: usize) -> bool {
        let Some(op_idx) = self.spans[rank_idx].len().checked_sub(1) else { return false };
        let outputs = self.program.traffic[rank_idx][op_idx].outputs;
        let mut has_sent = false;
        for message_idx in outputs.into_iter().flatten() {
            if self.arrivals[message_idx].is_some() {
                continue;
            }
            let Some(taken_us) = self.receive_posted_us(message_idx) else { continue };
            let link_idx = self.link_of(message_idx);
            let num_sharing = outputs
                .into_iter()
                .flatten()
                .filter(|other| self.link_of(*other) == link_idx)
                .count();
            let transfer_us = self.link.transfer_us() * num_sharing as f64;
            let begin_us = self.link_free[link_idx].max(taken_us).max(self.free_us(rank_idx));
            self.arrivals[message_idx] = Some(begin_us + transfer_us + self.link.latency_us);
            has_sent = true;
        }
        // Blocking sends are through before the next operation starts, so only buffered ones can
        // find the link busy; those of one operation all leave in this call.
        if self.sends == Sends::Buffered {
            for message_idx in outputs.into_iter().flatten() {
                if let Some(arrival_us) = self.arrivals[message_idx] {
                    let link_idx = self.link_of(message_idx);
                    self.link_free[link_idx] = arrival_us - self.link.latency_us;
                }
            }
        }
        has_sent
    }

    fn link_of(&self, message_idx: usize) -> usize {
        self.program.channels[self.program.messages[message_idx].channel].link_idx
    }

    /// Returns since when the receiver has room for a message; `None` if it has none yet.
    fn receive_posted_us(&self, message_idx: usize) -> Option<f64> {
        let Sends::Blocking { num_recv_buffers } = self.sends else { return Some(0.0) };
        let message = self.program.messages[message_idx];
        let (dst_rank_idx, dst_op_idx) = message.dst;
        if num_recv_buffers == 0 {
            let is_next = self.spans[dst_rank_idx].len() == dst_op_idx;
            return is_next.then(|| self.free_us(dst_rank_idx));
        }
        let Some(freed_idx) = message.send_idx.checked_sub(num_recv_buffers) else {
            return Some(0.0);
        };
        let freed = self.program.channels[message.channel].by_receiver[freed_idx];
        let (rank_idx, op_idx) = self.program.messages[freed].dst;
        self.spans[rank_idx].get(op_idx).map(|span| span.start_us)
    }

    /// Runs the next operation if its inputs have come and, under blocking sends, the results of
    /// the last one are gone.
    fn run_next(&mut self, rank_idx: usize) -> bool {
        let op_idx = self.spans[rank_idx].len();
        if op_idx == self.program.schedule.ranks[rank_idx].len() {
            return false;
        }
        let mut start_us = self.free_us(rank_idx);
        let awaited = self.awaited(rank_idx, op_idx);
        for (message_idx, _) in awaited {
            let Some(arrival_us) = self.arrivals[message_idx] else { return false };
            start_us = start_us.max(arrival_us);
        }
        let end_us = start_us + self.durations[rank_idx][op_idx];
        self.spans[rank_idx].push(Span { start_us, end_us });
        true
    }

    /// Returns the messages that an operation waits for: its inputs, and under blocking sends the
    /// results of the operation before.
    fn awaited(
        &self,
        rank_idx: usize,
        op_idx: usize,
    ) -> impl Iterator<Item = (usize, WaitReason)> + use<> {
        let traffic = &self.program.traffic[rank_idx];
        let unsent = match (self.sends, op_idx.checked_sub(1)) {
            (Sends::Blocking { .. }, Some(last_idx)) => traffic[last_idx].outputs,
            _ => [None; 2],
        };
        let inputs = traffic[op_idx].inputs.into_iter().flatten();
        let inputs = inputs.map(|message_idx| (message_idx, WaitReason::Input));
        inputs
            .chain(unsent.into_iter().flatten().map(|message_idx| (message_idx, WaitReason::Send)))
    }

    fn free_us(&self, rank_idx: usize) -> f64 {
        self.spans[rank_idx].last().map_or(0.0, |span| span.end_us)
    }

    /// Returns what keeps a rank from going on; `None` if it has done all its work.
    fn wait_of(&self, rank_idx: usize) -> Option<Wait> {
        let op_idx = self.spans[rank_idx].len();
        let op = *self.program.schedule.ranks[rank_idx].get(op_idx)?;
        let (message_idx, reason) = self
            .awaited(rank_idx, op_idx)
            .find(|(message_idx, _)| self.arrivals[*message_idx].is_none())?;
        let message = self.program.messages[message_idx];
        let for_rank_idx = match reason {
            WaitReason::Input => message.src.0,
            WaitReason::Send => message.dst.0,
        };
        Some(Wait { rank_idx, op_idx, op, reason, for_rank_idx })
    }

    /// Follows the waits from a rank until they close a circle.
    fn deadlock(&self, rank_idx: usize) -> Problem {
        let mut waits: Vec<Wait> = Vec::new();
        let mut at = rank_idx;
        while let Some(wait) = self.wait_of(at) {
            if let Some(first) = waits.iter().position(|seen| seen.rank_idx == at) {
                waits.drain(..first);
                break;
            }
            waits.push(wait);
            at = wait.for_rank_idx;
        }
        let (rank_idx, op_idx) = (waits[0].rank_idx, waits[0].op_idx);
        Problem {
            rank_idx,
            op: Some(op_at(self.program.schedule, rank_idx, op_idx)),
            fault: Fault::Deadlock(waits),
        }
    }
}
