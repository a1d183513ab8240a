//! Modules in a device's memory, and launches.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::accumulation::{self, Accumulation};
use crate::asynchrony::{self, Asynchrony};
use crate::checks::{self, Checks};
use crate::counts::Counts;
use crate::fault::Fault;
use crate::machine::{Grid, Shape};
use crate::memory::{Memory, MemoryError};
use crate::overlap::{Dependents, GridEnd};
use crate::program::{Kernel, Program, RESERVED_SHARED};
use crate::timeline::Timeline;

/// Most bytes of shared memory that a block of sm_90 can have.
pub const MAX_SHARED_BYTES: u32 = 227 * 1024;
/// Shared memory of an SM, reserved bytes included.
const SM_SHARED_BYTES: u32 = 228 * 1024;
/// Threads and blocks that an SM holds.
const SM_THREADS: u32 = 2048;
const SM_BLOCKS: u32 = 32;
/// Most threads of a block, and blocks of a cluster.
const MAX_THREADS: u32 = 1024;
const MAX_CLUSTER: u32 = 16;

/// A module whose variables have addresses on a device.
pub struct Image {
    program: Arc<Program>,
    memory: Arc<Memory>,
    /// Addresses of the variables, in the program's order.
    globals: Vec<u64>,
}

/// A launch's shape and arguments.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Blocks of the grid.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub block: [u32; 3],
    /// Blocks of a cluster; `[1, 1, 1]` for none.
    pub cluster: [u32; 3],
    /// Bytes of dynamic shared memory of a block.
    pub dynamic_shared_bytes: u32,
    /// All blocks must be alive at the same time.
    pub cooperative: bool,
    /// The parameter buffer, laid out as [`Kernel::params`] says.
    pub params: Vec<u8>,
    /// Streaming multiprocessors of the device: how many blocks are alive at the same time.
    pub num_sms: u32,
    /// Most warp instructions before the launch is given up.
    pub fuel: u64,
    /// Address of the zeroed workspace of a grid-wide barrier, as `%envreg1` (its upper half) and
    /// `%envreg2` show it to cooperative groups; 0 for none.
    pub workspace: u64,
    /// When asynchronous operations complete; `None` for what `VGPU_ASYNC` says
    /// ([`Asynchrony::from_env`]).
    pub asynchrony: Option<Asynchrony>,
    /// The end of the grid in front in the stream, if this one may begin before it:
    /// `griddepcontrol.wait` waits for it.
    pub front: Option<GridEnd>,
    /// How the grid behind begins, if it may before this one has ended.
    pub dependents: Option<Dependents>,
    /// What the launch does is counted: [`Report::counts`].
    pub counts: bool,
    /// A timeline of the first cluster is made: [`Report::timeline`].
    pub timeline: bool,
    /// Mistakes that are looked for; `None` for what `VGPU_CHECK` says ([`Checks::from_env`]).
    pub checks: Option<Checks>,
    /// How tensor cores add; `None` for what `VGPU_ACCUMULATION` says ([`Accumulation::from_env`]).
    pub accumulation: Option<Accumulation>,
    /// Host threads that clusters may be spread over, 0 for as many as the host has. Random runs,
    /// runs with checks, counts or a timeline, launches that overlap, and kernels that print stay on one.
    pub host_threads: usize,
}

impl Default for Launch {
    fn default() -> Self {
        Launch {
            grid: [1; 3],
            block: [32, 1, 1],
            cluster: [1; 3],
            dynamic_shared_bytes: 0,
            cooperative: false,
            params: Vec::new(),
            num_sms: 4,
            fuel: 10_000_000_000,
            workspace: 0,
            asynchrony: None,
            front: None,
            dependents: None,
            counts: false,
            timeline: false,
            checks: None,
            accumulation: None,
            host_threads: 0,
        }
    }
}

/// What a launch left behind, apart from the memory it wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Warp instructions, those that prepare operands and those that are repeated included.
    pub instructions: u64,
    /// What it did, if it was to be counted.
    pub counts: Option<Counts>,
    /// When its first cluster would do what, if that was asked for.
    pub timeline: Option<Timeline>,
    /// What it printed.
    pub output: String,
}

/// Why a launch did not run to its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LaunchError {
    /// The module has no kernel of the name.
    #[error("the module has no kernel `{name}`")]
    NoKernel {
        /// Name that came.
        name: String,
    },
    /// The shape is not one that the device or the kernel takes.
    #[error("launch of `{kernel}`: `{arg}` is {got}, expected {expected}")]
    Shape {
        /// Kernel's name.
        kernel: String,
        /// Field of [`Launch`].
        arg: &'static str,
        /// What would have been accepted.
        expected: String,
        /// What came.
        got: String,
    },
    /// The kernel's own fault.
    #[error(transparent)]
    Fault(#[from] Box<Fault>),
}

impl Image {
    /// Places a module's variables in a device's memory.
    ///
    /// # Errors
    ///
    /// [`MemoryError`] if there is no room.
    pub fn load(
        program: Arc<Program>,
        memory: Arc<Memory>,
        device: usize,
    ) -> Result<Self, MemoryError> {
        let mut globals: Vec<u64> = Vec::with_capacity(program.globals.len());
        for global in &program.globals {
            globals.push(memory.alloc(device, global.bytes.max(1))?);
        }
        let image = Image { program, memory, globals };
        for (global, address) in image.program.globals.iter().zip(&image.globals) {
            image.memory.name(*address, &global.name);
            image.memory.initialise(*address, global.bytes)?;
            image.memory.write(*address, &global.init)?;
            for (at, target, offset) in &global.addresses {
                let value = image.globals[*target].wrapping_add_signed(*offset);
                image.memory.write(address + at, &value.to_le_bytes())?;
            }
        }
        Ok(image)
    }

    /// The module.
    #[must_use]
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Address and bytes of a variable.
    #[must_use]
    pub fn global(&self, name: &str) -> Option<(u64, u64)> {
        let at = self.program.globals.iter().position(|global| global.name == name)?;
        Some((self.globals[at], self.program.globals[at].bytes))
    }

    /// Runs a kernel to its end.
    ///
    /// # Errors
    ///
    /// [`LaunchError::NoKernel`], [`LaunchError::Shape`] before anything has run;
    /// [`LaunchError::Fault`] if the kernel made a mistake.
    pub fn launch(&self, kernel: &str, launch: &Launch) -> Result<Report, LaunchError> {
        let kernel = self.kernel(kernel)?;
        let shape = shape(kernel, launch)?;
        let mut grid =
            Grid::new(&self.program, kernel, &self.memory, &self.globals, &shape, &launch.params);
        grid.run()?;
        let instructions = grid.executed.iter().sum();
        let (counts, timeline) = (grid.counts(), grid.timeline());
        Ok(Report { instructions, counts, timeline, output: grid.output })
    }

    /// Checks a launch as [`Image::launch`] does, and runs nothing.
    ///
    /// # Errors
    ///
    /// [`LaunchError::NoKernel`], [`LaunchError::Shape`].
    pub fn check(&self, kernel: &str, launch: &Launch) -> Result<(), LaunchError> {
        shape(self.kernel(kernel)?, launch).map(drop)
    }

    fn kernel(&self, name: &str) -> Result<&Kernel, LaunchError> {
        let kernel = self.program.kernel(name);
        kernel.ok_or_else(|| LaunchError::NoKernel { name: name.to_owned() })
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        for address in &self.globals {
            // A variable that is gone already needs nothing more.
            let _ = self.memory.free(*address);
        }
    }
}

/// Blocks of a kernel that a streaming multiprocessor holds; 0 if not even one fits.
#[must_use]
pub fn blocks_per_sm(kernel: &Kernel, num_threads: u32, dynamic_shared_bytes: u32) -> u32 {
    let used = kernel.dynamic_base - RESERVED_SHARED;
    let total = used.saturating_add(dynamic_shared_bytes);
    if num_threads == 0 || num_threads > MAX_THREADS || total > MAX_SHARED_BYTES {
        return 0;
    }
    (SM_THREADS / num_threads.next_multiple_of(32))
        .min(SM_BLOCKS)
        .min(SM_SHARED_BYTES / (total + RESERVED_SHARED))
}

/// Checks a launch against the device's and the kernel's limits.
fn shape(kernel: &Kernel, launch: &Launch) -> Result<Shape, LaunchError> {
    let refuse = |arg: &'static str, expected: String, got: String| {
        Err(LaunchError::Shape { kernel: kernel.name().to_owned(), arg, expected, got })
    };
    let count = |extents: [u32; 3]| extents.iter().map(|n| u64::from(*n)).product::<u64>();
    let threads = count(launch.block);
    let most = MAX_THREADS.min(kernel.max_threads());
    if threads == 0 || threads > most.into() {
        return refuse("block", format!("1 to {most} threads"), format!("{:?}", launch.block));
    }
    let required = kernel.limits.required_block;
    if required != [0; 3] && required != launch.block {
        return refuse("block", format!("{required:?}"), format!("{:?}", launch.block));
    }
    if count(launch.grid) == 0 || launch.grid[1..].iter().any(|n| *n > 65535) {
        let expected = "1 to 65535 blocks along y and z".to_owned();
        return refuse("grid", expected, format!("{:?}", launch.grid));
    }
    let declared = kernel.limits.required_cluster;
    let cluster = if declared == [0; 3] { launch.cluster } else { declared };
    let num_ctas = count(cluster);
    let divides = (0..3).all(|i| cluster[i] != 0 && launch.grid[i].is_multiple_of(cluster[i]));
    if !divides || num_ctas > MAX_CLUSTER.into() {
        let expected = format!("at most {MAX_CLUSTER} blocks, dividing {:?}", launch.grid);
        return refuse("cluster", expected, format!("{cluster:?}"));
    }
    let used = kernel.dynamic_base - RESERVED_SHARED;
    let total = used.saturating_add(launch.dynamic_shared_bytes);
    if total > MAX_SHARED_BYTES {
        let expected = format!("at most {}", MAX_SHARED_BYTES.saturating_sub(used));
        return refuse("dynamic_shared_bytes", expected, launch.dynamic_shared_bytes.to_string());
    }
    if launch.params.len() < kernel.param_bytes() as usize {
        let expected = format!("{} bytes", kernel.param_bytes());
        return refuse("params", expected, format!("{} bytes", launch.params.len()));
    }
    let per_sm = blocks_per_sm(kernel, threads as u32, launch.dynamic_shared_bytes);
    let blocks = u64::from(per_sm) * u64::from(launch.num_sms);
    let all = count(launch.grid);
    if launch.cooperative && all > blocks {
        return refuse("grid", format!("at most {blocks} cooperative blocks"), all.to_string());
    }
    let asynchrony = match launch.asynchrony.map_or_else(Asynchrony::from_env, Ok) {
        Ok(asynchrony) => asynchrony,
        Err(error) => {
            let expected = "`earliest`, `latest` or `random:SEED`".to_owned();
            return refuse(asynchrony::VARIABLE, expected, error.got);
        }
    };
    let checks = match launch.checks.map_or_else(Checks::from_env, Ok) {
        Ok(checks) => checks,
        Err(error) => {
            let expected = "`all`, `none` or a list of checks".to_owned();
            return refuse(checks::VARIABLE, expected, error.got);
        }
    };
    let accumulation = match launch.accumulation.map_or_else(Accumulation::from_env, Ok) {
        Ok(accumulation) => accumulation,
        Err(error) => {
            let expected = "`fp32` or `hopper`".to_owned();
            return refuse(accumulation::VARIABLE, expected, error.got);
        }
    };
    static GRID_IDS: AtomicU64 = AtomicU64::new(1);
    Ok(Shape {
        grid: launch.grid,
        block: launch.block,
        cluster,
        explicit_cluster: num_ctas > 1,
        shared_bytes: RESERVED_SHARED + total,
        dynamic_bytes: launch.dynamic_shared_bytes,
        resident: (blocks / num_ctas).max(1) as usize,
        num_sms: launch.num_sms,
        grid_id: GRID_IDS.fetch_add(1, Ordering::Relaxed),
        envreg: [0, (launch.workspace >> 32) as u32, launch.workspace as u32],
        fuel: launch.fuel,
        asynchrony,
        checks,
        accumulation,
        host_threads: launch.host_threads,
        counts: launch.counts,
        timeline: launch.timeline,
        front: launch.front.clone(),
        dependents: launch.dependents.clone(),
    })
}
