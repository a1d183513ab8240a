//! The state that the warps of a cluster share: shared memory and barriers.

use super::log::Log;
use super::operand::{KnownChunks, Pin};
use super::products::Warpgroup;
use super::transfer::Transfer;
use crate::check::ClusterCheck;
use crate::program::RESERVED_SHARED;

/// Barriers of a CTA.
pub(crate) const NUM_BARRIERS: usize = 16;

/// A named barrier.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Barrier {
    /// Threads that have arrived in this phase.
    pub arrived: u32,
    /// Threads that the phase waits for; 0 for all threads of the CTA.
    pub expected: u32,
    /// Phases that have ended.
    pub phase: u32,
    /// Of this phase's predicates: how many were true, and how many there were.
    pub trues: u32,
    pub predicates: u32,
    /// The same of the last phase.
    pub last: (u32, u32),
}

impl Barrier {
    /// Ends the phase if enough threads have arrived; `alive` are the CTA's threads that still run.
    pub(crate) fn try_complete(&mut self, alive: u32) -> bool {
        let wanted = if self.expected == 0 { alive } else { self.expected };
        let complete = self.arrived > 0 && self.arrived >= wanted;
        if complete {
            self.last = (self.trues, self.predicates);
            *self = Barrier {
                phase: self.phase.wrapping_add(1),
                last: self.last,
                ..Barrier::default()
            };
        }
        complete
    }
}

/// What the warps of a CTA share.
pub(crate) struct Cta {
    /// Position in the grid.
    pub position: [u32; 3],
    /// Position in the cluster.
    pub in_cluster: [u32; 3],
    /// Rank in the cluster.
    pub rank: u32,
    /// Shared memory from address 0 on, in units that keep it aligned.
    pub shared: Vec<u128>,
    pub shared_bytes: u32,
    pub barriers: [Barrier; NUM_BARRIERS],
    /// Threads, and how many of them have not ended.
    pub num_threads: u32,
    pub alive: u32,
    /// It has executed `griddepcontrol.launch_dependents`.
    pub lets_dependents_begin: bool,
    /// Registers that `setmaxnreg` has given back, in units of one per warp.
    pub free_registers: u32,
    /// Four warps each.
    pub warpgroups: Vec<Warpgroup>,
    /// What products in flight read.
    pub pins: Vec<Pin>,
    pub known_chunks: KnownChunks,
}

/// An instruction of a thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Site {
    pub pc: u32,
    /// Rank in the cluster.
    pub cta: usize,
    /// Position in the CTA.
    pub warp: u32,
    pub lane: u32,
}

impl Cta {
    pub(crate) fn shared_ptr(&mut self) -> *mut u8 {
        self.shared.as_mut_ptr().cast()
    }
}

/// What the warps of a cluster share.
pub(crate) struct ClusterState {
    /// Position among the clusters of the grid.
    pub position: [u32; 3],
    pub ctas: Vec<Cta>,
    /// Arrivals at the cluster's barrier in this phase, and phases that have ended.
    pub arrived: u32,
    pub phase: u32,
    /// Transfers that were issued and are not over, the oldest first.
    pub pending: Vec<Transfer>,
    /// Turns that the cluster has had.
    pub turns: u64,
    /// Something happened that waiting threads may wait for.
    pub progress: bool,
    /// What the checkers know, if any look.
    pub check: Option<Box<ClusterCheck>>,
    /// What its warps did, if a timeline is to be made of it.
    pub log: Option<Box<Log>>,
    /// The second instruction of a fault that takes two.
    pub other: Option<Site>,
}

impl ClusterState {
    /// Host address of a range of shared memory; the address names the CTA.
    pub(crate) fn shared(&mut self, address: u32, bytes: u64) -> Option<*mut u8> {
        let (rank, offset) = ((address >> 24) as usize, address & 0x00ff_ffff);
        let cta = self.ctas.get_mut(rank)?;
        let end = u64::from(offset) + bytes;
        let inside = offset >= RESERVED_SHARED && end <= u64::from(cta.shared_bytes);
        inside.then(|| cta.shared_ptr().wrapping_add(offset as usize))
    }

    /// Threads that have not ended.
    pub(crate) fn alive(&self) -> u32 {
        self.ctas.iter().map(|cta| cta.alive).sum()
    }

    /// Ends the phase of the cluster's barrier if all threads have arrived.
    pub(crate) fn try_complete(&mut self) {
        if self.arrived > 0 && self.arrived >= self.alive() {
            self.arrived = 0;
            self.progress = true;
            self.phase = self.phase.wrapping_add(1);
        }
    }
}
