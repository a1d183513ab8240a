//! All that the library knows of this process.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use vgpu::{Memory, MemoryError};

use crate::context::Context;
use crate::event::Event;
use crate::failure::{Failure, Result};
use crate::graph::{Graph, GraphExec};
use crate::handles::Handles;
use crate::heap::Heap;
use crate::library::{Library, LibraryKernel};
use crate::module::{Function, Module};
use crate::multicast::Multicast;
use crate::primary::Primary;
use crate::settings::settings;
use crate::status::Status;
use crate::stream::Stream;
use crate::vmm::{Physical, Ranges};

/// The state behind the calls.
pub struct Driver {
    /// The address space of all devices.
    pub memory: Arc<Memory>,
    /// Allocations, as the calls for memory see them.
    pub heap: Heap,
    /// Primary contexts by device.
    pub primary: Vec<Primary>,
    /// All contexts.
    pub contexts: Handles<Context>,
    /// Streams that the caller made.
    pub streams: Handles<Stream>,
    /// Events.
    pub events: Handles<Event>,
    /// Modules.
    pub modules: Handles<Module>,
    /// Kernels that were asked for.
    pub functions: Handles<Function>,
    /// Code that belongs to no context, and its kernels.
    pub libraries: Handles<Library>,
    /// Kernels of libraries.
    pub kernels: Handles<LibraryKernel>,
    /// Memory without an address.
    pub physical: Handles<Physical>,
    /// Objects that join the memory of several devices.
    pub multicasts: Handles<Multicast>,
    /// Addresses that were reserved, and what is mapped there.
    pub ranges: Ranges,
    /// Captured graphs.
    pub graphs: Handles<Graph>,
    /// Graphs that can be launched.
    pub graph_execs: Handles<GraphExec>,
}

static INITIALISED: AtomicBool = AtomicBool::new(false);

/// `cuInit`.
pub fn initialise() {
    INITIALISED.store(true, Ordering::Release);
}

/// The state, once `cuInit` has been called.
///
/// # Errors
///
/// `NOT_INITIALIZED`.
pub fn driver() -> Result<&'static Driver> {
    if !INITIALISED.load(Ordering::Acquire) {
        return Err(Failure::new(Status::NOT_INITIALIZED, "cuInit comes first"));
    }
    static DRIVER: OnceLock<Driver> = OnceLock::new();
    Ok(DRIVER.get_or_init(|| Driver {
        memory: Arc::default(),
        heap: Heap::default(),
        primary: (0..settings().num_devices).map(|_| Primary::default()).collect(),
        contexts: Handles::new("context"),
        streams: Handles::new("stream"),
        events: Handles::new("event"),
        modules: Handles::new("module"),
        functions: Handles::new("function"),
        libraries: Handles::new("library"),
        kernels: Handles::new("kernel of a library"),
        physical: Handles::new("physical memory"),
        multicasts: Handles::new("multicast object"),
        ranges: Ranges::default(),
        graphs: Handles::new("graph"),
        graph_execs: Handles::new("executable graph"),
    }))
}

impl Driver {
    /// Fails unless there is memory at all of a range, in one allocation or in several, or will be
    /// when a graph runs.
    ///
    /// # Errors
    ///
    /// [`MemoryError::OutOfBounds`].
    pub fn check_span(&self, address: u64, bytes: u64) -> std::result::Result<(), MemoryError> {
        let mut done = 0;
        while done < bytes {
            done += match self.memory.span_from(address + done, bytes - done) {
                Ok((_, length)) => length,
                Err(error) => self.heap.graph_bytes_from(address + done).ok_or(error)?,
            };
        }
        Ok(())
    }

    /// Index of a device.
    ///
    /// # Errors
    ///
    /// `INVALID_DEVICE`.
    pub fn device(&self, device: i32) -> Result<usize> {
        let num = self.primary.len();
        usize::try_from(device).ok().filter(|index| *index < num).ok_or_else(|| {
            let reason = format!("device {device} of {num}");
            Failure::new(Status::INVALID_DEVICE, reason)
        })
    }
}
