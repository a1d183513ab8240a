//! The cpu backend: native code at any rank count, and the oracle for the GPU.

mod buffer;
mod combine;
mod dispatch;
mod gate;
pub(crate) mod gemm;
mod plan;
mod rows;
mod scratch;
mod shared_mut;
mod simd;
mod stream;

use std::time::{Duration, Instant};

use super::Backend;
use crate::comm::{SymmetricBuffer, World};
use crate::error::{Error, Result};
use crate::moe::combine::{CombineRecvArgs, CombineSendArgs};
use crate::moe::dispatch::{DispatchGatherArgs, DispatchRecvArgs, DispatchSendArgs};
use crate::moe::gate::GateArgs;
use crate::moe::plan::PlanArgs;

pub use buffer::CpuBuffer;
pub use simd::SimdLevel;
pub use stream::CpuStream;

/// The cpu backend. Streams run inline: a stage is done when its call returns.
///
/// # Examples
///
/// ```
/// use moekit::{Backend, Cpu};
/// let cpu = Cpu::new();
/// let stream = cpu.stream()?;
/// cpu.check(&stream)?;
/// # Ok::<(), moekit::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Cpu {
    simd: SimdLevel,
}

impl Cpu {
    /// Uses the best instructions that this processor has.
    pub fn new() -> Self {
        Self { simd: SimdLevel::detect() }
    }

    /// Uses no instructions beyond `simd`, to compare levels.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] if the processor lacks them.
    pub fn with_simd(simd: SimdLevel) -> Result<Self> {
        let best = SimdLevel::detect();
        if simd > best {
            return Err(Error::Unavailable {
                op: "cpu backend",
                what: "SIMD level",
                reason: format!("{simd} was asked for, this processor has {best}"),
            });
        }
        Ok(Self { simd })
    }

    /// The instructions in use.
    pub fn simd(&self) -> SimdLevel {
        self.simd
    }
}

impl Default for Cpu {
    fn default() -> Self {
        Self::new()
    }
}

impl Backend for Cpu {
    type Stream = CpuStream;
    type Event = Instant;
    type Buffer = CpuBuffer;
    type Symmetric = SymmetricBuffer;

    fn name(&self) -> &'static str {
        "cpu"
    }

    fn stream(&self) -> Result<CpuStream> {
        Ok(CpuStream::default())
    }

    fn check(&self, stream: &CpuStream) -> Result<()> {
        stream.take_fault()
    }

    fn record(&self, _stream: &CpuStream) -> Result<Instant> {
        Ok(Instant::now())
    }

    fn elapsed(&self, start: &Instant, end: &Instant) -> Result<Duration> {
        Ok(end.saturating_duration_since(*start))
    }

    fn alloc(&self, num_bytes: usize) -> Result<CpuBuffer> {
        CpuBuffer::zeroed(num_bytes)
    }

    unsafe fn write(&self, dst: *mut u8, data: &[u8]) -> Result<()> {
        // SAFETY: the caller promised `data.len()` bytes that nothing else accesses.
        unsafe { dst.copy_from_nonoverlapping(data.as_ptr(), data.len()) };
        Ok(())
    }

    unsafe fn read(&self, src: *const u8, data: &mut [u8]) -> Result<()> {
        // SAFETY: the caller promised `data.len()` initialised bytes that nothing writes.
        unsafe { data.as_mut_ptr().copy_from_nonoverlapping(src, data.len()) };
        Ok(())
    }

    fn alloc_symmetric(
        &self,
        world: &World,
        num_bytes: usize,
        num_signals: usize,
    ) -> Result<SymmetricBuffer> {
        world.alloc_symmetric(num_bytes, num_signals)
    }

    fn gate(&self, stream: &CpuStream, args: GateArgs<'_, Self>) -> Result<()> {
        gate::gate(self.simd, stream, args);
        Ok(())
    }

    fn plan(&self, stream: &CpuStream, args: PlanArgs<'_, Self>) -> Result<()> {
        plan::plan(stream, args);
        Ok(())
    }

    fn dispatch_send(&self, stream: &CpuStream, args: DispatchSendArgs<'_, Self>) -> Result<()> {
        dispatch::send(stream, args)
    }

    fn dispatch_gather(&self, _: &CpuStream, args: DispatchGatherArgs<'_, Self>) -> Result<()> {
        dispatch::gather(args)
    }

    fn dispatch_recv(&self, _: &CpuStream, args: DispatchRecvArgs<'_, Self>) -> Result<()> {
        dispatch::recv(args)
    }

    fn combine_send(&self, _: &CpuStream, args: CombineSendArgs<'_, Self>) -> Result<()> {
        combine::send(self.simd, args)
    }

    fn combine_recv(&self, _: &CpuStream, args: CombineRecvArgs<'_, Self>) -> Result<()> {
        combine::recv(self.simd, args)
    }
}
