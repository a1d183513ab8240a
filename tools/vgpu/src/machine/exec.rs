//! Runs one warp until it waits, ends or has had its turn.

use super::cluster::{ClusterState, Cta};
use super::grid::Grid;
use super::log::Event;
use super::warp::{Split, Wait, Warp};
use super::{Flow, Trap};
use crate::fault::FaultKind;
use crate::overlap::GridEnd;
use crate::program::inst::{BarrierOp, Op};
use crate::program::{Inst, Kernel, Reg};

/// A warp at work, with what it can reach.
pub(crate) struct Exec<'g, 'm> {
    pub grid: &'m mut Grid<'g>,
    pub kernel: &'g Kernel,
    pub cluster: &'m mut ClusterState,
    pub warp: &'m mut Warp,
    /// The cluster's warps before it and after it.
    pub others: [&'m mut [Warp]; 2],
    /// The instruction being executed.
    pub pc: u32,
}

impl<'g> Exec<'g, '_> {
    /// Runs up to about `quantum` instructions and returns how many were run.
    pub(crate) fn run(&mut self, quantum: u32) -> Result<u32, Trap> {
        self.wake();
        let mut executed = 0;
        while executed < quantum {
            let Some(split) = self.warp.take_next() else { break };
            let before = self.warp.issued;
            let (count, more) = self.run_split(split, quantum - executed)?;
            self.warp.issued = before + u64::from(count);
            executed += count;
            if !more {
                break;
            }
        }
        Ok(executed)
    }

    /// Groups whose barrier has opened go on.
    fn wake(&mut self) {
        for i in 0..self.warp.splits.len() {
            let split = self.warp.splits[i];
            self.pc = split.pc;
            match split.wait {
                Wait::Barrier { id, phase } if self.barrier_phase(id) != phase => {
                    let last = self.cluster.ctas[self.warp.cta].barriers[id as usize].last;
                    let inst = &self.kernel.code[split.pc as usize];
                    if let Op::Barrier(BarrierOp::Reduce { op, .. }) = inst.op {
                        let dest = self.kernel.operands[inst.operands as usize];
                        super::barrier::write_reduction(
                            &mut self.warp.registers,
                            op,
                            dest,
                            split.mask,
                            last,
                        );
                    }
                    self.observe_barrier_wait(id, phase, split.mask);
                }
                Wait::Cluster { phase } if self.cluster.phase != phase => {
                    self.observe_cluster_wait(phase, split.mask);
                }
                Wait::Mbarrier { address, phase } => {
                    // A barrier that is none any more is the waiting thread's fault.
                    if self.cluster.barrier(address).map_or(true, |it| it.phase != phase) {
                        self.warp.splits[i].wait = Wait::Ready;
                    }
                    continue;
                }
                Wait::Product { number } => {
                    let group = self.warp.index as usize / 4;
                    let group = &self.cluster.ctas[self.warp.cta].warpgroups[group];
                    if group.missing(number).is_empty() {
                        self.warp.splits[i].wait = Wait::Ready;
                    }
                    continue;
                }
                Wait::Grid => {
                    if self.grid.shape.front.as_ref().is_none_or(GridEnd::has_come) {
                        self.warp.splits[i].wait = Wait::Ready;
                    }
                    continue;
                }
                Wait::Registers { count } => {
                    if self.cluster.ctas[self.warp.cta].free_registers >= count {
                        self.warp.splits[i].wait = Wait::Ready;
                    }
                    continue;
                }
                _ => continue,
            }
            let split = &mut self.warp.splits[i];
            split.wait = Wait::Ready;
            split.pc += 1;
        }
    }

    fn barrier_phase(&self, id: u8) -> u32 {
        self.cluster.ctas[self.warp.cta].barriers[id as usize].phase
    }

    /// Runs a group until it waits, ends, could join another, or `quantum` is used up. The second
    /// result says whether the warp's turn goes on.
    fn run_split(&mut self, split: Split, quantum: u32) -> Result<(u32, bool), Trap> {
        let Split { mut pc, mut mask, turn, .. } = split;
        let kernel = self.kernel;
        let mut stop = self.warp.next_stop(pc);
        let mut executed = 0;
        let before = self.warp.issued;
        let mut watched = self.warp.flight.is_watched();
        loop {
            if pc >= stop {
                self.put(pc, mask, Wait::Ready, turn);
                return Ok((executed, true));
            }
            if executed == quantum {
                self.end_turn(pc, mask);
                return Ok((executed, false));
            }
            if !watched {
                let end = stop.min(pc + (quantum - executed));
                let passed = self.run_rows(pc, end, mask);
                if passed > 0 {
                    pc += passed;
                    executed += passed;
                    continue;
                }
            }
            let inst = &kernel.code[pc as usize];
            executed += 1;
            self.grid.executed[pc as usize] += 1;
            let active = match inst.guard {
                None => mask,
                Some(guard) => {
                    let bits = self.warp.registers.pred(guard.predicate);
                    mask & if guard.negated { !bits } else { bits }
                }
            };
            if watched && active != 0 {
                self.pc = pc;
                self.watch(inst, active)?;
            }
            match inst.op {
                _ if active == 0 => pc += 1,
                Op::Map(run) => {
                    let operands = kernel.operands[inst.operands as usize..].as_ptr().cast::<u32>();
                    // SAFETY: the loader matched the registers' classes with the row's, the
                    // allocator placed them in the file, and `Row::run` chose by the processor.
                    unsafe { run(self.warp.registers.as_mut_ptr(), operands, active) };
                    pc += 1;
                }
                Op::Bra(target) => {
                    let rest = mask & !active;
                    if rest != 0 {
                        // The lower instruction goes first.
                        let (next, later) = if target <= pc {
                            ((target, active), (pc + 1, rest))
                        } else {
                            ((pc + 1, rest), (target, active))
                        };
                        self.put(later.0, later.1, Wait::Ready, turn);
                        (pc, mask) = next;
                    } else {
                        pc = target;
                    }
                    stop = self.warp.next_stop(pc);
                    if self.stands_at(pc) {
                        stop = pc;
                    }
                }
                Op::Exit => {
                    self.pc = pc;
                    self.warp.issued = before + u64::from(executed);
                    self.end_threads(active)?;
                    mask &= !active;
                    if mask == 0 {
                        return Ok((executed, true));
                    }
                    pc += 1;
                    stop = self.warp.next_stop(pc - 1);
                }
                _ => {
                    self.pc = pc;
                    self.warp.issued = before + u64::from(executed);
                    match self.step(inst, active)? {
                        Flow::Next => pc += 1,
                        Flow::Yield => {
                            self.end_turn(pc + 1, mask);
                            return Ok((executed, false));
                        }
                        Flow::Wait(wait) => {
                            if let Wait::Converge(_) | Wait::Registers { .. } | Wait::Grid = wait {
                                // It will be run again, and is counted then.
                                self.grid.executed[pc as usize] -= 1;
                            }
                            self.put(pc, active, wait, turn);
                            mask &= !active;
                            pc += 1;
                        }
                        Flow::Partly(done, wait) => {
                            self.put(pc, active & !done, wait, turn);
                            mask &= !(active & !done);
                            pc += 1;
                        }
                    }
                    if mask == 0 {
                        return Ok((executed, true));
                    }
                    stop = self.warp.next_stop(pc - 1);
                    watched = self.warp.flight.is_watched();
                }
            }
        }
    }

    /// Runs rows of the table without a guard from `first` on, up to `end`, and returns how many.
    #[inline]
    fn run_rows(&mut self, first: u32, end: u32, mask: u32) -> u32 {
        let kernel = self.kernel;
        let end = (end as usize).min(kernel.code.len());
        let first = first as usize;
        let registers = self.warp.registers.as_mut_ptr();
        let counts = &mut self.grid.executed[first..end];
        let mut passed = 0;
        for (inst, count) in kernel.code[first..end].iter().zip(counts) {
            let (Op::Map(run), None) = (inst.op, inst.guard) else { break };
            let operands = kernel.operands[inst.operands as usize..].as_ptr().cast::<u32>();
            // SAFETY: the loader matched the registers' classes with the row's, the allocator placed
            // them in the file, and `Row::run` chose by the processor.
            unsafe { run(registers, operands, mask) };
            *count += 1;
            passed += 1;
        }
        passed
    }

    fn stands_at(&self, pc: u32) -> bool {
        self.warp.splits.iter().any(|split| split.pc == pc && split.is_open())
    }

    fn put(&mut self, pc: u32, mask: u32, wait: Wait, turn: u32) {
        self.warp.splits.push(Split { pc, mask, wait, turn });
    }

    /// The warp's turn ends although its group could go on.
    fn end_turn(&mut self, pc: u32, mask: u32) {
        self.warp.rotate = true;
        self.warp.turns = self.warp.turns.wrapping_add(1);
        self.put(pc, mask, Wait::Ready, self.warp.turns);
    }

    fn end_threads(&mut self, mask: u32) -> Result<(), Trap> {
        self.warp.alive &= !mask;
        if self.warp.alive == 0 {
            self.log(Event::End);
            self.check_landed(mask.trailing_zeros())?;
        }
        self.cluster.progress = true;
        self.warp.retry();
        let cta = &mut self.cluster.ctas[self.warp.cta];
        cta.alive -= mask.count_ones();
        let alive = cta.alive;
        for barrier in &mut cta.barriers {
            barrier.try_complete(alive);
        }
        self.cluster.try_complete();
        Ok(())
    }

    /// Everything but rows, jumps and ends.
    fn step(&mut self, inst: &Inst, active: u32) -> Result<Flow, Trap> {
        let lane = active.trailing_zeros();
        match inst.op {
            Op::Load(access) => self.load(inst, &access, active),
            Op::Store(access) => self.store(inst, &access, active),
            Op::Atom(atom) => self.atomic(inst, &atom, active),
            Op::Multimem(multimem) => self.multimem(inst, &multimem, active),
            Op::Warp(op) => self.warp_op(inst, op, active),
            Op::Barrier(op) => self.barrier(inst, op, active),
            Op::Mbarrier(op) => self.mbarrier(inst, op, active),
            Op::Matrix(op) => {
                if active == self.warp.alive {
                    self.tally_matrix(inst, op);
                }
                self.matrix(inst, op, active)
            }
            Op::Async(op) => self.engine(inst, op, active),
            Op::SetRegisters(count) => self.set_registers(count, active),
            Op::Fence(fence) => {
                self.observe_fence(fence, active);
                Ok(Flow::Next)
            }
            Op::Clock { nanoseconds, wide } => {
                let value = self.grid.clock(nanoseconds);
                let dest = self.def(inst, 0);
                for lane in super::lanes_of(active) {
                    match wide {
                        true => self.warp.registers.r64_mut(dest)[lane] = value,
                        false => self.warp.registers.r32_mut(dest)[lane] = value as u32,
                    }
                }
                Ok(Flow::Next)
            }
            Op::Nanosleep => {
                let time = self.warp.registers.r32(self.used(inst, 0))[lane as usize];
                self.grid.sleep(time);
                Ok(Flow::Yield)
            }
            Op::GridWait => Ok(match &self.grid.shape.front {
                Some(front) if !front.has_come() => Flow::Wait(Wait::Grid),
                _ => Flow::Next,
            }),
            Op::LaunchDependents => {
                self.cta().lets_dependents_begin = true;
                self.grid.lets_dependents_begin = true;
                Ok(Flow::Next)
            }
            Op::Printf => self.printf(inst, active),
            Op::AssertFail => Err(self.assert_fail(inst, active)),
            Op::Trap => Err(Trap::new(FaultKind::Trap, lane)),
            Op::Nop | Op::Map(_) | Op::Bra(_) | Op::Exit => Ok(Flow::Next),
        }
    }

    /// Destination `i`.
    pub(super) fn def(&self, inst: &Inst, i: usize) -> Reg {
        self.kernel.operands[inst.operands as usize + i]
    }

    /// Source `i`.
    pub(super) fn used(&self, inst: &Inst, i: usize) -> Reg {
        self.kernel.operands[inst.operands as usize + usize::from(inst.num_defs) + i]
    }

    pub(super) fn cta(&mut self) -> &mut Cta {
        &mut self.cluster.ctas[self.warp.cta]
    }
}
