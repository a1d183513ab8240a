//! The checkers' state: what every thread and asynchronous operation knows of the others (vector
//! clocks), who last touched each byte (shadow cells), and which bytes have values.

mod barriers;
mod clock;
mod initial;
mod locations;
mod mbarriers;
mod rules;
mod shadow;
mod threads;

pub(crate) use barriers::Meeting;
pub(crate) use clock::Known;
pub(crate) use initial::Initial;
pub(crate) use locations::{Locations, Strong};
pub(crate) use mbarriers::Mbarrier;
pub(crate) use rules::{Access, Conflict, Wrong};
pub(crate) use shadow::{EVERY_LANE, Mark, Nature, Shadow};
pub(crate) use threads::Threads;

use std::collections::{BTreeMap, HashMap};

use crate::checks::Checks;

/// What the blocks of a launch share.
pub(crate) struct GridCheck {
    pub checks: Checks,
    /// Of global memory, by address.
    pub shadow: Shadow,
    pub locations: Locations,
    /// Warps of a block.
    pub warps: u16,
}

impl GridCheck {
    /// For blocks of `threads` threads.
    pub(crate) fn new(checks: Checks, threads: u32) -> Self {
        let warps = threads.div_ceil(32) as u16;
        GridCheck { checks, shadow: Shadow::default(), locations: Locations::default(), warps }
    }
}

/// An agent that is no warp: what a kind of a warp's asynchronous operations complete with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Agent {
    /// Groups of `cp.async`.
    Copies(u16),
    /// Sources of groups of bulk copies, and their targets.
    BulkReads(u16),
    BulkWrites(u16),
    /// Groups of `wgmma` of the warpgroup that a warp is the first of.
    Products(u16),
    /// Phases of the mbarrier at a shared address.
    Phases(u32),
}

/// What the threads of a cluster share.
pub(crate) struct ClusterCheck {
    checks: Checks,
    /// Its number in the grid.
    pub number: u32,
    /// By the warp's number in the cluster.
    pub threads: Vec<Threads>,
    /// Of shared memory; addresses name the block.
    pub shadow: Shadow,
    pub initial: Vec<Initial>,
    pub locations: Locations,
    /// Barriers by block and number, and the cluster's.
    pub meetings: HashMap<(usize, u8), Meeting>,
    pub cluster_meeting: Meeting,
    /// By shared address.
    pub mbarriers: BTreeMap<u32, Mbarrier>,
    agents: HashMap<Agent, u16>,
    next_agent: u16,
}

impl ClusterCheck {
    /// The mbarriers that some threads of a warp have made.
    pub(crate) fn mbarriers_of(
        &mut self,
        warp: usize,
        lanes: u32,
    ) -> impl Iterator<Item = &mut Mbarrier> {
        let is_theirs =
            move |made: &Mark| usize::from(made.warp) == warp && lanes >> made.lane & 1 == 1;
        self.mbarriers.values_mut().filter(move |it| is_theirs(&it.made))
    }

    /// For warps of so many threads, and blocks of so many bytes of shared memory.
    pub(crate) fn new(
        checks: Checks,
        number: u32,
        warps: &[u32],
        blocks: usize,
        shared_bytes: u32,
    ) -> Self {
        let threads = warps.iter().enumerate();
        ClusterCheck {
            checks,
            number,
            threads: threads.map(|(i, all)| Threads::new(number, i as u16, *all)).collect(),
            shadow: Shadow::default(),
            initial: (0..blocks).map(|_| Initial::new(shared_bytes.into())).collect(),
            locations: Locations::default(),
            meetings: HashMap::new(),
            cluster_meeting: Meeting::default(),
            mbarriers: BTreeMap::new(),
            agents: HashMap::new(),
            next_agent: warps.len() as u16,
        }
    }

    /// The slot of an agent.
    pub(crate) fn slot(&mut self, agent: Agent) -> u16 {
        *self.agents.entry(agent).or_insert_with(|| {
            // A cluster has fewer than 2^15 mbarriers at a time; if more addresses are used one
            // after the other, they share the last slot.
            let slot = self.next_agent;
            self.next_agent = slot.saturating_add(1);
            slot
        })
    }

    /// The mbarrier at an address has ended a phase; if that did not wait for all bytes issued in it,
    /// says so and who issued them.
    pub(crate) fn end_phase(&mut self, address: u32) -> Option<(String, Mark)> {
        let barrier = self.mbarriers.get_mut(&address)?;
        let left = barrier.end_phase();
        let last = barrier.last_bytes?;
        let message = format!(
            "a phase of the mbarrier at {address:#x} ends and {left} bytes issued in it were not expected"
        );
        (left > 0 && self.checks.contains(Checks::BARRIERS)).then_some((message, last))
    }
}
