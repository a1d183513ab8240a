//! Transfers: work that goes on beside the threads. A transfer first reads its source, then writes
//! its target, then signals.

use std::collections::HashSet;

use super::Earlier;
use super::atomic::{combine, update};
use super::cluster::ClusterState;
use super::grid::View;
use super::tensor::Tile;
use crate::fault::FaultKind;
use crate::program::engine::{Combine, GroupKind};
use crate::program::{LOCAL_WINDOW, SHARED_WINDOW};

/// Turns of a cluster after which a transfer completes in any case, so that threads that poll see it.
const MAX_AGE: u64 = 256;

/// A run of bytes; `fill` zeros follow at the target.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    /// Generic address.
    pub from: u64,
    /// Generic address.
    pub to: u64,
    pub bytes: u32,
    pub fill: u32,
}

/// What a transfer moves.
#[derive(Clone, Debug)]
pub(super) enum Work {
    /// Nothing: an arrival that waits for copies.
    Nothing,
    /// Runs of bytes.
    Pieces(Vec<Piece>),
    /// A box of a tensor to shared memory, perhaps of several CTAs.
    Load { tile: Box<Tile>, targets: Vec<u32> },
    /// Shared memory to a box of a tensor.
    Store { tile: Box<Tile>, from: u32 },
}

/// What an mbarrier is told at the end.
#[derive(Clone, Copy, Debug)]
pub(super) enum Signal {
    /// Bytes have come.
    Bytes { barrier: u32, bytes: u32 },
    /// A thread arrives.
    Arrive { barrier: u32 },
}

impl Signal {
    pub(super) fn barrier(self) -> u32 {
        match self {
            Signal::Bytes { barrier, .. } | Signal::Arrive { barrier } => barrier,
        }
    }
}

/// A transfer in progress.
#[derive(Clone, Debug)]
pub(super) struct Transfer {
    pub work: Work,
    /// The bytes, once they have been read.
    pub staged: Option<Vec<u8>>,
    pub combine: Option<Combine>,
    pub signals: Vec<Signal>,
    /// The kind of group that it belongs to, and the number of that group for each thread.
    pub group: Option<GroupKind>,
    pub groups: [u32; 32],
    /// Who issued it: position among the cluster's warps, threads, instruction.
    pub warp: usize,
    pub lanes: u32,
    pub pc: u32,
    /// Turn of the cluster in which it was issued.
    pub born: u64,
}

/// A fault of a transfer, and what is to blame.
#[derive(Debug)]
pub(super) struct LateFault {
    pub kind: FaultKind,
    pub warp: usize,
    pub lane: u32,
    pub pc: u32,
    /// What somebody did before, and where.
    pub related: Option<Box<(String, Earlier)>>,
}

impl ClusterState {
    /// Host address of a run of bytes at a generic address.
    pub(super) fn host(
        &mut self,
        view: &mut View,
        address: u64,
        bytes: u64,
        access: &str,
    ) -> Result<*mut u8, FaultKind> {
        let found = match address {
            SHARED_WINDOW..LOCAL_WINDOW => self.shared(address as u32, bytes),
            _ => view.find(address, bytes),
        };
        found.ok_or_else(|| FaultKind::OutOfBounds {
            access: format!("asynchronous {access}"),
            address,
            bytes,
            hint: String::new(),
        })
    }

    /// Completes the transfer at a place in the queue.
    pub(super) fn finish(&mut self, at: usize, view: &mut View) -> Result<(), LateFault> {
        let transfer = self.pending.remove(at);
        self.complete(transfer, view)
    }

    /// Reads, writes and signals.
    pub(super) fn complete(
        &mut self,
        mut transfer: Transfer,
        view: &mut View,
    ) -> Result<(), LateFault> {
        if matches!(transfer.work, Work::Nothing) {
            // An arrival after copies: those before it come first.
            let earlier = |other: &Transfer| {
                other.group == Some(GroupKind::Copies)
                    && other.warp == transfer.warp
                    && other.lanes & transfer.lanes != 0
                    && other.born <= transfer.born
            };
            while let Some(before) = self.pending.iter().position(earlier) {
                self.finish(before, view)?;
            }
        }
        self.progress = true;
        let result = match transfer.staged.take() {
            Some(bytes) => Ok(bytes),
            None => self.read(&transfer.work, view),
        };
        let result = result.and_then(|bytes| {
            self.write(&transfer, &bytes, view)?;
            transfer.signals.iter().try_for_each(|signal| self.signal(*signal))
        });
        result.map_err(|kind| transfer.blame(kind))
    }

    /// Reads the source of the transfer at a place in the queue, which may change from then on.
    pub(super) fn stage(&mut self, at: usize, view: &mut View) -> Result<(), LateFault> {
        let transfer = &self.pending[at];
        if transfer.staged.is_some() {
            return Ok(());
        }
        let work = transfer.work.clone();
        match self.read(&work, view) {
            Ok(bytes) => {
                self.pending[at].staged = Some(bytes);
                Ok(())
            }
            Err(kind) => Err(self.pending[at].blame(kind)),
        }
    }

    fn signal(&mut self, signal: Signal) -> Result<(), FaultKind> {
        match signal {
            Signal::Bytes { barrier, bytes } => {
                self.update_barrier(barrier, |it| it.expect(-i64::from(bytes)))?;
            }
            Signal::Arrive { barrier } => {
                self.update_barrier(barrier, |it| it.arrive(1))?;
            }
        }
        Ok(())
    }

    fn read(&mut self, work: &Work, view: &mut View) -> Result<Vec<u8>, FaultKind> {
        match work {
            Work::Nothing => Ok(Vec::new()),
            Work::Load { tile, .. } => self.read_tensor(tile, view),
            Work::Store { tile, from } => self.read_tile(tile, *from, view),
            Work::Pieces(pieces) => {
                let mut out = Vec::with_capacity(pieces.iter().map(|it| it.bytes as usize).sum());
                for piece in pieces.iter().filter(|piece| piece.bytes > 0) {
                    self.append(view, piece.from, piece.bytes, &mut out)?;
                }
                Ok(out)
            }
        }
    }

    /// Appends bytes of memory to `out`.
    pub(super) fn append(
        &mut self,
        view: &mut View,
        from: u64,
        bytes: u32,
        out: &mut Vec<u8>,
    ) -> Result<(), FaultKind> {
        let at = self.host(view, from, bytes.into(), "read")?;
        // SAFETY: `host` checked the bounds; `out` is the caller's own memory.
        out.extend_from_slice(unsafe { std::slice::from_raw_parts(at, bytes as usize) });
        Ok(())
    }

    fn write(
        &mut self,
        transfer: &Transfer,
        bytes: &[u8],
        view: &mut View,
    ) -> Result<(), FaultKind> {
        match &transfer.work {
            Work::Nothing => Ok(()),
            Work::Load { tile, targets } => {
                targets.iter().try_for_each(|target| self.fill_tile(tile, *target, bytes, view))
            }
            Work::Store { tile, .. } => self.write_tensor(tile, bytes, transfer.combine, view),
            Work::Pieces(pieces) => {
                let mut rest = bytes;
                for piece in pieces {
                    let (run, more) = rest.split_at(piece.bytes as usize);
                    rest = more;
                    self.put(view, piece.to, run, transfer.combine)?;
                    if piece.fill > 0 {
                        let zeros = vec![0; piece.fill as usize];
                        self.put(view, piece.to + u64::from(piece.bytes), &zeros, None)?;
                    }
                }
                Ok(())
            }
        }
    }

    /// Writes bytes to memory, or combines them with what is there.
    pub(super) fn put(
        &mut self,
        view: &mut View,
        to: u64,
        bytes: &[u8],
        reduction: Option<Combine>,
    ) -> Result<(), FaultKind> {
        if bytes.is_empty() {
            return Ok(());
        }
        let at = self.host(view, to, bytes.len() as u64, "write")?;
        if (SHARED_WINDOW..LOCAL_WINDOW).contains(&to) {
            self.check_write(to as u32, bytes.len() as u64)?;
        }
        let Some(reduction) = reduction else {
            // SAFETY: `host` checked the bounds; `bytes` is not part of the machine's memory.
            unsafe { at.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
            return Ok(());
        };
        let width = usize::from(reduction.bytes);
        if !to.is_multiple_of(width as u64) {
            let access = "asynchronous reduction".to_owned();
            return Err(FaultKind::Misaligned { access, address: to, bytes: width as u64 });
        }
        for (i, element) in bytes.chunks_exact(width).enumerate() {
            let mut value = [0; 16];
            value[..width].copy_from_slice(element);
            let value = u128::from_le_bytes(value);
            let Combine { op, number, bytes } = reduction;
            // SAFETY: `host` checked the bounds, the address is a multiple of the width.
            unsafe {
                update(at.add(i * width), width, |old| combine(op, number, bytes, old, value, 0));
            }
        }
        Ok(())
    }

    /// Completes transfers that are too old to go on unseen.
    pub(super) fn age(&mut self, view: &mut View) -> Result<(), LateFault> {
        while let Some(first) = self.pending.first()
            && first.born + MAX_AGE < self.turns
        {
            self.finish(0, view)?;
        }
        Ok(())
    }

    /// Completes transfers that signal one of the barriers, the youngest first, until one of those ends a phase: before,
    /// nobody could go on. If there is no such transfer, completes the oldest of all.
    pub(super) fn finish_wanted(
        &mut self,
        barriers: &HashSet<u32>,
        view: &mut View,
    ) -> Result<(), LateFault> {
        let phases = |state: &mut Self| -> Vec<Option<bool>> {
            barriers.iter().map(|at| state.barrier(*at).ok().map(|it| it.phase)).collect()
        };
        let before = phases(self);
        let signals = |it: &Transfer| it.signals.iter().any(|s| barriers.contains(&s.barrier()));
        let mut end = self.pending.len();
        let mut any = false;
        while let Some(at) = self.pending[..end.min(self.pending.len())].iter().rposition(signals) {
            self.finish(at, view)?;
            (end, any) = (at, true);
            if phases(self) != before {
                return Ok(());
            }
        }
        if !any && !self.pending.is_empty() {
            self.finish(0, view)?;
        }
        Ok(())
    }
}

impl Transfer {
    /// It will tell the mbarrier at an address.
    pub(super) fn signals_to(&self, address: u32) -> bool {
        self.signals.iter().any(|signal| signal.barrier() == address)
    }

    fn blame(&self, kind: FaultKind) -> LateFault {
        let lane = self.lanes.trailing_zeros();
        LateFault { kind, warp: self.warp, lane, pc: self.pc, related: None }
    }
}
