//! Clusters, blocks and warps come to life.

use super::cluster::{Barrier, ClusterState, Cta, NUM_BARRIERS};
use super::flight::Flight;
use super::grid::{Cluster, Grid, split};
use super::log::Log;
use super::operand::KnownChunks;
use super::products::Warpgroup;
use super::registers::Registers;
use super::warp::{Split, Wait, Warp};
use crate::check::ClusterCheck;
use crate::ops::{Class, LANES};
use crate::program::{Fixed, FixedReg, INLINED_PARAMS, Pointer, Special};

/// Construction of clusters.
impl Grid<'_> {
    pub(super) fn cluster(&self, number: u64, counts: [u32; 3]) -> Cluster {
        let position = split(number, counts);
        let shape = self.shape;
        let num_ctas = shape.cluster.iter().product::<u32>();
        let threads = shape.block.iter().product::<u32>();
        let mut ctas = Vec::with_capacity(num_ctas as usize);
        for rank in 0..num_ctas {
            let in_cluster = split(rank.into(), shape.cluster);
            ctas.push(Cta {
                position: [0, 1, 2].map(|i| position[i] * shape.cluster[i] + in_cluster[i]),
                in_cluster,
                rank,
                shared: vec![0; (shape.shared_bytes as usize).div_ceil(16)],
                shared_bytes: shape.shared_bytes,
                barriers: [Barrier::default(); NUM_BARRIERS],
                num_threads: threads,
                alive: threads,
                lets_dependents_begin: false,
                free_registers: 0,
                warpgroups: (0..threads.div_ceil(128)).map(|_| Warpgroup::default()).collect(),
                pins: Vec::new(),
                known_chunks: KnownChunks::default(),
            });
        }
        let mut state = ClusterState {
            position,
            ctas,
            arrived: 0,
            phase: 0,
            pending: Vec::new(),
            turns: 0,
            progress: false,
            check: None,
            log: None,
            other: None,
        };
        let mut warps = Vec::new();
        for rank in 0..num_ctas as usize {
            for index in 0..threads.div_ceil(32) {
                let warp = self.warp(&state, rank, index, threads);
                warps.push(Warp { number: warps.len(), ..warp });
            }
        }
        if shape.timeline && number == 0 {
            state.log = Some(Box::new(Log::new(warps.len())));
        }
        if self.check.is_some() {
            let threads: Vec<u32> = warps.iter().map(|warp: &Warp| warp.alive).collect();
            let blocks = num_ctas as usize;
            let (checks, bytes) = (shape.checks, shape.shared_bytes);
            let check = ClusterCheck::new(checks, number as u32, &threads, blocks, bytes);
            state.check = Some(Box::new(check));
        }
        Cluster { state, warps }
    }

    fn warp(&self, state: &ClusterState, rank: usize, index: u32, threads: u32) -> Warp {
        let count = (threads - index * 32).min(32);
        let alive = if count == 32 { u32::MAX } else { (1 << count) - 1 };
        let local_bytes = self.kernel.local_bytes as usize * LANES;
        let mut registers = Registers::new(self.kernel.num_rows);
        for fixed in &self.kernel.fixed {
            self.fill(&mut registers, fixed, state, rank, index);
        }
        Warp {
            registers,
            cta: rank,
            number: 0,
            index,
            alive,
            splits: vec![Split { pc: 0, mask: alive, wait: Wait::Ready, turn: 0 }],
            local: vec![0; local_bytes.div_ceil(16)],
            rotate: false,
            turns: 0,
            cluster_phase: [0; 32],
            commits: [[0; 32]; 2],
            expired: 0,
            flight: Flight::new(self.kernel.traces_fences, self.kernel.num_rows),
            num_registers: self.kernel.registers_per_thread(),
            issued: 0,
        }
    }

    fn fill(
        &self,
        registers: &mut Registers,
        fixed: &FixedReg,
        state: &ClusterState,
        rank: usize,
        index: u32,
    ) {
        let cta = &state.ctas[rank];
        for lane in 0..LANES {
            let value = match fixed.value {
                Fixed::Value(value) => value,
                Fixed::Address(pointer) => self.address(pointer, cta.rank).into(),
                Fixed::Special(special) => {
                    self.special(special, state, cta, index, lane as u32).into()
                }
            };
            registers.set(fixed.class, fixed.reg, lane, value);
        }
        debug_assert!(fixed.class != Class::R128 || fixed.reg.0.is_multiple_of(128));
    }

    /// An address in its own space: that of a shared variable names its CTA.
    fn address(&self, pointer: Pointer, rank: u32) -> u64 {
        let shared = |offset: u32| u64::from(rank << 24 | offset);
        match pointer {
            Pointer::Global { variable, offset } => {
                self.globals[variable].wrapping_add_signed(offset)
            }
            Pointer::Shared(at) => shared(at),
            Pointer::DynamicShared(at) => shared(self.kernel.dynamic_base + at),
            Pointer::Local(at) | Pointer::Param(at) => at.into(),
            Pointer::InlinedParam(at) => (INLINED_PARAMS + at).into(),
        }
    }

    fn special(
        &self,
        special: Special,
        state: &ClusterState,
        cta: &Cta,
        warp: u32,
        lane: u32,
    ) -> u64 {
        let shape = self.shape;
        let threads = shape.block.iter().product::<u32>();
        let thread = split((warp * 32 + lane).into(), shape.block);
        let num_clusters = |i: usize| shape.grid[i] / shape.cluster[i];
        u64::from(match special {
            Special::Tid(i) => thread[i as usize],
            Special::Ntid(i) => shape.block[i as usize],
            Special::Ctaid(i) => cta.position[i as usize],
            Special::Nctaid(i) => shape.grid[i as usize],
            Special::ClusterCtaid(i) => cta.in_cluster[i as usize],
            Special::ClusterNctaid(i) => shape.cluster[i as usize],
            Special::Clusterid(i) => state.position[i as usize],
            Special::Nclusterid(i) => num_clusters(i as usize),
            Special::ClusterCtarank => cta.rank,
            Special::ClusterNctarank => state.ctas.len() as u32,
            Special::IsExplicitCluster => u32::from(shape.explicit_cluster),
            Special::LaneId => lane,
            Special::WarpId => warp,
            Special::NWarpId => threads.div_ceil(32),
            Special::SmId => cta.position[0] % shape.num_sms.max(1),
            Special::NSmId => shape.num_sms,
            Special::GridId => return shape.grid_id,
            Special::LanemaskEq => 1 << lane,
            Special::LanemaskLt => (1 << lane) - 1,
            Special::LanemaskLe => u32::MAX >> (31 - lane),
            Special::LanemaskGt => !(u32::MAX >> (31 - lane)),
            Special::LanemaskGe => !((1 << lane) - 1),
            Special::DynamicSmemSize => shape.dynamic_bytes,
            Special::TotalSmemSize => shape.shared_bytes,
            Special::Envreg(i) => shape.envreg.get(i as usize).copied().unwrap_or(0),
            Special::Zero => 0,
        })
    }
}
