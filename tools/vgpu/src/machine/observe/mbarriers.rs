//! mbarriers, for the checkers.

use super::Space as Where;
use super::same_address;
use crate::check::{Agent, Mark, Mbarrier, Nature};
use crate::checks::Checks;
use crate::fault::FaultKind;
use crate::machine::cluster::{ClusterState, Site};
use crate::machine::exec::Exec;
use crate::machine::transfer::Transfer;
use crate::machine::{Trap, lanes_of};
use crate::ops::LANES;
use crate::program::Inst;
use crate::program::engine::MbarrierOp;

impl ClusterState {
    /// The mbarrier at an address has ended a phase.
    pub(in crate::machine) fn observe_phase(&mut self, address: u32) -> Result<(), FaultKind> {
        if let Some(log) = &mut self.log {
            log.end_phase(address);
        }
        let wrong = self.check.as_mut().and_then(|check| check.end_phase(address));
        let Some((message, last)) = wrong else { return Ok(()) };
        let warps = self.ctas[0].num_threads.div_ceil(32);
        let warp = u32::from(last.warp);
        let (cta, warp, lane) = ((warp / warps) as usize, warp % warps, last.lane.into());
        self.other = Some(Site { pc: last.pc, cta, warp, lane });
        Err(FaultKind::Misuse(message))
    }
}

impl Exec<'_, '_> {
    /// Checks an instruction on mbarriers before it is executed.
    pub(in crate::machine) fn observe_mbarriers(
        &mut self,
        inst: &Inst,
        op: MbarrierOp,
        active: u32,
    ) -> Result<(), Trap> {
        if self.cluster.check.is_none() {
            return Ok(());
        }
        let addresses = *self.warp.registers.r64(self.used(inst, 0));
        for (lane, lanes) in same_address(&addresses, active) {
            let address = self.shared_address(addresses[lane], lane)?;
            self.observe_mbarrier(inst, op, address, (lane, lanes))?;
        }
        Ok(())
    }

    fn observe_mbarrier(
        &mut self,
        inst: &Inst,
        op: MbarrierOp,
        address: u32,
        (lane, lanes): (usize, u32),
    ) -> Result<(), Trap> {
        match op {
            MbarrierOp::Init => return self.make_mbarrier(address, lane),
            MbarrierOp::Inval => {
                self.idle_mbarrier("mbarrier.inval of", address, lane)?;
                let place = Where::Shared(address);
                let done = self.compare(Nature::Mbarrier, true, place, 8, lane, 1 << lane);
                let access = "mbarrier.inval".to_owned();
                done.map_err(|conflict| self.conflict(&conflict, access, place, 8, lane))?;
                self.overwrite(place, 8, lane, lane as u8);
                if let Some(check) = &mut self.cluster.check {
                    check.mbarriers.remove(&address);
                }
                return Ok(());
            }
            _ => {}
        }
        self.known_mbarrier(address, lanes)?;
        let mark = self.mark(lane, Nature::Weak);
        let bytes = |i: usize| {
            let bytes = self.warp.registers.r32(self.used(inst, i));
            lanes_of(lanes).map(|lane| u64::from(bytes[lane])).sum()
        };
        let told: Option<(bool, u64)> = match op {
            MbarrierOp::Arrive { expects: true, .. } => Some((false, bytes(2))),
            MbarrierOp::ExpectTx => Some((false, bytes(1))),
            MbarrierOp::CompleteTx => Some((true, bytes(1))),
            _ => None,
        };
        let Some(check) = &mut self.cluster.check else { return Ok(()) };
        let Some(barrier) = check.mbarriers.get_mut(&address) else { return Ok(()) };
        let threads = &mut check.threads[self.warp.number];
        if let MbarrierOp::Arrive { .. } = op {
            barrier.arrive(&threads.release(lanes));
        }
        if let Some((is_issue, bytes)) = told {
            *if is_issue { &mut barrier.issued } else { &mut barrier.expected } += bytes;
            barrier.last_bytes = mark;
        }
        Ok(())
    }

    /// Threads have found that phases are over.
    pub(in crate::machine) fn observe_mbarrier_waits(&mut self, inst: &Inst, done: u32) {
        let addresses = *self.warp.registers.r64(self.used(inst, 0));
        if self.is_logged() {
            for (lane, _) in same_address(&addresses, done) {
                self.log_mbarrier_wait(addresses[lane] as u32);
            }
        }
        let Some(check) = &mut self.cluster.check else { return };
        for (lane, lanes) in same_address(&addresses, done) {
            if let Some(barrier) = check.mbarriers.get(&(addresses[lane] as u32)) {
                check.threads[self.warp.number].acquire(lanes, barrier.passed());
            }
        }
    }

    /// Adds to an mbarrier's fault who made it.
    pub(in crate::machine) fn after_making(&self, trap: Trap, address: u32) -> Trap {
        let check = self.cluster.check.as_ref();
        match check.and_then(|it| it.mbarriers.get(&address)) {
            Some(barrier) => trap.after("its initialisation", barrier.made.site()),
            None => trap,
        }
    }

    /// A thread's mark.
    pub(super) fn mark(&self, lane: usize, nature: Nature) -> Option<Mark> {
        let check = self.cluster.check.as_ref()?;
        Some(Mark {
            clock: check.threads[self.warp.number].clock(),
            pc: self.pc,
            cluster: check.number,
            slot: self.warp.number as u16,
            warp: self.warp.number as u16,
            lane: lane as u8,
            stripe: 0,
            nature,
        })
    }

    fn make_mbarrier(&mut self, address: u32, lane: usize) -> Result<(), Trap> {
        self.idle_mbarrier("mbarrier.init over", address, lane)?;
        let place = Where::Shared(address);
        if self.cluster.barrier_word(address).is_err() {
            // The machine reports it.
            return Ok(());
        }
        let done = self.compare(Nature::Mbarrier, true, place, 8, lane, 1 << lane);
        let access = "mbarrier.init".to_owned();
        done.map_err(|conflict| self.conflict(&conflict, access, place, 8, lane))?;
        let Some(made) = self.mark(lane, Nature::Mbarrier) else { return Ok(()) };
        let Some(check) = &mut self.cluster.check else { return Ok(()) };
        check.initial[(address >> 24) as usize].set(u64::from(address & 0x00ff_ffff), 8);
        let slot = check.slot(Agent::Phases(address));
        let phase = check.mbarriers.get(&address).map_or(1, |old| old.phase);
        check.mbarriers.insert(address, Mbarrier::new(slot, phase, made));
        Ok(())
    }

    /// An mbarrier that goes must have nothing to wait for.
    fn idle_mbarrier(&mut self, what: &str, address: u32, lane: usize) -> Result<(), Trap> {
        if !self.looks_at_barriers() {
            return Ok(());
        }
        let known = self.cluster.check.as_ref().and_then(|it| it.mbarriers.get(&address));
        let Some((last, made)) = known.map(|it| (it.last_bytes, it.made)) else { return Ok(()) };
        let signals = |it: &Transfer| it.signals_to(address);
        let pending = self.cluster.pending.iter().any(signals);
        match self.cluster.barrier(address) {
            Ok(state) if state.bytes != 0 || pending => {
                let bytes = state.bytes;
                let message = format!(
                    "{what} the mbarrier at {address:#x}, to which {bytes} bytes are to come"
                );
                let trap = Trap::misuse(message, lane as u32);
                Err(trap.after("they were announced", last.unwrap_or(made).site()))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn looks_at_barriers(&self) -> bool {
        let check = self.grid.check.as_ref();
        check.is_some_and(|check| check.checks.contains(Checks::BARRIERS))
    }

    /// An mbarrier that is used must have been made, and the threads must know of it.
    pub(super) fn known_mbarrier(&self, address: u32, lanes: u32) -> Result<(), Trap> {
        let Some(check) = self.cluster.check.as_ref().filter(|_| self.looks_at_barriers()) else {
            return Ok(());
        };
        let Some(barrier) = check.mbarriers.get(&address) else {
            let message = format!("no mbarrier was initialised at {address:#x}");
            return Err(Trap::misuse(message, lanes.trailing_zeros()));
        };
        let made = barrier.made;
        let is_mine = usize::from(made.warp) == self.warp.number;
        let threads = &check.threads[self.warp.number];
        let knows = |lane: usize| {
            let seen = &threads.seen(lane).generic;
            is_mine && usize::from(made.lane) == lane
                || seen.covers(made.slot, 1 << made.lane, made.clock)
                || barrier.published.is_some_and(|phase| phase < self.cluster.phase)
        };
        let count = if threads.is_one_group() { 2 } else { LANES };
        let Some(lane) = lanes_of(lanes).take(count).find(|lane| !knows(*lane)) else {
            return Ok(());
        };
        let message = format!(
            "the mbarrier at {address:#x} is used by a thread that has not synchronised with its \
             initialisation"
        );
        Err(Trap::misuse(message, lane as u32).after("the initialisation", made.site()))
    }

    /// An mbarrier that the async proxy signals must have been fenced since it was made.
    pub(super) fn fenced_mbarrier(&self, address: u32, lane: usize) -> Result<(), Trap> {
        self.known_mbarrier(address, 1 << lane)?;
        let looks = self.grid.check.as_ref().is_some_and(|it| it.checks.contains(Checks::PROXIES));
        let barrier = self.cluster.check.as_ref().and_then(|it| it.mbarriers.get(&address));
        let (Some(check), Some(barrier), true) = (&self.cluster.check, barrier, looks) else {
            return Ok(());
        };
        let made = barrier.made;
        let seen = check.threads[self.warp.number].seen(lane);
        if barrier.is_fenced || seen.fenced.covers(made.slot, 1 << made.lane, made.clock) {
            return Ok(());
        }
        let message = format!(
            "the mbarrier at {address:#x} is signalled by the async proxy, and its initialisation \
             was not followed by fence.mbarrier_init or fence.proxy.async"
        );
        Err(Trap::misuse(message, lane as u32).after("the initialisation", made.site()))
    }
}
