//! Instructions between the threads of a warp, barriers and fences.

use super::alu::operand;
use super::atomics::atomic_op;
use super::builder::{Builder, Gap};
use super::inst::{BarrierOp, Fence, Op, Reduction, Reg, Scope, Shuffle, Vote, WarpOp};
use crate::ops::Class;
use crate::ptx::ast::{Instruction, Operand};

/// All that may stand behind `fence` and `membar`.
const FENCE_PARTS: &[&str] = &[
    "sc",
    "acq_rel",
    "acquire",
    "release",
    "cta",
    "cluster",
    "gpu",
    "sys",
    "gl",
    "proxy",
    "alias",
    "async",
    "async::generic",
    "tensormap::generic",
    "mbarrier_init",
    "global",
    "shared::cta",
    "shared::cluster",
    "sync_restrict::shared::cta",
    "sync_restrict::shared::cluster",
];

impl<'p, 'a> Builder<'p, 'a> {
    pub(super) fn warp(&mut self, it: &'p Instruction<'a>) -> Result<(), Gap> {
        let parts: Vec<&str> = it.opcode.split('.').collect();
        let (first, second) = match operand(it, 0)? {
            Operand::Pair(first, second) => (&**first, Some(&**second)),
            single => (single, None),
        };
        match parts[0] {
            "shfl" => self.shuffle(it, &parts, first, second),
            "vote" => self.vote(it, &parts, first),
            "match" => self.match_members(it, &parts, first, second),
            "redux" => {
                let op = atomic_op(&parts)?;
                if parts[parts.len() - 1] == "f32" {
                    return Err(format!("vgpu has no `{}`", it.opcode));
                }
                let signed = parts[parts.len() - 1] == "s32";
                let value = self.source(operand(it, 1)?, Class::R32, signed)?;
                let members = self.source(operand(it, 2)?, Class::R32, false)?;
                self.one_dest(WarpOp::Redux { op, signed }, first, &[value, members])
            }
            "elect" => {
                let members = self.source(operand(it, 1)?, Class::R32, false)?;
                let leader = self.dest(first, Class::R32, false)?;
                let elected = self.second_dest(second)?;
                self.emit(Op::Warp(WarpOp::Elect), &[leader.reg, elected], &[members]);
                self.finish(leader)
            }
            _ => self.one_dest(WarpOp::ActiveMask, first, &[]),
        }
    }

    fn one_dest(&mut self, op: WarpOp, dest: &Operand<'a>, uses: &[Reg]) -> Result<(), Gap> {
        let dest = self.dest(dest, Class::R32, false)?;
        self.emit(Op::Warp(op), &[dest.reg], uses);
        self.finish(dest)
    }

    /// The predicate behind `|`, or one that nobody reads.
    fn second_dest(&mut self, second: Option<&Operand<'a>>) -> Result<Reg, Gap> {
        match second {
            Some(operand) => Ok(self.dest(operand, Class::Pred, false)?.reg),
            None => Ok(self.temp(Class::Pred)),
        }
    }

    fn shuffle(
        &mut self,
        it: &'p Instruction<'a>,
        parts: &[&str],
        first: &Operand<'a>,
        second: Option<&Operand<'a>>,
    ) -> Result<(), Gap> {
        let mode = match parts.get(2) {
            Some(&"up") => Shuffle::Up,
            Some(&"down") => Shuffle::Down,
            Some(&"bfly") => Shuffle::Butterfly,
            Some(&"idx") => Shuffle::Index,
            _ => return Err(format!("vgpu has no `{}`", it.opcode)),
        };
        let mut uses = Vec::with_capacity(4);
        for i in 1..=4 {
            uses.push(self.source(operand(it, i)?, Class::R32, false)?);
        }
        let dest = self.dest(first, Class::R32, false)?;
        let in_range = self.second_dest(second)?;
        self.emit(Op::Warp(WarpOp::Shuffle(mode)), &[dest.reg, in_range], &uses);
        self.finish(dest)
    }

    fn vote(
        &mut self,
        it: &'p Instruction<'a>,
        parts: &[&str],
        dest: &Operand<'a>,
    ) -> Result<(), Gap> {
        let (vote, class) = match parts.get(2) {
            Some(&"all") => (Vote::All, Class::Pred),
            Some(&"any") => (Vote::Any, Class::Pred),
            Some(&"uni") => (Vote::Uniform, Class::Pred),
            Some(&"ballot") => (Vote::Ballot, Class::R32),
            _ => return Err(format!("vgpu has no `{}`", it.opcode)),
        };
        let predicate = self.source(operand(it, 1)?, Class::Pred, false)?;
        let members = self.source(operand(it, 2)?, Class::R32, false)?;
        let dest = self.dest(dest, class, false)?;
        self.emit(Op::Warp(WarpOp::Vote(vote)), &[dest.reg], &[predicate, members]);
        self.finish(dest)
    }

    fn match_members(
        &mut self,
        it: &'p Instruction<'a>,
        parts: &[&str],
        first: &Operand<'a>,
        second: Option<&Operand<'a>>,
    ) -> Result<(), Gap> {
        let all = parts.get(1) == Some(&"all");
        let wide = parts[parts.len() - 1] == "b64";
        let class = if wide { Class::R64 } else { Class::R32 };
        let value = self.source(operand(it, 1)?, class, false)?;
        let members = self.source(operand(it, 2)?, Class::R32, false)?;
        let dest = self.dest(first, Class::R32, false)?;
        let agree = self.second_dest(second)?;
        self.emit(Op::Warp(WarpOp::Match { all, wide }), &[dest.reg, agree], &[value, members]);
        self.finish(dest)
    }

    /// `bar`, `barrier`, `bar.warp.sync`, `barrier.cluster`.
    pub(super) fn barrier(&mut self, it: &'p Instruction<'a>) -> Result<(), Gap> {
        let parts: Vec<&str> = it.opcode.split('.').collect();
        if parts.get(1) == Some(&"warp") {
            let members = self.source(operand(it, 0)?, Class::R32, false)?;
            self.emit(Op::Warp(WarpOp::Sync), &[], &[members]);
            return Ok(());
        }
        let aligned = parts[0] == "bar" || parts.contains(&"aligned");
        if parts.get(1) == Some(&"cluster") {
            let op = match parts.get(2) {
                Some(&"arrive") => {
                    BarrierOp::ClusterArrive { aligned, relaxed: parts.contains(&"relaxed") }
                }
                Some(&"wait") => BarrierOp::ClusterWait { aligned },
                _ => return Err(format!("vgpu has no `{}`", it.opcode)),
            };
            self.emit(Op::Barrier(op), &[], &[]);
            return Ok(());
        }
        match parts.iter().copied().find(|part| matches!(*part, "sync" | "arrive" | "red")) {
            Some("red") => self.barrier_reduce(it, &parts, aligned),
            Some(kind) => {
                let mut uses = Vec::new();
                for operand in &it.operands {
                    uses.push(self.source(operand, Class::R32, false)?);
                }
                if uses.is_empty() || uses.len() > 2 || (kind == "arrive" && uses.len() < 2) {
                    return Err("the wrong number of operands".into());
                }
                let op = match kind {
                    "arrive" => BarrierOp::Arrive { aligned },
                    _ => BarrierOp::Sync { aligned, counted: uses.len() == 2 },
                };
                self.emit(Op::Barrier(op), &[], &uses);
                Ok(())
            }
            None => Err(format!("vgpu has no `{}`", it.opcode)),
        }
    }

    fn barrier_reduce(
        &mut self,
        it: &'p Instruction<'a>,
        parts: &[&str],
        aligned: bool,
    ) -> Result<(), Gap> {
        let (op, class) = match parts {
            _ if parts.contains(&"popc") => (Reduction::Count, Class::R32),
            _ if parts.contains(&"and") => (Reduction::And, Class::Pred),
            _ if parts.contains(&"or") => (Reduction::Or, Class::Pred),
            _ => return Err(format!("vgpu has no `{}`", it.opcode)),
        };
        let counted = it.operands.len() == 4;
        let mut uses = vec![self.source(operand(it, 1)?, Class::R32, false)?];
        if counted {
            uses.push(self.source(operand(it, 2)?, Class::R32, false)?);
        }
        uses.push(self.source(operand(it, it.operands.len() - 1)?, Class::Pred, false)?);
        let dest = self.dest(operand(it, 0)?, class, false)?;
        self.emit(Op::Barrier(BarrierOp::Reduce { op, aligned, counted }), &[dest.reg], &uses);
        self.finish(dest)
    }

    /// The machine's memory is sequential: fences are there for the checkers.
    pub(super) fn fence(&mut self, it: &'p Instruction<'a>) -> Result<(), Gap> {
        let parts: Vec<&str> = it.opcode.split('.').skip(1).collect();
        if !parts.iter().all(|part| FENCE_PARTS.contains(part)) {
            return Err(format!("vgpu has no `{}`", it.opcode));
        }
        if let Some(place) = it.operands.first() {
            self.address(place)?;
        }
        let has = |name: &str| parts.contains(&name);
        let op = if has("proxy") {
            match has("async") || has("async::generic") {
                true => Op::Fence(Fence::AsyncProxy),
                false => Op::Nop,
            }
        } else if has("mbarrier_init") {
            Op::Fence(Fence::MbarrierInit)
        } else {
            Op::Fence(Fence::Memory(match () {
                () if has("cta") => Scope::Cta,
                () if has("cluster") => Scope::Cluster,
                () if has("sys") => Scope::Sys,
                () => Scope::Gpu,
            }))
        };
        self.emit(op, &[], &[]);
        Ok(())
    }

    /// `griddepcontrol` and `setmaxnreg`.
    pub(super) fn schedule(&mut self, it: &'p Instruction<'a>) -> Result<(), Gap> {
        match &*it.opcode {
            "griddepcontrol.wait" => self.emit(Op::GridWait, &[], &[]),
            "griddepcontrol.launch_dependents" => self.emit(Op::LaunchDependents, &[], &[]),
            "setmaxnreg.inc.sync.aligned.u32" | "setmaxnreg.dec.sync.aligned.u32" => {
                let count = operand(it, 0)?.int().unwrap_or(0);
                if !(24..=256).contains(&count) || !count.is_multiple_of(8) {
                    return Err("a count that is not 24 to 256 in steps of 8".into());
                }
                self.emit(Op::SetRegisters(count as u32), &[], &[]);
            }
            _ => return Err(format!("vgpu has no `{}`", it.opcode)),
        }
        Ok(())
    }
}
