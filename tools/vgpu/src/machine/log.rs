//! What each warp of a cluster did that others wait for, or that takes long: what a timeline is made of.

use std::collections::HashMap;

use super::cluster::ClusterState;
use super::exec::Exec;
use super::grid::{Grid, split};
use super::lanes_of;
use super::transfer::{Transfer, Work};
use crate::program::Kernel;
use crate::program::engine::GroupKind;
use crate::program::inst::Op;
use crate::program::matrix::{MatrixOp, Wgmma};
use crate::timeline::Timeline;

/// Where warps wait for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Meeting {
    /// The mbarrier at a shared address.
    Mbarrier(u32),
    /// A barrier of a block.
    Named { cta: usize, id: u8 },
    /// The cluster's barrier.
    Cluster,
}

/// Something that a warp did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// It issued its part of a product.
    Product { group: u32, op: Wgmma },
    /// It knows its products of the groups before `limit` to be over.
    Products { limit: u32 },
    /// It arrived, with effect on a phase.
    Arrival { at: Meeting, phase: u32 },
    /// It went on behind a phase.
    Wait { at: Meeting, phase: u32 },
    /// It issued a copy, which arrives for it, or is in a group.
    Copy { bytes: u64, signals: Vec<(Meeting, u32)>, group: Option<(GroupKind, u32)> },
    /// It knows its copies of the groups before `limit` to be over.
    Copies { kind: GroupKind, limit: u32 },
    /// It ended.
    End,
}

/// An event, with its instruction and the instructions of the warp before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub at: u64,
    pub pc: u32,
    pub event: Event,
}

/// The events of a cluster.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    /// By the warps' numbers.
    pub warps: Vec<Vec<Entry>>,
    /// Phases that each mbarrier has ended.
    phases: HashMap<u32, u32>,
}

impl Log {
    pub fn new(num_warps: usize) -> Self {
        Log { warps: vec![Vec::new(); num_warps], phases: HashMap::new() }
    }

    fn phase(&self, address: u32) -> u32 {
        self.phases.get(&address).copied().unwrap_or(0)
    }

    /// An mbarrier ends a phase.
    pub fn end_phase(&mut self, address: u32) {
        *self.phases.entry(address).or_default() += 1;
    }
}

/// Where a log's warps and instructions are.
pub(crate) struct LogPlace<'k> {
    /// Positions of the cluster's blocks.
    pub blocks: &'k [[u32; 3]],
    pub kernel: &'k Kernel,
}

impl LogPlace<'_> {
    /// Line of an instruction in the PTX text.
    pub fn line(&self, pc: u32) -> u32 {
        self.kernel.sites[pc as usize].line
    }
}

impl Grid<'_> {
    /// When the first cluster would do what, if that was asked for.
    pub(crate) fn timeline(&self) -> Option<Timeline> {
        let num_blocks = self.shape.cluster.iter().product::<u32>();
        let blocks: Vec<[u32; 3]> =
            (0..num_blocks).map(|rank| split(rank.into(), self.shape.cluster)).collect();
        let place = LogPlace { blocks: &blocks, kernel: self.kernel };
        Some(Timeline::new(self.log.as_ref()?, &place))
    }
}

impl ClusterState {
    fn mbarrier_phase(&self, address: u32) -> u32 {
        self.log.as_ref().map_or(0, |log| log.phase(address))
    }
}

impl Exec<'_, '_> {
    pub(super) fn is_logged(&self) -> bool {
        self.cluster.log.is_some()
    }

    /// Writes down what the warp does now.
    pub(super) fn log(&mut self, event: Event) {
        let (at, pc) = (self.warp.issued, self.pc);
        if let Some(log) = &mut self.cluster.log {
            log.warps[self.warp.number].push(Entry { at, pc, event });
        }
    }

    pub(super) fn log_product(&mut self) {
        let Op::Matrix(MatrixOp::Wgmma(op)) = self.kernel.code[self.pc as usize].op else { return };
        let group = self.warp.flight.num_committed;
        self.log(Event::Product { group, op });
    }

    pub(super) fn log_mbarrier_arrival(&mut self, address: u32) {
        let phase = self.cluster.mbarrier_phase(address);
        self.log(Event::Arrival { at: Meeting::Mbarrier(address), phase });
    }

    /// A wait for the phase before the present one has ended; a barrier in its first phase had none before.
    pub(super) fn log_mbarrier_wait(&mut self, address: u32) {
        if let Some(phase) = self.cluster.mbarrier_phase(address).checked_sub(1) {
            self.log(Event::Wait { at: Meeting::Mbarrier(address), phase });
        }
    }

    pub(super) fn log_transfer(&mut self, transfer: &Transfer) {
        if !self.is_logged() {
            return;
        }
        let bytes = match &transfer.work {
            Work::Nothing => 0,
            Work::Pieces(pieces) => pieces.iter().map(|it| u64::from(it.bytes + it.fill)).sum(),
            Work::Load { tile, .. } | Work::Store { tile, .. } => tile.map.box_bytes().into(),
        };
        let barriers = transfer.signals.iter().map(|it| it.barrier());
        let signals = barriers.map(|it| (Meeting::Mbarrier(it), self.cluster.mbarrier_phase(it)));
        let lane = transfer.lanes.trailing_zeros() as usize;
        let group = transfer.group.map(|kind| (kind, transfer.groups[lane]));
        let event = Event::Copy { bytes, signals: signals.collect(), group };
        self.log(event);
    }

    pub(super) fn log_group_wait(&mut self, kind: GroupKind, keep: Option<u32>, active: u32) {
        let Some(lane) = lanes_of(active).next() else { return };
        let commits = self.warp.commits[kind as usize][lane];
        let limit = keep.map_or(u32::MAX, |keep| commits.saturating_sub(keep));
        self.log(Event::Copies { kind, limit });
    }
}
