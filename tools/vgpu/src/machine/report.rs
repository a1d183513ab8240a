//! Faults with their places, and where waiting threads stand.

use super::cluster::ClusterState;
use super::grid::{Cluster, Grid, split};
use super::warp::{Wait, Warp};
use super::{Earlier, Trap};
use crate::fault::{Fault, FaultKind, Place, Related};

/// A report of many warps names this many groups of threads, and counts the rest.
const MAX_POSITIONS: usize = 32;

impl Grid<'_> {
    pub(super) fn fault(&self, kind: FaultKind) -> Box<Fault> {
        Box::new(Fault { kernel: self.kernel.name.clone(), kind, at: None, related: Vec::new() })
    }

    pub(super) fn fault_at(
        &self,
        trap: Trap,
        pc: u32,
        state: &ClusterState,
        warp: &Warp,
    ) -> Box<Fault> {
        let thread = split((warp.index * 32 + trap.lane).into(), self.shape.block);
        let block = state.ctas[warp.cta].position;
        let at = Some(self.place(pc, block, thread));
        let related = trap.related.into_iter();
        let related = related.map(|(what, it)| Related { what, at: self.earlier(it) });
        let mut related: Vec<Related> = related.collect();
        if let (Some(other), FaultKind::Misuse(_)) = (state.other, &trap.kind) {
            let thread = split((other.warp * 32 + other.lane).into(), self.shape.block);
            let at = self.place(other.pc, state.ctas[other.cta].position, thread);
            related.push(Related { what: "the other instruction".to_owned(), at });
        }
        Box::new(Fault { kernel: self.kernel.name.clone(), kind: trap.kind, at, related })
    }

    /// Where a thread was, which may have ended with its cluster.
    fn earlier(&self, it: Earlier) -> Place {
        let shape = self.shape;
        let num_warps = shape.block.iter().product::<u32>().div_ceil(32);
        let (rank, index) = (u32::from(it.warp) / num_warps, u32::from(it.warp) % num_warps);
        let clusters = [0, 1, 2].map(|i| shape.grid[i] / shape.cluster[i]);
        let position = split(it.cluster.into(), clusters);
        let inside = split(rank.into(), shape.cluster);
        let block = [0, 1, 2].map(|i| position[i] * shape.cluster[i] + inside[i]);
        let thread = split((index * 32 + u32::from(it.lane)).into(), shape.block);
        self.place(it.pc, block, thread)
    }

    fn place(&self, pc: u32, block: [u32; 3], thread: [u32; 3]) -> Place {
        let site = self.kernel.sites[pc as usize];
        let file = self.program.files.get(&site.file);
        Place {
            line: site.line,
            instruction: self.program.line(site.line).to_owned(),
            source: file.map(|file| (file.clone(), site.source_line)),
            block,
            thread,
        }
    }

    /// Each group of threads with its instruction and what it waits for.
    pub(super) fn positions(&self, clusters: &mut [Cluster]) -> Vec<String> {
        let mut all = Vec::new();
        let mut left_out = 0;
        for cluster in clusters {
            for warp in &cluster.warps {
                for group in &warp.splits {
                    if all.len() == MAX_POSITIONS {
                        left_out += 1;
                        continue;
                    }
                    let lane = group.mask.trailing_zeros();
                    let thread = split((warp.index * 32 + lane).into(), self.shape.block);
                    let place = self.place(group.pc, cluster.state.ctas[warp.cta].position, thread);
                    let others = group.mask.count_ones() - 1;
                    let wait = reason(&group.wait, &mut cluster.state, warp);
                    all.push(format!("{place} and {others} others {wait}"));
                }
            }
        }
        if left_out > 0 {
            all.push(format!("and {left_out} more groups of threads"));
        }
        all
    }
}

/// Threads that cannot arrive any more.
fn ended(count: u32) -> String {
    if count == 0 { String::new() } else { format!(" ({count} threads of the block have ended)") }
}

fn reason(wait: &Wait, state: &mut ClusterState, warp: &Warp) -> String {
    match *wait {
        Wait::Ready => "can go on".to_owned(),
        Wait::Converge(members) => {
            format!("wait for the threads {members:#010x} of their warp to come there too")
        }
        Wait::WarpSync(members) => {
            format!("wait for the threads {members:#010x} of their warp to come to a bar.warp.sync")
        }
        Wait::Barrier { id, .. } => {
            let cta = &state.ctas[warp.cta];
            let barrier = &cta.barriers[id as usize];
            let wanted = if barrier.expected == 0 { cta.alive } else { barrier.expected };
            let arrived = barrier.arrived;
            let ended = ended(cta.num_threads - cta.alive);
            format!("wait at barrier {id}, where {arrived} of {wanted} threads are{ended}")
        }
        Wait::Mbarrier { address, phase } => {
            let what = match state.barrier(address) {
                Ok(it) => format!(
                    "{} of {} arrivals and {} bytes are missing",
                    it.pending, it.arrivals, it.bytes
                ),
                Err(kind) => kind.to_string(),
            };
            let parity = u32::from(phase);
            let cta = &state.ctas[warp.cta];
            let ended = ended(cta.num_threads - cta.alive);
            format!("wait for phase {parity} of the mbarrier at {address:#x}, where {what}{ended}")
        }
        Wait::Product { number } => {
            let group = &state.ctas[warp.cta].warpgroups[warp.index as usize / 4];
            let missing = group.missing(number);
            format!(
                "wait for product {number} of their warpgroup, not issued by its warps {missing:?}"
            )
        }
        Wait::Grid => "wait for the end of the grid in front".to_owned(),
        Wait::Registers { count } => {
            let free = state.ctas[warp.cta].free_registers;
            format!("wait for {count} more registers per thread, of which the block has {free}")
        }
        Wait::Cluster { .. } => {
            let (arrived, alive) = (state.arrived, state.alive());
            format!("wait at the cluster's barrier, where {arrived} of {alive} threads are")
        }
    }
}
