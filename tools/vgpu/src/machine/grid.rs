//! A launch: its blocks come to life cluster by cluster and are run warp by warp, in turns.

use super::cluster::{Barrier, ClusterState, Cta, NUM_BARRIERS};
use super::exec::Exec;
use super::registers::Registers;
use super::warp::{Split, Wait, Warp};
use crate::counts::Counts;
use crate::fault::{Fault, FaultKind};
use crate::memory::{Memory, Region};
use crate::ops::{Class, LANES};
use crate::program::inst::Space;
use crate::program::{Fixed, FixedReg, INLINED_PARAMS, Kernel, Pointer, Program, Special};

/// Instructions that a warp runs before another one has its turn.
const QUANTUM: u32 = 1000;

/// What a launch is.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    /// Blocks.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub block: [u32; 3],
    /// Blocks of a cluster.
    pub cluster: [u32; 3],
    pub explicit_cluster: bool,
    /// Bytes of shared memory from address 0 on, and how many of them are dynamic.
    pub shared_bytes: u32,
    pub dynamic_bytes: u32,
    /// Clusters that live at the same time.
    pub resident: usize,
    pub num_sms: u32,
    /// Number of the launch.
    pub grid_id: u64,
    /// `%envreg0` to 2.
    pub envreg: [u32; 3],
    /// Most warp instructions.
    pub fuel: u64,
}

/// The allocations as of the last look.
pub(crate) struct View {
    generation: u64,
    regions: Vec<Region>,
    last: usize,
}

impl View {
    fn new(memory: &Memory) -> Self {
        let (generation, regions) = memory.snapshot();
        View { generation, regions, last: 0 }
    }

    /// Host address of an access that lies in the region that was used last.
    #[inline(always)]
    pub(crate) fn host(&self, space: Space, address: u64, bytes: u64) -> Option<*mut u8> {
        let region = self.regions.get(self.last)?;
        let global = matches!(space, Space::Global | Space::Generic);
        (global && region.contains(address, bytes)).then(|| region.host(address))
    }

    /// Host address of an access.
    pub(crate) fn find(&mut self, address: u64, bytes: u64) -> Option<*mut u8> {
        let after = self.regions.partition_point(|region| region.start <= address);
        let at = after.checked_sub(1)?;
        let region = &self.regions[at];
        if !region.contains(address, bytes) {
            return None;
        }
        self.last = at;
        Some(region.host(address))
    }
}

/// A launch in progress.
pub(crate) struct Grid<'g> {
    pub program: &'g Program,
    pub kernel: &'g Kernel,
    pub memory: &'g Memory,
    /// Addresses of the module's variables.
    pub globals: &'g [u64],
    pub shape: &'g Shape,
    /// Parameters, in units that keep them aligned.
    pub params: Vec<u128>,
    pub view: View,
    /// How often each instruction was run.
    pub executed: Vec<u64>,
    pub output: String,
    bytes: [u64; 5],
    clock: u64,
}

/// The blocks of a cluster.
pub(super) struct Cluster {
    pub state: ClusterState,
    pub warps: Vec<Warp>,
}

impl<'g> Grid<'g> {
    pub(crate) fn new(
        program: &'g Program,
        kernel: &'g Kernel,
        memory: &'g Memory,
        globals: &'g [u64],
        shape: &'g Shape,
        params: &[u8],
    ) -> Self {
        let bytes = kernel.param_bytes().max(params.len() as u32) as usize;
        let mut padded = params.to_vec();
        padded.resize(bytes.next_multiple_of(16), 0);
        let params = padded.chunks_exact(16).map(|chunk| {
            let mut unit = [0; 16];
            unit.copy_from_slice(chunk);
            u128::from_le_bytes(unit)
        });
        Grid {
            program,
            kernel,
            memory,
            globals,
            shape,
            params: params.collect(),
            view: View::new(memory),
            executed: vec![0; kernel.code.len()],
            output: String::new(),
            bytes: [0; 5],
            clock: 0,
        }
    }

    /// Runs the launch to its end.
    pub(crate) fn run(&mut self) -> Result<Counts, Box<Fault>> {
        let counts = [0, 1, 2].map(|i| self.shape.grid[i] / self.shape.cluster[i]);
        let total = counts.iter().map(|n| u64::from(*n)).product::<u64>();
        let mut next = 0;
        let mut resident: Vec<Cluster> = Vec::new();
        let mut used = 0u64;
        loop {
            while next < total && resident.len() < self.shape.resident {
                resident.push(self.cluster(next, counts));
                next += 1;
            }
            if resident.is_empty() {
                return Ok(self.counts());
            }
            let mut executed = 0;
            for cluster in &mut resident {
                executed += self.turn(cluster)?;
            }
            resident.retain(|cluster| cluster.state.alive() > 0);
            used += executed;
            if executed == 0 && !resident.is_empty() {
                let waiting = self.positions(&resident);
                return Err(self.fault(FaultKind::Deadlock { waiting }));
            }
            if used > self.shape.fuel {
                let running = self.positions(&resident);
                let instructions = self.shape.fuel;
                return Err(self.fault(FaultKind::OutOfFuel { instructions, running }));
            }
            if self.memory.generation() != self.view.generation {
                self.view = View::new(self.memory);
            }
        }
    }

    /// One turn for each warp of a cluster; returns the instructions run.
    fn turn(&mut self, cluster: &mut Cluster) -> Result<u64, Box<Fault>> {
        let mut executed = 0;
        for warp in &mut cluster.warps {
            if warp.alive == 0 {
                continue;
            }
            let kernel = self.kernel;
            let mut exec = Exec { grid: self, kernel, cluster: &mut cluster.state, warp, pc: 0 };
            match exec.run(QUANTUM) {
                Ok(count) => {
                    executed += u64::from(count);
                    self.clock += u64::from(count);
                }
                Err(trap) => {
                    let pc = exec.pc;
                    return Err(self.fault_at(trap, pc, &cluster.state, warp));
                }
            }
        }
        Ok(executed)
    }

    /// Cycles or nanoseconds since the launch began, on a clock that only instructions advance.
    pub(crate) fn clock(&self, nanoseconds: bool) -> u64 {
        if nanoseconds { self.clock * 4 / 7 } else { self.clock }
    }

    /// `nanosleep`.
    pub(crate) fn sleep(&mut self, nanoseconds: u32) {
        self.clock += u64::from(nanoseconds.min(1_000_000)) * 7 / 4;
    }

    pub(crate) fn count_bytes(&mut self, space: Space, active: u32, bytes: u64) {
        self.bytes[space as usize] += u64::from(active.count_ones()) * bytes;
    }

    fn counts(&self) -> Counts {
        Counts::new(self.program, self.kernel, &self.executed, self.bytes)
    }
}

/// Construction of clusters.
impl Grid<'_> {
    fn cluster(&self, number: u64, counts: [u32; 3]) -> Cluster {
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
                alive: threads,
            });
        }
        let state = ClusterState { position, ctas, arrived: 0, phase: 0 };
        let mut warps = Vec::new();
        for rank in 0..num_ctas as usize {
            for index in 0..threads.div_ceil(32) {
                warps.push(self.warp(&state, rank, index, threads));
            }
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
            index,
            alive,
            splits: vec![Split { pc: 0, mask: alive, wait: Wait::Ready, turn: 0 }],
            local: vec![0; local_bytes.div_ceil(16)],
            rotate: false,
            turns: 0,
            cluster_phase: [0; 32],
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

/// Position `number` in a box, x first.
pub(super) fn split(number: u64, extents: [u32; 3]) -> [u32; 3] {
    let [x, y, _] = extents.map(u64::from);
    [number % x, number / x % y, number / (x * y)].map(|n| n as u32)
}
