//! Asynchronous operations, for the checkers. All of an operation's accesses count as made when it is
//! issued, by an agent whose work is known to be done by those that have waited for it.

use super::Space as Where;
use super::same_address;
use crate::check::{Agent, Known, Mark, Nature};
use crate::checks::Checks;
use crate::fault::FaultKind;
use crate::machine::cluster::ClusterState;
use crate::machine::exec::Exec;
use crate::machine::log::Event;
use crate::machine::multiply::CHUNK;
use crate::machine::products::WARPS;
use crate::machine::tensor::Tile;
use crate::machine::transfer::{LateFault, Piece, Signal, Transfer, Work};
use crate::machine::{Trap, lanes_of};
use crate::program::engine::GroupKind;

/// An asynchronous operation's agent, time and thread.
#[derive(Clone, Copy, Debug)]
struct Issue {
    agent: Agent,
    clock: u32,
    lane: usize,
    nature: Nature,
}

impl Exec<'_, '_> {
    /// Checks what a transfer will access and signal.
    pub(in crate::machine) fn observe_transfer(&mut self, transfer: &Transfer) -> Result<(), Trap> {
        self.log_transfer(transfer);
        if self.cluster.check.is_none() {
            return Ok(());
        }
        let lane = transfer.lanes.trailing_zeros() as usize;
        match (&transfer.work, transfer.group) {
            (Work::Nothing, _) => self.observe_arrival_after_copies(transfer, lane),
            (Work::Pieces(pieces), Some(GroupKind::Copies)) => {
                for (lane, piece) in lanes_of(transfer.lanes).zip(pieces) {
                    let agent = Agent::Copies(self.warp.number as u16);
                    let clock = transfer.groups[lane] + 1;
                    let issue = Issue { agent, clock, lane, nature: Nature::Copy };
                    self.observe_piece(piece, issue, issue, "cp.async")?;
                }
                Ok(())
            }
            (_, Some(_)) => self.observe_bulk_store(transfer, lane),
            _ => self.observe_signalling(transfer, lane),
        }
    }

    /// A copy from shared to global memory.
    fn observe_bulk_store(&mut self, transfer: &Transfer, lane: usize) -> Result<(), Trap> {
        let number = self.warp.number as u16;
        let clock = transfer.groups[lane] + 1;
        let nature = if transfer.combine.is_some() { Nature::Reduction } else { Nature::Async };
        let reads = Issue { agent: Agent::BulkReads(number), clock, lane, nature: Nature::Async };
        let writes = Issue { agent: Agent::BulkWrites(number), clock, lane, nature };
        match &transfer.work {
            Work::Pieces(pieces) => {
                pieces.iter().try_for_each(|it| self.observe_piece(it, reads, writes, "bulk copy"))
            }
            Work::Store { tile, from } => {
                self.observe_box(tile, *from, reads, false, "tensor store")?;
                for run in tile.runs() {
                    let place = Where::Global(run.address);
                    self.observe_range(place, run.bytes.into(), writes, true, "tensor store")?;
                    self.set_values(place, run.bytes.into());
                }
                Ok(())
            }
            Work::Nothing | Work::Load { .. } => Ok(()),
        }
    }

    /// What completes in a phase of mbarriers.
    fn observe_signalling(&mut self, transfer: &Transfer, lane: usize) -> Result<(), Trap> {
        let is_plain = transfer.staged.is_some();
        let mut issues = Vec::with_capacity(1);
        for signal in &transfer.signals {
            let barrier = signal.barrier();
            match is_plain {
                true => self.known_mbarrier(barrier, 1 << lane)?,
                false => self.fenced_mbarrier(barrier, lane)?,
            }
            let mark = self.mark(lane, Nature::Async);
            let Some(check) = &mut self.cluster.check else { return Ok(()) };
            let Some(known) = check.mbarriers.get_mut(&barrier) else { return Ok(()) };
            known.last_bytes = mark;
            if let Signal::Bytes { bytes, .. } = signal {
                known.issued += u64::from(*bytes);
            }
            let nature = match (is_plain, transfer.combine) {
                (true, _) => Nature::Store,
                (_, Some(_)) => Nature::Reduction,
                (_, None) => Nature::Async,
            };
            let agent = Agent::Phases(barrier);
            issues.push(Issue { agent, clock: known.phase, lane, nature });
        }
        match &transfer.work {
            Work::Pieces(pieces) => {
                for (piece, issue) in pieces.iter().zip(issues) {
                    match (is_plain, Where::of_generic(piece.to)) {
                        (true, Some(to)) => {
                            self.observe_range(to, piece.bytes.into(), issue, true, "st.async")?;
                            self.set_values(to, piece.bytes.into());
                        }
                        _ => self.observe_piece(piece, issue, issue, "bulk copy")?,
                    }
                }
            }
            Work::Load { tile, targets } => {
                let runs = tile.runs();
                for (target, issue) in targets.iter().zip(issues) {
                    for run in &runs {
                        let place = Where::Global(run.address);
                        self.observe_range(place, run.bytes.into(), issue, false, "tensor load")?;
                    }
                    self.observe_box(tile, *target, issue, true, "tensor load")?;
                    self.set_box_values(tile, *target);
                }
            }
            Work::Nothing | Work::Store { .. } => {}
        }
        Ok(())
    }

    /// An arrival after the thread's copies.
    fn observe_arrival_after_copies(
        &mut self,
        transfer: &Transfer,
        lane: usize,
    ) -> Result<(), Trap> {
        let number = self.warp.number;
        let copies = self.warp.commits[GroupKind::Copies as usize][lane] + 1;
        for signal in &transfer.signals {
            self.known_mbarrier(signal.barrier(), 1 << lane)?;
            let Some(check) = &mut self.cluster.check else { return Ok(()) };
            let slot = check.slot(Agent::Copies(number as u16));
            let mut seen = check.threads[number].release(1 << lane);
            seen.generic.add(slot, Known::some(1 << lane, copies));
            if let Some(barrier) = check.mbarriers.get_mut(&signal.barrier()) {
                barrier.arrive(&seen);
            }
        }
        Ok(())
    }

    fn observe_piece(
        &mut self,
        piece: &Piece,
        reads: Issue,
        writes: Issue,
        name: &str,
    ) -> Result<(), Trap> {
        let (from, to) = (Where::of_generic(piece.from), Where::of_generic(piece.to));
        let (Some(from), Some(to)) = (from, to) else { return Ok(()) };
        let bytes = u64::from(piece.bytes + piece.fill);
        self.observe_range(from, piece.bytes.into(), reads, false, name)?;
        self.observe_range(to, bytes, writes, true, name)?;
        self.set_values(to, bytes);
        self.unset_missing(from, piece.bytes.into(), |at| to.plus(at));
        Ok(())
    }

    /// The bytes of a box in shared memory. Swizzles stay within 128 bytes.
    fn observe_box(
        &mut self,
        tile: &Tile,
        target: u32,
        issue: Issue,
        writes: bool,
        name: &str,
    ) -> Result<(), Trap> {
        let bytes = tile.map.box_bytes();
        if bytes.is_multiple_of(128) {
            return self.observe_range(Where::Shared(target), bytes.into(), issue, writes, name);
        }
        for offset in (0..bytes).step_by(16) {
            let at = Where::Shared(tile.place(target, offset) as u32);
            self.observe_range(at, u64::from(16.min(bytes - offset)), issue, writes, name)?;
        }
        Ok(())
    }

    /// One range of an asynchronous operation.
    fn observe_range(
        &mut self,
        place: Where,
        bytes: u64,
        issue: Issue,
        writes: bool,
        name: &str,
    ) -> Result<(), Trap> {
        let Issue { agent, clock, lane, nature } = issue;
        let Some(mark) = self.mark(lane, nature) else { return Ok(()) };
        let Some(checks) = self.grid.check.as_ref().map(|grid| grid.checks) else { return Ok(()) };
        let Some(check) = &mut self.cluster.check else { return Ok(()) };
        if checks == Checks::INITIALISED || bytes == 0 {
            return Ok(());
        }
        let mark = Mark { slot: check.slot(agent), clock, ..mark };
        let done = self.apply(mark, checks, writes, place, bytes, 1 << lane);
        done.map_err(|conflict| {
            let space = if matches!(place, Where::Shared(_)) { "shared" } else { "global" };
            let verb = if writes { "write" } else { "read" };
            let access = format!("{name}'s {space} {verb}");
            self.conflict(&conflict, access, place, bytes, lane)
        })
    }

    /// A thread waits for groups of copies.
    pub(in crate::machine) fn observe_group_wait(
        &mut self,
        kind: GroupKind,
        keep: Option<u32>,
        read: bool,
        active: u32,
    ) {
        self.log_group_wait(kind, keep, active);
        let number = self.warp.number as u16;
        let Some(check) = &mut self.cluster.check else { return };
        let slots = match kind {
            GroupKind::Copies => vec![check.slot(Agent::Copies(number))],
            GroupKind::Bulk if read => vec![check.slot(Agent::BulkReads(number))],
            GroupKind::Bulk => {
                vec![check.slot(Agent::BulkReads(number)), check.slot(Agent::BulkWrites(number))]
            }
        };
        let commits = self.warp.commits[kind as usize];
        let done = commits.map(|count| match keep {
            Some(keep) => u64::from(count.saturating_sub(keep)),
            None => u64::from(count) + 1,
        });
        // Threads that wait together know of each other's copies: one that lacks `bar.warp.sync` here
        // is not found.
        for (lane, lanes) in same_address(&done, active) {
            let known = Known::some(lanes, done[lane] as u32);
            check.threads[usize::from(number)].learn(lanes, |seen| {
                slots.iter().for_each(|slot| seen.generic.add(*slot, known));
            });
        }
    }

    /// A warp's part of a product reads chunks of shared memory until it is waited for.
    pub(in crate::machine) fn observe_product(
        &mut self,
        group: usize,
        number: u64,
        part: usize,
    ) -> Result<(), Trap> {
        self.log_product();
        if self.cluster.check.is_none() {
            return Ok(());
        }
        let agent = self.products();
        let clock = self.warp.flight.num_committed + 1;
        let issue = Issue { agent, clock, lane: 0, nature: Nature::Async };
        let rank = (self.warp.cta as u32) << 24;
        let cta = &mut self.cluster.ctas[self.warp.cta];
        let product = cta.warpgroups[group].product(number);
        let chunks = product.map(|product| product.chunks_of(part)).unwrap_or_default();
        chunks.iter().try_for_each(|chunk| {
            self.observe_range(Where::Shared(rank | chunk), CHUNK as u64, issue, false, "wgmma")
        })
    }

    /// The warpgroup's tensor cores: a product is one operation of four warps, so the wait of one says
    /// that it is over.
    fn products(&self) -> Agent {
        Agent::Products((self.warp.number - self.warp.index as usize % WARPS) as u16)
    }

    /// The warp waits for groups of `wgmma` before `limit`.
    pub(in crate::machine) fn observe_products_wait(&mut self, limit: u32) {
        self.log(Event::Products { limit });
        let (number, agent) = (self.warp.number, self.products());
        let Some(check) = &mut self.cluster.check else { return };
        let slot = check.slot(agent);
        // The warp goes on as one: what a thread then releases includes what the others have read.
        check.threads[number].meet(u32::MAX);
        check.threads[number].learn(u32::MAX, |seen| seen.generic.add(slot, Known::all(limit)));
    }
}

impl ClusterState {
    /// The cluster's threads and transfers have ended: nothing may be left to come.
    pub(in crate::machine) fn observe_end(&mut self) -> Result<(), LateFault> {
        let Some(check) = self.check.take() else { return Ok(()) };
        for (address, barrier) in &check.mbarriers {
            let Ok(state) = self.barrier(*address) else { continue };
            let at = barrier.last_bytes.unwrap_or(barrier.made);
            if state.bytes != 0 {
                let what = match state.bytes {
                    bytes @ 1.. => format!("waits for {bytes} bytes"),
                    bytes => format!("has got {} bytes too many", -i64::from(bytes)),
                };
                let message =
                    format!("the threads have ended and the mbarrier at {address:#x} {what}");
                return Err(LateFault {
                    kind: FaultKind::Misuse(message),
                    warp: at.warp.into(),
                    lane: at.lane.into(),
                    pc: at.pc,
                    related: Some(Box::new(("its initialisation".to_owned(), barrier.made.site()))),
                });
            }
        }
        Ok(())
    }
}
