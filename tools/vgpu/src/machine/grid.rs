//! A launch: its blocks come to life cluster by cluster and are run warp by warp, in turns.

use std::collections::HashSet;

use super::Trap;
use super::cluster::ClusterState;
use super::exec::Exec;
use super::log::Log;
use super::multiply::Multiplier;
use super::tally::Row;
use super::team::Queue;
use super::transfer::LateFault;
use super::warp::{Wait, Warp};
use crate::accumulation::Accumulation;
use crate::asynchrony::{Asynchrony, Dice};
use crate::check::GridCheck;
use crate::checks::Checks;
use crate::counts::Counts;
use crate::fault::{Fault, FaultKind};
use crate::memory::{Memory, Region};
use crate::overlap::{Dependents, GridEnd};
use crate::program::inst::Space;
use crate::program::{Kernel, Program};

/// Instructions that a warp runs before another one has its turn.
const QUANTUM: u32 = 1000;

/// Rounds without any progress after which sleeping threads are taken to sleep for ever: about eight
/// minutes of the machine's time.
const MAX_IDLE_ROUNDS: u32 = 64;

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
    pub asynchrony: Asynchrony,
    pub checks: Checks,
    pub accumulation: Accumulation,
    /// Host threads that clusters may be spread over.
    pub host_threads: usize,
    /// Movements are counted.
    pub counts: bool,
    /// A timeline of the first cluster is made.
    pub timeline: bool,
    /// The end of the grid in front, if this one may begin before it.
    pub front: Option<GridEnd>,
    /// How the grid behind begins.
    pub dependents: Option<Dependents>,
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

    /// The region of an access.
    #[inline(always)]
    pub(crate) fn region(&mut self, address: u64, bytes: u64) -> Option<&Region> {
        if !self.regions.get(self.last)?.contains(address, bytes) {
            self.find(address, bytes)?;
        }
        self.regions.get(self.last)
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
    /// Decides in random runs.
    pub dice: Dice,
    /// What the checkers know, if any look.
    pub check: Option<Box<GridCheck>>,
    /// The tensor cores.
    pub multiplier: Multiplier,
    /// Some block has executed `griddepcontrol.launch_dependents`, and not all have.
    pub lets_dependents_begin: bool,
    /// Rounds in which time passed and nothing else happened.
    idle_rounds: u32,
    /// What each instruction has moved, if the launch counts.
    pub tally: Option<Vec<Row>>,
    /// What the first cluster did, once it has ended.
    pub(super) log: Option<Box<Log>>,
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
        if !shape.checks.contains(Checks::INITIALISED) {
            memory.initialise_all();
        }
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
            dice: Dice::new(match shape.asynchrony {
                Asynchrony::Random(seed) => seed,
                _ => 0,
            }),
            check: (shape.checks != Checks::NONE).then(|| {
                let threads = shape.block.iter().product();
                Box::new(GridCheck::new(shape.checks, threads))
            }),
            multiplier: Multiplier::new(shape.accumulation),
            lets_dependents_begin: false,
            idle_rounds: 0,
            tally: shape.counts.then(|| vec![Row::default(); kernel.code.len()]),
            log: None,
            clock: 0,
        }
    }

    /// Runs clusters, at most `capacity` at the same time, until none is left or about `budget`
    /// instructions have been run.
    pub(super) fn work(
        &mut self,
        queue: &Queue,
        resident: &mut Vec<Cluster>,
        capacity: usize,
        budget: u64,
    ) -> Result<(), Box<Fault>> {
        let mut spent = 0;
        while !queue.is_stopped() && spent < budget {
            while resident.len() < capacity
                && let Some(number) = queue.take()
            {
                resident.push(self.cluster(number, queue.counts));
            }
            if resident.is_empty() {
                break;
            }
            let mut executed = 0;
            for cluster in resident.iter_mut() {
                executed += self.turn(cluster)?;
            }
            resident.retain_mut(|cluster| {
                let is_alive = cluster.state.alive() > 0;
                if !is_alive && let Some(log) = cluster.state.log.take() {
                    self.log = Some(log);
                }
                is_alive
            });
            spent += executed;
            if self.lets_dependents_begin && queue.num_left() == 0 {
                self.begin_dependents(resident);
            }
            if executed == 0 && self.waits_for_front(resident) {
                continue;
            }
            if executed == 0 && !resident.is_empty() && !self.pass_time(resident) {
                let waiting = self.positions(resident);
                return Err(self.fault(FaultKind::Deadlock { waiting }));
            }
            if queue.spend(executed) > self.shape.fuel {
                let running = self.positions(resident);
                let instructions = self.shape.fuel;
                return Err(self.fault(FaultKind::OutOfFuel { instructions, running }));
            }
            if self.memory.generation() != self.view.generation {
                self.view = View::new(self.memory);
            }
        }
        Ok(())
    }

    /// The same launch for another host thread.
    pub(super) fn sibling(&self) -> Grid<'g> {
        Grid {
            params: self.params.clone(),
            view: View::new(self.memory),
            executed: vec![0; self.executed.len()],
            output: String::new(),
            dice: self.dice.clone(),
            check: None,
            multiplier: Multiplier::new(self.shape.accumulation),
            lets_dependents_begin: false,
            idle_rounds: 0,
            tally: None,
            log: None,
            ..*self
        }
    }

    /// Adds what another host thread did.
    pub(super) fn absorb(&mut self, other: &Grid<'_>) {
        for (sum, count) in self.executed.iter_mut().zip(&other.executed) {
            *sum += count;
        }
    }

    /// One turn for each warp of a cluster; returns the instructions run.
    fn turn(&mut self, cluster: &mut Cluster) -> Result<u64, Box<Fault>> {
        cluster.state.turns += 1;
        cluster.state.progress = false;
        let mut executed = 0;
        for (at, quantum) in self.order(cluster.warps.len()) {
            let (before, rest) = cluster.warps.split_at_mut(at);
            let Some((warp, after)) = rest.split_first_mut() else { continue };
            if warp.alive == 0 {
                continue;
            }
            let (kernel, others) = (self.kernel, [before, after]);
            let state = &mut cluster.state;
            let mut exec = Exec { grid: self, kernel, cluster: state, warp, others, pc: 0 };
            match exec.run(quantum) {
                Ok(count) => {
                    executed += u64::from(count);
                    self.clock += u64::from(count);
                }
                Err(trap) => {
                    let pc = exec.pc;
                    return Err(self.fault_at(trap, pc, &cluster.state, &cluster.warps[at]));
                }
            }
        }
        if let Err(late) = self.advance(cluster, executed == 0) {
            let (pc, warp) = (late.pc, &cluster.warps[late.warp]);
            return Err(self.fault_at(Trap::from(late), pc, &cluster.state, warp));
        }
        if cluster.state.progress {
            self.idle_rounds = 0;
        }
        Ok(executed + u64::from(executed == 0 && cluster.state.progress))
    }

    /// Which warp comes when, and how long its turn is.
    fn order(&mut self, count: usize) -> Vec<(usize, u32)> {
        let mut order: Vec<_> = (0..count).map(|at| (at, QUANTUM)).collect();
        if matches!(self.shape.asynchrony, Asynchrony::Random(_)) {
            for i in (1..count).rev() {
                order.swap(i, self.dice.roll(i + 1));
            }
            order.iter_mut().for_each(|(_, quantum)| *quantum = 1 + self.dice.roll(256) as u32);
        }
        order
    }

    /// Completes what is due of a cluster's transfers; `idle` if none of its warps could go on.
    fn advance(&mut self, cluster: &mut Cluster, idle: bool) -> Result<(), LateFault> {
        if matches!(self.shape.asynchrony, Asynchrony::Random(_)) {
            self.form_some_products(cluster);
        }
        let state = &mut cluster.state;
        let view = &mut self.view;
        while state.alive() == 0 && !state.pending.is_empty() {
            state.finish(0, view)?;
        }
        if state.alive() == 0 && self.shape.checks.contains(Checks::BARRIERS) {
            state.observe_end()?;
        }
        if state.pending.is_empty() {
            return Ok(());
        }
        state.age(view)?;
        match self.shape.asynchrony {
            Asynchrony::Random(_) => {
                let least = usize::from(idle);
                let most = state.pending.len() / 2 + 1;
                for _ in 0..least.max(self.dice.roll(most + 1)) {
                    if !state.pending.is_empty() {
                        let at = self.dice.roll(state.pending.len());
                        state.finish(at, view)?;
                    }
                }
            }
            _ if idle => {
                let waits = cluster.warps.iter().flat_map(|warp| &warp.splits);
                let barriers: HashSet<u32> = waits
                    .filter_map(|split| match split.wait {
                        Wait::Mbarrier { address, .. } => Some(address),
                        _ => None,
                    })
                    .collect();
                state.finish_wanted(&barriers, view)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Lets the time of sleeping threads run out; false if that has not helped for long.
    fn pass_time(&mut self, clusters: &mut [Cluster]) -> bool {
        if self.idle_rounds >= MAX_IDLE_ROUNDS {
            return false;
        }
        // From a millisecond to ten seconds.
        self.clock += (1_750_000u64 << self.idle_rounds.min(16)).min(17_500_000_000);
        self.idle_rounds += 1;
        let warps = clusters.iter_mut().flat_map(|cluster| &mut cluster.warps);
        warps.fold(false, |any, warp| warp.expire() | any)
    }

    /// Cycles or nanoseconds since the launch began, on a clock that only instructions advance.
    pub(crate) fn clock(&self, nanoseconds: bool) -> u64 {
        if nanoseconds { self.clock * 4 / 7 } else { self.clock }
    }

    /// `nanosleep`.
    pub(crate) fn sleep(&mut self, nanoseconds: u32) {
        self.clock += u64::from(nanoseconds.min(1_000_000)) * 7 / 4;
    }

    /// What the launch has done, if it counts.
    pub(crate) fn counts(&self) -> Option<Counts> {
        let tally = self.tally.as_ref()?;
        Some(Counts::new(self.program, self.kernel, &self.executed, tally))
    }
}

/// Position `number` in a box, x first.
pub(super) fn split(number: u64, extents: [u32; 3]) -> [u32; 3] {
    let [x, y, _] = extents.map(u64::from);
    [number % x, number / x % y, number / (x * y)].map(|n| n as u32)
}
