//! What streams and graphs do.

use std::ffi::c_void;
use std::slice::from_raw_parts_mut;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use vgpu::{Dependents, Fault, FaultKind, GridEnd, Launch, LaunchError, MemoryError, Span};

use crate::context::Shared;
use crate::driver::driver;
use crate::failure::{Failure, Result};
use crate::graph::GraphExec;
use crate::heap::GraphMemory;
use crate::module::Function;
use crate::remote::Remote;
use crate::status::Status;
use crate::value::{Until, Value};
use crate::{counts, timeline};

/// An operation in a stream or a graph.
#[derive(Clone)]
pub enum Operation {
    /// A kernel.
    Launch(Arc<KernelLaunch>),
    /// A copy.
    Copy(Copy),
    /// Bytes set to a pattern.
    Fill(Fill),
    /// A function of the caller.
    Host(HostFunction),
    /// The time is taken.
    Stamp(Arc<OnceLock<Instant>>),
    /// A graph's memory is allocated.
    Alloc(GraphMemory),
    /// Device memory is given back.
    Free(u64),
    /// A number in memory is waited for.
    Await(Value, Until),
    /// A number in memory is written.
    Write(Value),
    /// An event that other processes see has been passed.
    Pass(Arc<Remote>, u64),
    /// The record of another process's event is waited for.
    AwaitEvent(Arc<Remote>, u64),
    /// A graph.
    Graph(Arc<GraphExec>),
    /// Nothing.
    Nothing,
}

/// A kernel and how it is launched.
pub struct KernelLaunch {
    /// The kernel.
    pub function: Arc<Function>,
    /// Its shape and arguments.
    pub launch: Launch,
    /// It may begin before the launch in front of it in the stream has ended.
    pub overlaps: bool,
}

/// Rows that are copied.
#[derive(Clone)]
pub struct Copy {
    /// To where.
    pub dst: Side,
    /// From where.
    pub src: Side,
    /// Bytes of a row.
    pub width: u64,
    /// Rows.
    pub height: u64,
}

/// One side of a copy.
#[derive(Clone)]
pub struct Side {
    /// First byte.
    pub start: Start,
    /// Bytes from a row to the next.
    pub pitch: u64,
}

/// Where a side of a copy starts.
#[derive(Clone)]
pub enum Start {
    /// Memory of a device, or host memory that devices see.
    Device(u64),
    /// Other host memory.
    Host(HostAddress),
    /// A copy of other host memory.
    Staged(Arc<[u8]>),
}

/// An address in the caller's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostAddress(pub *mut u8);

// SAFETY: the caller of the driver API keeps the memory valid until the operation is done.
unsafe impl Send for HostAddress {}
// SAFETY: as above.
unsafe impl Sync for HostAddress {}

/// Rows that are set to a pattern.
#[derive(Clone, Copy)]
pub struct Fill {
    /// First byte.
    pub address: u64,
    /// The element.
    pub value: u32,
    /// Bytes of an element: 1, 2 or 4.
    pub element_bytes: u64,
    /// Elements of a row.
    pub width: u64,
    /// Rows.
    pub height: u64,
    /// Bytes from a row to the next.
    pub pitch: u64,
}

/// A function of the caller, and what it is given.
#[derive(Clone, Copy)]
pub struct HostFunction {
    /// The function.
    pub call: HostCall,
    /// Its argument.
    pub data: HostAddress,
}

/// The two shapes of functions.
#[derive(Clone, Copy)]
pub enum HostCall {
    /// `CUhostFn`.
    Function(unsafe extern "C" fn(*mut c_void)),
    /// `CUstreamCallback` with the stream's handle.
    Callback(unsafe extern "C" fn(usize, Status, *mut c_void), usize),
}

impl Operation {
    /// Runs the operation, or not if an earlier one has failed. A fault fails the context.
    pub fn run_or_fail(&self, shared: &Shared) {
        let is_callback =
            matches!(self, Operation::Host(HostFunction { call: HostCall::Callback(..), .. }));
        let is_event = matches!(self, Operation::Stamp(_) | Operation::Pass(..));
        if shared.check().is_err() && !is_callback && !is_event {
            return;
        }
        if let Err(failure) = self.run(shared) {
            shared.fail(failure);
        }
    }

    fn run(&self, shared: &Shared) -> Result<()> {
        match self {
            Operation::Launch(kernel) => {
                run_kernel(&kernel.function, kernel.launch.clone(), shared)
            }
            Operation::Copy(copy) => copy.run(),
            Operation::Fill(fill) => fill.run(),
            Operation::Host(function) => {
                function.run(shared);
                Ok(())
            }
            Operation::Stamp(time) => {
                time.get_or_init(Instant::now);
                Ok(())
            }
            Operation::Alloc(memory) => driver()?.heap.alloc_for_graph(memory),
            Operation::Free(address) => driver()?.heap.free(*address),
            Operation::Await(value, until) => value.wait(*until),
            Operation::Write(value) => value.write(),
            Operation::Pass(event, number) => {
                event.pass(*number);
                Ok(())
            }
            Operation::AwaitEvent(event, number) => {
                event.wait(*number);
                Ok(())
            }
            Operation::Graph(graph) => {
                graph.run(shared);
                Ok(())
            }
            Operation::Nothing => Ok(()),
        }
    }
}

/// Bytes of the workspace of a grid-wide barrier.
const WORKSPACE_BYTES: u64 = 256;

fn run_kernel(function: &Function, mut launch: Launch, shared: &Shared) -> Result<()> {
    let (module, memory) = (&function.module, &driver()?.memory);
    launch.counts = counts::are_wanted();
    launch.timeline = launch.counts || timeline::are_wanted();
    if launch.cooperative {
        launch.workspace = memory.alloc(module.device, WORKSPACE_BYTES)?;
        memory.initialise(launch.workspace, WORKSPACE_BYTES)?;
    }
    let report = module.image.launch(&function.name, &launch);
    if launch.cooperative {
        memory.free(launch.workspace)?;
    }
    let report = report.map_err(launch_failure)?;
    if report.counts.is_some() {
        counts::record(&function.name, module.device, &launch, &report);
    }
    if let Some(timeline) = &report.timeline {
        timeline::record(&function.name, module.device, &launch, timeline);
    }
    shared.print(&report.output);
    Ok(())
}

/// Runs a kernel among others that overlap it; it fails as an operation of a stream does.
pub fn run_overlapping(
    kernel: &KernelLaunch,
    front: Option<GridEnd>,
    dependents: Dependents,
    shared: &Shared,
) {
    if shared.check().is_err() {
        return;
    }
    let launch = Launch { front, dependents: Some(dependents), ..kernel.launch.clone() };
    if let Err(failure) = run_kernel(&kernel.function, launch, shared) {
        shared.fail(failure);
    }
}

/// The code for a launch that did not run to its end.
pub fn launch_failure(error: LaunchError) -> Failure {
    let status = match &error {
        LaunchError::NoKernel { .. } => Status::NOT_FOUND,
        LaunchError::Shape { arg: "cluster", .. } => Status::INVALID_CLUSTER_SIZE,
        LaunchError::Shape { .. } => Status::INVALID_VALUE,
        LaunchError::Fault(fault) => fault_status(fault),
    };
    Failure::new(status, error.to_string())
}

fn fault_status(fault: &Fault) -> Status {
    match fault.kind {
        FaultKind::OutOfBounds { .. } => Status::ILLEGAL_ADDRESS,
        FaultKind::Misaligned { .. } => Status::MISALIGNED_ADDRESS,
        FaultKind::Assert { .. } => Status::ASSERT,
        FaultKind::Deadlock { .. } | FaultKind::OutOfFuel { .. } => Status::LAUNCH_TIMEOUT,
        _ => Status::LAUNCH_FAILED,
    }
}

impl Copy {
    fn run(&self) -> Result<()> {
        // Rows without a gap are one row.
        let is_dense = |side: &Side| self.height == 1 || side.pitch == self.width;
        let (width, height) = match is_dense(&self.dst) && is_dense(&self.src) {
            true => (self.width * self.height, 1),
            false => (self.width, self.height),
        };
        if width == 0 {
            return Ok(());
        }
        for row in 0..height {
            let mut done = 0;
            while done < width {
                let dst = self.dst.piece(row, done, width - done);
                let dst = dst.map_err(|error| self.failure("writes", &error))?;
                let src = self.src.piece(row, done, dst.bytes);
                let src = src.map_err(|error| self.failure("reads", &error))?;
                // SAFETY: both pieces hold `src.bytes` bytes; they may overlap.
                unsafe { std::ptr::copy(src.start, dst.start, src.bytes as usize) };
                if let Start::Device(address) = self.dst.start {
                    let address = address + row * self.dst.pitch + done;
                    driver()?.memory.initialise(address, src.bytes)?;
                }
                done += src.bytes;
            }
        }
        Ok(())
    }

    fn failure(&self, does: &str, error: &MemoryError) -> Failure {
        let (width, height) = (self.width, self.height);
        let reason =
            format!("a copy of {height} rows of {width} bytes {does} out of bounds: {error}");
        Failure::new(Status::ILLEGAL_ADDRESS, reason)
    }
}

/// A part of a row that lies in one piece, with what keeps it alive.
struct Piece {
    start: *mut u8,
    bytes: u64,
    _span: Option<Span>,
}

impl Side {
    /// The longest piece that starts at byte `at` of a row, up to `bytes`.
    fn piece(&self, row: u64, at: u64, bytes: u64) -> std::result::Result<Piece, MemoryError> {
        let offset = row * self.pitch + at;
        Ok(match &self.start {
            Start::Device(address) => {
                let memory = &driver().map_err(|_| MemoryError::NoDevice { device: 0 })?.memory;
                let (span, bytes) = memory.span_from(address + offset, bytes)?;
                Piece { start: span.as_mut_ptr(), bytes, _span: Some(span) }
            }
            Start::Host(address) => {
                Piece { start: address.0.wrapping_add(offset as usize), bytes, _span: None }
            }
            Start::Staged(staged) => {
                let start = staged.as_ptr().wrapping_add(offset as usize).cast_mut();
                Piece { start, bytes, _span: None }
            }
        })
    }
}

impl Fill {
    fn run(&self) -> Result<()> {
        let bytes = self.width * self.element_bytes;
        if bytes == 0 {
            return Ok(());
        }
        for row in 0..self.height {
            let mut done = 0;
            while done < bytes {
                let address = self.address + row * self.pitch + done;
                let (span, length) =
                    driver()?.memory.span_from(address, bytes - done).map_err(|error| {
                        let reason = format!("a fill of {bytes} bytes is out of bounds: {error}");
                        Failure::new(Status::ILLEGAL_ADDRESS, reason)
                    })?;
                self.set(span.as_mut_ptr(), (length / self.element_bytes) as usize);
                driver()?.memory.initialise(address, length)?;
                done += length;
            }
        }
        Ok(())
    }

    /// Sets elements at an address, which is theirs and aligned.
    fn set(&self, start: *mut u8, count: usize) {
        // SAFETY: the caller found the memory, and the call checked that elements are aligned.
        unsafe {
            match self.element_bytes {
                1 => start.write_bytes(self.value as u8, count),
                2 => from_raw_parts_mut(start.cast(), count).fill(self.value as u16),
                _ => from_raw_parts_mut(start.cast(), count).fill(self.value),
            }
        }
    }
}

impl HostFunction {
    fn run(&self, shared: &Shared) {
        let data = self.data.0.cast();
        match self.call {
            // SAFETY: the caller gave the function for this.
            HostCall::Function(function) => unsafe { function(data) },
            HostCall::Callback(function, stream) => {
                let status = shared.check().err().map_or(Status::SUCCESS, |it| it.status);
                // SAFETY: as above.
                unsafe { function(stream, status, data) }
            }
        }
    }
}
