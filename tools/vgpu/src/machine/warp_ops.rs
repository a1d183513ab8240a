//! Instructions between the threads of a warp.

use super::atomic::apply_integer;
use super::exec::Exec;
use super::warp::Wait;
use super::{Flow, Trap, lanes_of};
use crate::ops::LANES;
use crate::program::Inst;
use crate::program::inst::{Shuffle, Vote, WarpOp};

impl Exec<'_, '_> {
    pub(super) fn warp_op(&mut self, inst: &Inst, op: WarpOp, active: u32) -> Result<Flow, Trap> {
        if op == WarpOp::ActiveMask {
            let dest = self.def(inst, 0);
            let row = self.warp.registers.r32_mut(dest);
            lanes_of(active).for_each(|lane| row[lane] = active);
            return Ok(Flow::Next);
        }
        let members_at = usize::from(inst.num_uses) - 1;
        let members = *self.warp.registers.r32(self.used(inst, members_at));
        // Threads that name the same members form a group; it goes on when all of them are here.
        let (mut done, mut left, mut wait) = (0, active, Wait::Ready);
        while left != 0 {
            let lane = left.trailing_zeros();
            let named = members[lane as usize];
            let group = lanes_of(left).filter(|i| members[*i] == named);
            let group = group.fold(0, |mask, i| mask | 1 << i);
            if group & !named != 0 {
                let message = format!("a thread outside of its own member mask {named:#010x}");
                return Err(Trap::misuse(message, (group & !named).trailing_zeros()));
            }
            left &= !group;
            // Threads that have ended count as present.
            let missing = named & self.warp.alive & !group;
            if missing == 0 {
                self.execute(inst, op, group);
                done |= group;
            } else if op == WarpOp::Sync && self.meet_elsewhere(group, named) {
                done |= group;
            } else if op == WarpOp::Sync {
                wait = Wait::WarpSync(named);
            } else {
                wait = Wait::Converge(named);
            }
        }
        Ok(match done {
            0 => Flow::Wait(wait),
            _ if done == active => Flow::Next,
            _ => Flow::Partly(done, wait),
        })
    }

    /// Threads that wait at another `bar.warp.sync` complete the group: they all go on.
    fn meet_elsewhere(&mut self, group: u32, named: u32) -> bool {
        let waiting = |wait: &Wait| matches!(wait, Wait::WarpSync(members) if *members == named);
        let others = self.warp.splits.iter().filter(|split| waiting(&split.wait));
        let present = others.fold(group, |mask, split| mask | split.mask);
        let complete = named & self.warp.alive & !present == 0;
        if complete {
            self.observe_warp_sync(present);
            for split in self.warp.splits.iter_mut().filter(|split| waiting(&split.wait)) {
                split.pc += 1;
                split.wait = Wait::Ready;
            }
        }
        complete
    }

    /// Executes for a complete group.
    fn execute(&mut self, inst: &Inst, op: WarpOp, group: u32) {
        match op {
            WarpOp::Shuffle(mode) => self.shuffle(inst, mode, group),
            WarpOp::Vote(vote) => self.vote(inst, vote, group),
            WarpOp::Match { all, wide } => self.match_values(inst, all, wide, group),
            WarpOp::Redux { op, signed } => {
                let values = *self.warp.registers.r32(self.used(inst, 0));
                let combined = lanes_of(group).map(|lane| u64::from(values[lane]));
                let result = combined.reduce(|a, b| apply_integer(op, a, b, false, signed));
                self.write_all(inst, result.unwrap_or(0) as u32, group);
            }
            WarpOp::Elect => {
                let leader = group.trailing_zeros();
                self.write_all(inst, leader, group);
                let elected = self.def(inst, 1);
                self.warp.registers.set_pred(elected, 1 << leader, group);
            }
            WarpOp::Sync => self.observe_warp_sync(group),
            WarpOp::ActiveMask => {}
        }
    }

    fn write_all(&mut self, inst: &Inst, value: u32, group: u32) {
        let dest = self.def(inst, 0);
        let row = self.warp.registers.r32_mut(dest);
        lanes_of(group).for_each(|lane| row[lane] = value);
    }

    /// PTX ISA, `shfl.sync`: `c` holds the clamp in bits 0-4 and the segment mask in bits 8-12.
    fn shuffle(&mut self, inst: &Inst, mode: Shuffle, group: u32) {
        let registers = &self.warp.registers;
        let values = *registers.r32(self.used(inst, 0));
        let sources = *registers.r32(self.used(inst, 1));
        let clamps = *registers.r32(self.used(inst, 2));
        let mut out = [0; LANES];
        let mut in_range = 0;
        for lane in lanes_of(group) {
            let i = lane as u32;
            let (b, clamp, segment) =
                (sources[lane] & 31, clamps[lane] & 31, clamps[lane] >> 8 & 31);
            let max = i & segment | clamp & !segment;
            let min = i & segment;
            let (from, ok) = match mode {
                Shuffle::Up => (i.wrapping_sub(b), i as i32 - b as i32 >= max as i32),
                Shuffle::Down => (i + b, i + b <= max),
                Shuffle::Butterfly => (i ^ b, i ^ b <= max),
                Shuffle::Index => (min | b & !segment, (min | b & !segment) <= max),
            };
            let from = if ok { from } else { i };
            out[lane] = values[from as usize & 31];
            in_range |= u32::from(ok) << i;
        }
        let (dest, predicate) = (self.def(inst, 0), self.def(inst, 1));
        let row = self.warp.registers.r32_mut(dest);
        lanes_of(group).for_each(|lane| row[lane] = out[lane]);
        self.warp.registers.set_pred(predicate, in_range, group);
    }

    fn vote(&mut self, inst: &Inst, vote: Vote, group: u32) {
        let trues = self.warp.registers.pred(self.used(inst, 0)) & group;
        let result = match vote {
            Vote::Ballot => return self.write_all(inst, trues, group),
            Vote::All => trues == group,
            Vote::Any => trues != 0,
            Vote::Uniform => trues == group || trues == 0,
        };
        let dest = self.def(inst, 0);
        self.warp.registers.set_pred(dest, if result { u32::MAX } else { 0 }, group);
    }

    fn match_values(&mut self, inst: &Inst, all: bool, wide: bool, group: u32) {
        let source = self.used(inst, 0);
        let value = |lane: usize| match wide {
            true => self.warp.registers.r64(source)[lane],
            false => self.warp.registers.r32(source)[lane].into(),
        };
        let mut out = [0u32; LANES];
        for lane in lanes_of(group) {
            let same = lanes_of(group).filter(|other| value(*other) == value(lane));
            out[lane] = same.fold(0, |mask, other| mask | 1 << other);
        }
        let agree = lanes_of(group).all(|lane| out[lane] == group);
        let (dest, predicate) = (self.def(inst, 0), self.def(inst, 1));
        let row = self.warp.registers.r32_mut(dest);
        for lane in lanes_of(group) {
            row[lane] = if all && !agree { 0 } else { out[lane] };
        }
        self.warp.registers.set_pred(predicate, if agree { u32::MAX } else { 0 }, group);
    }
}
