//! Issues asynchronous work, and waits for it.

use super::exec::Exec;
use super::transfer::{LateFault, Piece, Signal, Transfer, Work};
use super::{Flow, Trap, lanes_of};
use crate::asynchrony::Asynchrony;
use crate::fault::FaultKind;
use crate::ops::LANES;
use crate::program::engine::{AsyncOp, Combine, GroupKind};
use crate::program::{Inst, SHARED_WINDOW};

impl Exec<'_, '_> {
    pub(super) fn engine(&mut self, inst: &Inst, op: AsyncOp, active: u32) -> Result<Flow, Trap> {
        match op {
            AsyncOp::Copy { bytes } => self.copy(inst, bytes.into(), active)?,
            AsyncOp::Bulk { signals, multicast, combine } => {
                for lane in lanes_of(active) {
                    self.bulk(inst, signals, multicast, combine, lane)?;
                }
            }
            AsyncOp::Store { class, bytes, vector, combine } => {
                for lane in lanes_of(active) {
                    let to = self.operand(inst, 0, lane);
                    let barrier = self.shared_address(self.operand(inst, 1, lane), lane)?;
                    let mut values = Vec::with_capacity(16);
                    for i in 0..usize::from(vector) {
                        let value = self.warp.registers.get(class, self.used(inst, 2 + i), lane);
                        values.extend_from_slice(&value.to_le_bytes()[..usize::from(bytes)]);
                    }
                    let total = values.len() as u32;
                    aligned(to, total.into(), "st.async", lane)?;
                    let piece = Piece { from: to, to, bytes: total, fill: 0 };
                    let mut transfer = self.transfer(Work::Pieces(vec![piece]), 1 << lane);
                    transfer.staged = Some(values);
                    transfer.combine = combine;
                    transfer.signals = vec![Signal::Bytes { barrier, bytes: total }];
                    self.submit(transfer)?;
                }
            }
            AsyncOp::ArriveAfterCopies { counted } => {
                for lane in lanes_of(active) {
                    let barrier = self.shared_address(self.operand(inst, 0, lane), lane)?;
                    if !counted {
                        self.cluster
                            .update_barrier(barrier, super::mbarrier::Mbarrier::add_pending)
                            .map_err(|kind| Trap::new(kind, lane as u32))?;
                    }
                    let mut transfer = self.transfer(Work::Nothing, 1 << lane);
                    transfer.signals = vec![Signal::Arrive { barrier }];
                    self.submit(transfer)?;
                }
            }
            AsyncOp::Commit(kind) => {
                let commits = &mut self.warp.commits[kind as usize];
                lanes_of(active).for_each(|lane| commits[lane] += 1);
            }
            AsyncOp::Tensor(op) => self.tensor(inst, op, active)?,
            AsyncOp::WaitGroup { kind, keep, read } => self.wait_group(kind, keep, read, active)?,
        }
        Ok(Flow::Next)
    }

    /// One lane of a 64-bit source.
    pub(super) fn operand(&self, inst: &Inst, i: usize, lane: usize) -> u64 {
        self.warp.registers.r64(self.used(inst, i))[lane]
    }

    fn copy(&mut self, inst: &Inst, bytes: u32, active: u32) -> Result<(), Trap> {
        let mut pieces = Vec::with_capacity(LANES);
        for lane in lanes_of(active) {
            let (to, from) = (self.operand(inst, 0, lane), self.operand(inst, 1, lane));
            let source = self.warp.registers.r32(self.used(inst, 2))[lane].min(bytes);
            aligned(to, bytes.into(), "cp.async", lane)?;
            aligned(from, bytes.into(), "cp.async", lane)?;
            pieces.push(Piece { from, to, bytes: source, fill: bytes - source });
        }
        let mut transfer = self.transfer(Work::Pieces(pieces), active);
        transfer.group = Some(GroupKind::Copies);
        transfer.groups = self.warp.commits[GroupKind::Copies as usize];
        self.submit(transfer)
    }

    fn bulk(
        &mut self,
        inst: &Inst,
        signals: bool,
        multicast: bool,
        combine: Option<Combine>,
        lane: usize,
    ) -> Result<(), Trap> {
        let (to, from) = (self.operand(inst, 0, lane), self.operand(inst, 1, lane));
        let bytes = self.warp.registers.r32(self.used(inst, 2))[lane];
        for address in [to, from, bytes.into()] {
            aligned(address, 16, "cp.async.bulk", lane)?;
        }
        let piece = Piece { from, to, bytes, fill: 0 };
        let mut pieces = vec![piece];
        let mut told = Vec::new();
        if signals {
            let barrier = self.shared_address(self.operand(inst, 3, lane), lane)?;
            told.push(Signal::Bytes { barrier, bytes });
            if multicast {
                let mask = self.warp.registers.r32(self.used(inst, 4))[lane];
                let to = self.shared_address(to, lane)?;
                let targets = self.multicast(mask, to, lane)?;
                let generic = |to: u32| Piece { to: SHARED_WINDOW + u64::from(to), ..piece };
                pieces = targets.into_iter().map(generic).collect();
                told = self.multicast_signals(mask, barrier, bytes, lane)?;
            }
        }
        let mut transfer = self.transfer(Work::Pieces(pieces), 1 << lane);
        transfer.combine = combine;
        transfer.signals = told;
        if !signals {
            transfer.group = Some(GroupKind::Bulk);
            transfer.groups = self.warp.commits[GroupKind::Bulk as usize];
        }
        self.submit(transfer)
    }

    /// The same place in the blocks of a mask.
    pub(super) fn multicast(&self, mask: u32, at: u32, lane: usize) -> Result<Vec<u32>, Trap> {
        let blocks = self.cluster.ctas.len() as u32;
        if mask & 0xffff == 0 || (mask & 0xffff) >> blocks != 0 {
            let message = format!("a multicast to blocks {mask:#06x} of {blocks}");
            return Err(Trap::misuse(message, lane as u32));
        }
        Ok(lanes_of(mask & 0xffff).map(|rank| (rank as u32) << 24 | at & 0x00ff_ffff).collect())
    }

    /// Bytes that come at the same barrier of the blocks of a mask.
    pub(super) fn multicast_signals(
        &self,
        mask: u32,
        barrier: u32,
        bytes: u32,
        lane: usize,
    ) -> Result<Vec<Signal>, Trap> {
        let barriers = self.multicast(mask, barrier, lane)?;
        Ok(barriers.into_iter().map(|barrier| Signal::Bytes { barrier, bytes }).collect())
    }

    /// A transfer of this warp that is in no group.
    pub(super) fn transfer(&self, work: Work, lanes: u32) -> Transfer {
        Transfer {
            work,
            staged: None,
            combine: None,
            signals: Vec::new(),
            group: None,
            groups: [0; 32],
            warp: self.warp.number,
            lanes,
            pc: self.pc,
            born: self.cluster.turns,
        }
    }

    /// Starts a transfer; the launch's mode says whether it is over at once.
    pub(super) fn submit(&mut self, transfer: Transfer) -> Result<(), Trap> {
        self.tally_transfer(&transfer);
        self.observe_transfer(&transfer)?;
        let at_once = match self.grid.shape.asynchrony {
            Asynchrony::Earliest => true,
            Asynchrony::Latest => false,
            Asynchrony::Random(_) => self.grid.dice.roll(4) == 0,
        };
        if at_once {
            let done = self.cluster.complete(transfer, &mut self.grid.view);
            return done.map_err(|late| self.late(late));
        }
        self.cluster.pending.push(transfer);
        Ok(())
    }

    fn wait_group(
        &mut self,
        kind: GroupKind,
        keep: Option<u32>,
        read: bool,
        active: u32,
    ) -> Result<(), Trap> {
        let commits = self.warp.commits[kind as usize];
        self.observe_group_wait(kind, keep, read, active);
        let limit = commits.map(|count| keep.map_or(u32::MAX, |keep| count.saturating_sub(keep)));
        let mut at = 0;
        while let Some(transfer) = self.cluster.pending.get(at) {
            let mine = transfer.group == Some(kind) && transfer.warp == self.warp.number;
            let due = mine
                && lanes_of(transfer.lanes & active)
                    .any(|lane| transfer.groups[lane] < limit[lane]);
            if due && read {
                let staged = self.cluster.stage(at, &mut self.grid.view);
                staged.map_err(|late| self.late(late))?;
            }
            if due && !read {
                let done = self.cluster.finish(at, &mut self.grid.view);
                done.map_err(|late| self.late(late))?;
            } else {
                at += 1;
            }
        }
        Ok(())
    }

    /// A transfer's fault, placed where it was issued if that was in this warp.
    pub(super) fn late(&mut self, late: LateFault) -> Trap {
        if late.warp == self.warp.number {
            self.pc = late.pc;
        }
        Trap::from(late)
    }
}

/// Checks an address's alignment.
pub(super) fn aligned(address: u64, to: u64, access: &str, lane: usize) -> Result<(), Trap> {
    if address.is_multiple_of(to) {
        return Ok(());
    }
    let access = access.to_owned();
    Err(Trap::new(FaultKind::Misaligned { access, address, bytes: to }, lane as u32))
}
