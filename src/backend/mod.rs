//! Backends: where stages run. `moe`, `gemm` and `mla` check arguments; a backend only computes.

pub(crate) mod cpu;

use std::time::Duration;

use crate::error::Result;

pub use cpu::{Cpu, SimdLevel};

/// A place where stages run: a processor with its memory, streams and events. Clones share it.
///
/// A stage is `fn(&self, &Self::Stream, Args<'_, Self>) -> Result<()>`. It enqueues: it never waits,
/// allocates or copies to the host, so any sequence of stages can be captured in a graph. The
/// arguments were checked when they were made, so a stage can trust shapes and strides. Faults in
/// *values* (an index out of range, an overflow, a peer that never came) are kept by the stream and
/// turned into an error by [`Backend::check`].
pub trait Backend: Clone + Send + Sync + 'static {
    /// An ordered queue of stages.
    type Stream: Send + Sync;
    /// A point in a stream's order, with its time.
    type Event: Send + Sync;
    /// Owned memory.
    type Buffer: Buffer;

    /// Short name for reports: "cpu", "cuda".
    fn name(&self) -> &'static str;

    /// Opens a stream.
    ///
    /// # Errors
    ///
    /// Those of the driver.
    fn stream(&self) -> Result<Self::Stream>;

    /// Waits for the stream and returns the first fault that its stages recorded, clearing it.
    ///
    /// # Errors
    ///
    /// The recorded fault, or what the driver reports.
    fn check(&self, stream: &Self::Stream) -> Result<()>;

    /// Marks the stream's present end.
    ///
    /// # Errors
    ///
    /// Those of the driver.
    fn record(&self, stream: &Self::Stream) -> Result<Self::Event>;

    /// Time between two events of one stream; waits for `end`.
    ///
    /// # Errors
    ///
    /// Those of the driver.
    fn elapsed(&self, start: &Self::Event, end: &Self::Event) -> Result<Duration>;

    /// Allocates `num_bytes` zeroed bytes, aligned to 256.
    ///
    /// # Errors
    ///
    /// [`crate::Error::OutOfMemory`] when there is no room.
    fn alloc(&self, num_bytes: usize) -> Result<Self::Buffer>;

    /// Copies host bytes to the start of a buffer and waits.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Capacity`] if the buffer is smaller than `data`.
    fn write(&self, buffer: &mut Self::Buffer, data: &[u8]) -> Result<()>;

    /// Waits for all streams, then copies the start of a buffer to the host.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Capacity`] if the buffer is smaller than `data`.
    fn read(&self, buffer: &Self::Buffer, data: &mut [u8]) -> Result<()>;
}

/// Memory owned through a backend.
pub trait Buffer: Send + Sync {
    /// Size in bytes.
    fn num_bytes(&self) -> usize;

    /// Address of the first byte; a device address is not to be dereferenced by the host.
    fn as_ptr(&self) -> *const u8;

    /// Address of the first byte, for writing.
    fn as_mut_ptr(&mut self) -> *mut u8;
}
