//! Barriers of a CTA and of a cluster.

use super::cluster::NUM_BARRIERS;
use super::exec::Exec;
use super::registers::Registers;
use super::warp::Wait;
use super::{Flow, Trap, lanes_of};
use crate::program::inst::{BarrierOp, Reduction};
use crate::program::{Inst, Reg};

impl Exec<'_, '_> {
    pub(super) fn barrier(
        &mut self,
        inst: &Inst,
        op: BarrierOp,
        active: u32,
    ) -> Result<Flow, Trap> {
        let (aligned, counted) = match op {
            BarrierOp::Sync { aligned, counted } | BarrierOp::Reduce { aligned, counted, .. } => {
                (aligned, counted)
            }
            BarrierOp::Arrive { aligned } => (aligned, true),
            BarrierOp::ClusterArrive { aligned, .. } | BarrierOp::ClusterWait { aligned } => {
                (aligned, false)
            }
        };
        if aligned && active != self.warp.alive {
            return Ok(Flow::Wait(Wait::Converge(self.warp.alive)));
        }
        match op {
            BarrierOp::ClusterArrive { relaxed, .. } => {
                let phase = self.cluster.phase;
                self.observe_cluster_arrival(relaxed, active);
                lanes_of(active).for_each(|lane| self.warp.cluster_phase[lane] = phase);
                self.cluster.arrived += active.count_ones();
                self.cluster.try_complete();
                Ok(Flow::Next)
            }
            BarrierOp::ClusterWait { .. } => {
                let phase = self.warp.cluster_phase[active.trailing_zeros() as usize];
                let open = self.cluster.phase != phase;
                if open {
                    self.observe_cluster_wait(phase, active);
                }
                Ok(if open { Flow::Next } else { Flow::Wait(Wait::Cluster { phase }) })
            }
            _ => self.named_barrier(inst, op, counted, aligned, active),
        }
    }

    /// `setmaxnreg`: registers go to the block's pool or come from it.
    pub(super) fn set_registers(&mut self, count: u32, active: u32) -> Result<Flow, Trap> {
        if active != self.warp.alive {
            return Ok(Flow::Wait(Wait::Converge(self.warp.alive)));
        }
        let has = self.warp.num_registers;
        let cta = &mut self.cluster.ctas[self.warp.cta];
        if has == 0 {
            // The kernel does not bound its threads, so the instruction has no effect.
            return Ok(Flow::Next);
        }
        if count > has && count - has > cta.free_registers {
            return Ok(Flow::Wait(Wait::Registers { count: count - has }));
        }
        cta.free_registers = cta.free_registers + has - count;
        self.warp.num_registers = count;
        self.cluster.progress = true;
        Ok(Flow::Next)
    }

    fn named_barrier(
        &mut self,
        inst: &Inst,
        op: BarrierOp,
        counted: bool,
        aligned: bool,
        active: u32,
    ) -> Result<Flow, Trap> {
        let lane = active.trailing_zeros();
        let operand = |i: usize| self.warp.registers.r32(self.used(inst, i))[lane as usize];
        let id = operand(0) as usize;
        if id >= NUM_BARRIERS {
            return Err(Trap::misuse(format!("barrier {id} of {NUM_BARRIERS}"), lane));
        }
        let expected = if counted { operand(1) } else { 0 };
        if counted && (expected == 0 || expected % 32 != 0) {
            let message = format!("barrier {id} for {expected} threads, not a multiple of 32");
            return Err(Trap::misuse(message, lane));
        }
        let predicates = match op {
            BarrierOp::Reduce { .. } => {
                self.warp.registers.pred(self.used(inst, usize::from(inst.num_uses) - 1)) & active
            }
            _ => 0,
        };
        // A counted, aligned arrival stands for a whole warp, ended threads included.
        let arrivals = if counted && aligned { 32 } else { active.count_ones() };
        let cta = self.cta();
        let alive = cta.alive;
        let barrier = &mut cta.barriers[id];
        if barrier.arrived > 0 && barrier.expected != expected {
            let message = format!(
                "barrier {id} for {expected} threads while others wait at it for {}",
                barrier.expected
            );
            let trap = Trap::misuse(message, lane);
            return Err(self.after_first_arrival(trap, id as u8));
        }
        if counted && barrier.arrived + arrivals > expected {
            let message = format!("more than {expected} threads at barrier {id}");
            let trap = Trap::misuse(message, lane);
            return Err(self.after_first_arrival(trap, id as u8));
        }
        barrier.expected = expected;
        barrier.arrived += arrivals;
        barrier.trues += predicates.count_ones();
        barrier.predicates += active.count_ones();
        let phase = barrier.phase;
        let complete = barrier.try_complete(alive);
        let last = barrier.last;
        self.cluster.progress |= complete;
        self.observe_arrival(id as u8, phase, active);
        if complete && !matches!(op, BarrierOp::Arrive { .. }) {
            self.observe_barrier_wait(id as u8, phase, active);
        }
        match op {
            BarrierOp::Arrive { .. } => Ok(Flow::Next),
            _ if !complete => Ok(Flow::Wait(Wait::Barrier { id: id as u8, phase })),
            BarrierOp::Reduce { op, .. } => {
                let dest = self.def(inst, 0);
                write_reduction(&mut self.warp.registers, op, dest, active, last);
                Ok(Flow::Next)
            }
            _ => Ok(Flow::Next),
        }
    }
}

/// Writes a barrier's reduction for the threads of `mask`; `last` counts the true predicates and all.
pub(super) fn write_reduction(
    registers: &mut Registers,
    op: Reduction,
    dest: Reg,
    mask: u32,
    (trues, all): (u32, u32),
) {
    let result = match op {
        Reduction::Count => {
            let row = registers.r32_mut(dest);
            return lanes_of(mask).for_each(|lane| row[lane] = trues);
        }
        Reduction::And => trues == all,
        Reduction::Or => trues > 0,
    };
    registers.set_pred(dest, if result { u32::MAX } else { 0 }, mask);
}
