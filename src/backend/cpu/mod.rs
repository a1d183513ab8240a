//! The cpu backend: native code at any rank count, and the oracle for the GPU.

mod buffer;
mod simd;
mod stream;

use std::time::{Duration, Instant};

use super::{Backend, Buffer};
use crate::error::{Error, Result};

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

    fn write(&self, buffer: &mut CpuBuffer, data: &[u8]) -> Result<()> {
        check_fits("write", buffer.num_bytes(), data.len())?;
        buffer.as_mut_bytes()[..data.len()].copy_from_slice(data);
        Ok(())
    }

    fn read(&self, buffer: &CpuBuffer, data: &mut [u8]) -> Result<()> {
        check_fits("read", buffer.num_bytes(), data.len())?;
        data.copy_from_slice(&buffer.as_bytes()[..data.len()]);
        Ok(())
    }
}

fn check_fits(op: &'static str, capacity: usize, needed: usize) -> Result<()> {
    if needed <= capacity {
        return Ok(());
    }
    Err(Error::Capacity { op, arg: "buffer", needed, capacity, unit: "bytes" })
}
