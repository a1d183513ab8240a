//! mbarriers: 8 bytes of shared memory that count arrivals and bytes.

use super::cluster::ClusterState;
use super::exec::Exec;
use super::warp::Wait;
use super::{Flow, Trap, lanes_of};
use crate::fault::FaultKind;
use crate::program::engine::MbarrierOp;
use crate::program::{Inst, LOCAL_WINDOW, PENDING_MASK, SHARED_WINDOW};

/// Most arrivals of a phase, and most bytes that one can be short of.
const MAX_COUNT: u32 = (1 << 20) - 1;
/// A word without this bit is no mbarrier.
const VALID: u64 = 1 << 62;

/// What the 8 bytes hold: pending arrivals in bits 0-19, arrivals of each phase in bits 20-39, bytes
/// that are still expected in bits 40-60 (signed), [`VALID`], and the phase's parity in bit 63.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mbarrier {
    pub pending: u32,
    pub arrivals: u32,
    pub bytes: i32,
    pub phase: bool,
}

impl Mbarrier {
    pub(super) fn decode(word: u64) -> Option<Self> {
        let bytes = (word << 3) as i64 >> 43;
        (word & VALID != 0).then_some(Mbarrier {
            pending: (word & PENDING_MASK) as u32,
            arrivals: (word >> 20 & PENDING_MASK) as u32,
            bytes: bytes as i32,
            phase: word >> 63 == 1,
        })
    }

    fn encode(self) -> u64 {
        u64::from(self.pending)
            | u64::from(self.arrivals) << 20
            | (self.bytes as u64 & 0x1f_ffff) << 40
            | VALID
            | u64::from(self.phase) << 63
    }

    /// Ends the phase if nothing is missing; returns whether it did.
    fn settle(&mut self) -> bool {
        let complete = self.pending == 0 && self.bytes == 0;
        if complete {
            self.pending = self.arrivals;
            self.phase = !self.phase;
        }
        complete
    }

    pub(super) fn arrive(&mut self, count: u32) -> Result<(), String> {
        if count == 0 || count > self.pending {
            let pending = self.pending;
            return Err(format!("{count} arrivals at an mbarrier that waits for {pending}"));
        }
        self.pending -= count;
        Ok(())
    }

    /// Expects more bytes, or fewer if they have come.
    pub(super) fn expect(&mut self, bytes: i64) -> Result<(), String> {
        let sum = i64::from(self.bytes) + bytes;
        if sum.unsigned_abs() > MAX_COUNT.into() {
            return Err(format!("an mbarrier that is short of {sum} bytes, over {MAX_COUNT}"));
        }
        self.bytes = sum as i32;
        Ok(())
    }

    /// One more arrival in this phase.
    pub(super) fn add_pending(&mut self) -> Result<(), String> {
        if self.pending == MAX_COUNT {
            return Err(format!("an mbarrier with more than {MAX_COUNT} arrivals"));
        }
        self.pending += 1;
        Ok(())
    }
}

impl ClusterState {
    /// Host address of an mbarrier's word.
    pub(super) fn barrier_word(&mut self, address: u32) -> Result<*mut u64, FaultKind> {
        if !address.is_multiple_of(8) {
            return Err(FaultKind::Misaligned {
                access: "mbarrier".into(),
                address: address.into(),
                bytes: 8,
            });
        }
        self.shared(address, 8).map(<*mut u8>::cast).ok_or_else(|| FaultKind::OutOfBounds {
            access: "mbarrier".into(),
            address: address.into(),
            bytes: 8,
            hint: String::new(),
        })
    }

    pub(super) fn barrier(&mut self, address: u32) -> Result<Mbarrier, FaultKind> {
        let word = self.barrier_word(address)?;
        // SAFETY: `barrier_word` checked bounds and alignment, and only this host thread runs the
        // cluster.
        Mbarrier::decode(unsafe { *word }).ok_or_else(|| {
            FaultKind::Misuse(format!("no mbarrier was initialised at {address:#x}"))
        })
    }

    /// Changes an mbarrier, which may end its phase; returns the state before.
    pub(super) fn update_barrier(
        &mut self,
        address: u32,
        change: impl FnOnce(&mut Mbarrier) -> Result<(), String>,
    ) -> Result<u64, FaultKind> {
        let before = self.barrier(address)?;
        let mut after = before;
        change(&mut after)
            .map_err(|message| FaultKind::Misuse(format!("{message} (at {address:#x})")))?;
        if after.settle() {
            self.progress = true;
            self.observe_phase(address)?;
        }
        self.set_barrier_word(address, after.encode())?;
        Ok(before.encode())
    }

    fn set_barrier_word(&mut self, address: u32, word: u64) -> Result<(), FaultKind> {
        let at = self.barrier_word(address)?;
        // SAFETY: as in `barrier`.
        unsafe { *at = word };
        Ok(())
    }
}

impl Exec<'_, '_> {
    /// The shared address that a generic one stands for.
    pub(super) fn shared_address(&self, address: u64, lane: usize) -> Result<u32, Trap> {
        if (SHARED_WINDOW..LOCAL_WINDOW).contains(&address) {
            return Ok(address as u32);
        }
        let message = format!("{address:#x} is no address of shared memory");
        Err(Trap::misuse(message, lane as u32))
    }

    pub(super) fn mbarrier(
        &mut self,
        inst: &Inst,
        op: MbarrierOp,
        active: u32,
    ) -> Result<Flow, Trap> {
        self.observe_mbarriers(inst, op, active)?;
        if let MbarrierOp::Wait { parity, sleeps } = op {
            return self.mbarrier_wait(inst, parity, sleeps, active);
        }
        for lane in lanes_of(active) {
            let address = self.warp.registers.r64(self.used(inst, 0))[lane];
            let address = self.shared_address(address, lane)?;
            let before = self
                .mbarrier_of_lane(inst, op, address, lane)
                .map_err(|kind| self.after_making(Trap::new(kind, lane as u32), address))?;
            if inst.num_defs > 0 {
                let dest = self.def(inst, 0);
                self.warp.registers.r64_mut(dest)[lane] = before;
            }
        }
        Ok(Flow::Next)
    }

    fn mbarrier_of_lane(
        &mut self,
        inst: &Inst,
        op: MbarrierOp,
        address: u32,
        lane: usize,
    ) -> Result<u64, FaultKind> {
        let number = |i: usize| self.warp.registers.r32(self.used(inst, i))[lane];
        match op {
            MbarrierOp::Init => {
                let arrivals = number(1);
                if !(1..=MAX_COUNT).contains(&arrivals) {
                    let message =
                        format!("an mbarrier for {arrivals} arrivals, not 1 to {MAX_COUNT}");
                    return Err(FaultKind::Misuse(message));
                }
                let new = Mbarrier { pending: arrivals, arrivals, bytes: 0, phase: false };
                self.cluster.set_barrier_word(address, new.encode())?;
                Ok(0)
            }
            MbarrierOp::Inval => {
                self.cluster.barrier(address)?;
                self.cluster.set_barrier_word(address, 0)?;
                Ok(0)
            }
            MbarrierOp::Arrive { expects, drops, no_complete } => {
                let count = number(1);
                let bytes = if expects { number(2) } else { 0 };
                self.log_mbarrier_arrival(address);
                self.cluster.update_barrier(address, |barrier| {
                    barrier.expect(bytes.into())?;
                    barrier.arrive(count)?;
                    if drops {
                        barrier.arrivals -= count.min(barrier.arrivals);
                    }
                    if no_complete && barrier.pending == 0 {
                        return Err("an arrival with .noComplete ends the phase".into());
                    }
                    Ok(())
                })
            }
            MbarrierOp::ExpectTx => {
                let bytes = number(1);
                self.cluster.update_barrier(address, |barrier| barrier.expect(bytes.into()))
            }
            MbarrierOp::CompleteTx => {
                let bytes = number(1);
                self.cluster.update_barrier(address, |barrier| barrier.expect(-i64::from(bytes)))
            }
            MbarrierOp::Wait { .. } => Ok(0),
        }
    }

    /// `test_wait` and `try_wait`. A thread whose `try_wait` fails sleeps until the phase ends or,
    /// when nothing else in the grid can go on, until its time is over.
    fn mbarrier_wait(
        &mut self,
        inst: &Inst,
        parity: bool,
        sleeps: bool,
        active: u32,
    ) -> Result<Flow, Trap> {
        let (mut done, mut wait) = (0, Wait::Ready);
        for lane in lanes_of(active) {
            let address = self.warp.registers.r64(self.used(inst, 0))[lane];
            let address = self.shared_address(address, lane)?;
            if (address >> 24) as usize != self.warp.cta {
                let message = "a wait at the mbarrier of another block";
                return Err(Trap::misuse(message, lane as u32));
            }
            let named = self.used(inst, 1);
            let phase = match parity {
                true => self.warp.registers.r32(named)[lane] & 1 == 1,
                false => self.warp.registers.r64(named)[lane] >> 63 == 1,
            };
            let barrier =
                self.cluster.barrier(address).map_err(|kind| Trap::new(kind, lane as u32))?;
            if barrier.phase != phase {
                done |= 1 << lane;
            } else if wait == Wait::Ready {
                wait = Wait::Mbarrier { address, phase };
            }
        }
        self.observe_mbarrier_waits(inst, done);
        let expired = if sleeps { self.warp.expired & active } else { active };
        self.warp.expired &= !active;
        let answered = done | expired;
        let dest = self.def(inst, 0);
        self.warp.registers.set_pred(dest, done, answered);
        if done == active {
            return Ok(Flow::Next);
        }
        if answered & !done != 0 {
            self.tally_retry();
        }
        if answered == active {
            return Ok(Flow::Yield);
        }
        // The instruction is counted when it has an answer.
        self.grid.executed[self.pc as usize] -= 1;
        Ok(if answered == 0 { Flow::Wait(wait) } else { Flow::Partly(answered, wait) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_bytes_hold_everything() {
        for bytes in [0, 1, -1, MAX_COUNT as i32, -(MAX_COUNT as i32)] {
            for phase in [false, true] {
                let barrier = Mbarrier { pending: MAX_COUNT, arrivals: 7, bytes, phase };
                assert_eq!(Mbarrier::decode(barrier.encode()), Some(barrier));
            }
        }
        assert_eq!(Mbarrier::decode(0), None);
    }
}
