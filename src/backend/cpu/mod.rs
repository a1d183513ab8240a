//! The cpu backend: native code at any rank count, and the oracle for the GPU.

mod buffer;
mod combine;
mod dispatch;
mod gate;
mod gemm;
mod limits;
mod parallel;
mod plan;
mod quant;
mod row_copy;
mod row_mask;
mod rows;
mod scratch;
mod shared_mut;
mod simd;
mod stream;
mod swiglu;

use std::time::{Duration, Instant};

use super::Backend;
use crate::comm::{SymmetricBuffer, World};
use crate::error::{Error, Result};
use crate::gemm::{
    GemmArgs, GemmShape, GroupedGemmArgs, GroupedSwigluArgs, KGroupedGemmArgs, MaskedGemmArgs,
    MaskedSwigluArgs,
};
use crate::moe::Activation;
use crate::moe::combine::{CombineRecvArgs, CombineSendArgs};
use crate::moe::dispatch::{DispatchGatherArgs, DispatchRecvArgs, DispatchSendArgs};
use crate::moe::gate::GateArgs;
use crate::moe::plan::PlanArgs;
use crate::moe::quant::{
    DequantizeArgs, PackScalesArgs, QuantizeArgs, QuantizeBlockArgs, QuantizeChannelArgs,
    QuantizeTransposeArgs, RelayoutScalesArgs, UnpackScalesArgs,
};
use crate::moe::swiglu::{SwigluArgs, SwigluBackwardArgs, SwigluQuantizeArgs};

pub use buffer::CpuBuffer;
pub use limits::Limits;
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

    fn record(&self, _: &CpuStream) -> Result<Instant> {
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

    fn gemm_nt(&self, _: &CpuStream, args: GemmArgs<'_, Self>) -> Result<()> {
        self.dense(args)
    }

    fn m_grouped_gemm_nt_contiguous(
        &self,
        stream: &CpuStream,
        args: GroupedGemmArgs<'_, Self>,
    ) -> Result<()> {
        self.contiguous(stream, args)
    }

    fn m_grouped_gemm_nt_masked(
        &self,
        stream: &CpuStream,
        args: MaskedGemmArgs<'_, Self>,
    ) -> Result<()> {
        self.masked(stream, args);
        Ok(())
    }

    fn m_grouped_gemm_swiglu_contiguous(
        &self,
        stream: &CpuStream,
        args: GroupedSwigluArgs<'_, Self>,
    ) -> Result<()> {
        self.swiglu_contiguous(stream, args)
    }

    fn m_grouped_gemm_swiglu_masked(
        &self,
        stream: &CpuStream,
        args: MaskedSwigluArgs<'_, Self>,
    ) -> Result<()> {
        self.swiglu_masked(stream, args)
    }

    // It is the two stages.
    fn swiglu_fusion_pays(&self, _: &GemmShape) -> bool {
        false
    }

    fn k_grouped_gemm_nt_contiguous(
        &self,
        _: &CpuStream,
        args: KGroupedGemmArgs<'_, Self>,
    ) -> Result<()> {
        self.k_grouped(args);
        Ok(())
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
        dispatch::send(self.simd, stream, args)
    }

    fn dispatch_gather(&self, _: &CpuStream, args: DispatchGatherArgs<'_, Self>) -> Result<()> {
        dispatch::gather(args)
    }

    fn dispatch_recv(&self, _: &CpuStream, args: DispatchRecvArgs<'_, Self>) -> Result<()> {
        dispatch::recv(self.simd, args)
    }

    fn combine_send(&self, _: &CpuStream, args: CombineSendArgs<'_, Self>) -> Result<()> {
        combine::send(self.simd, args)
    }

    fn combine_recv(&self, _: &CpuStream, args: CombineRecvArgs<'_, Self>) -> Result<()> {
        combine::recv(self.simd, args)
    }

    fn quantize<T: Activation>(
        &self,
        _: &CpuStream,
        args: QuantizeArgs<'_, Self, T>,
    ) -> Result<()> {
        quant::quantize(self, args);
        Ok(())
    }

    fn quantize_block<T: Activation>(
        &self,
        _: &CpuStream,
        args: QuantizeBlockArgs<'_, Self, T>,
    ) -> Result<()> {
        quant::quantize_block(self, args);
        Ok(())
    }

    fn quantize_channel<T: Activation>(
        &self,
        _: &CpuStream,
        args: QuantizeChannelArgs<'_, Self, T>,
    ) -> Result<()> {
        quant::quantize_channel(self, args);
        Ok(())
    }

    fn quantize_transpose<T: Activation>(
        &self,
        stream: &CpuStream,
        args: QuantizeTransposeArgs<'_, Self, T>,
    ) -> Result<()> {
        quant::quantize_transpose(self, stream, args);
        Ok(())
    }

    fn dequantize<T: Activation>(
        &self,
        _: &CpuStream,
        args: DequantizeArgs<'_, Self, T>,
    ) -> Result<()> {
        quant::dequantize(self, args);
        Ok(())
    }

    fn relayout_scales(&self, _: &CpuStream, args: RelayoutScalesArgs<'_, Self>) -> Result<()> {
        quant::relayout_scales(args);
        Ok(())
    }

    fn pack_scales(&self, stream: &CpuStream, args: PackScalesArgs<'_, Self>) -> Result<()> {
        quant::pack_scales(stream, args);
        Ok(())
    }

    fn unpack_scales(&self, _: &CpuStream, args: UnpackScalesArgs<'_, Self>) -> Result<()> {
        quant::unpack_scales(args);
        Ok(())
    }

    fn swiglu<T: Activation, U: Activation>(
        &self,
        _: &CpuStream,
        args: SwigluArgs<'_, Self, T, U>,
    ) -> Result<()> {
        swiglu::forward(self, args);
        Ok(())
    }

    fn swiglu_quantize<T: Activation>(
        &self,
        _: &CpuStream,
        args: SwigluQuantizeArgs<'_, Self, T>,
    ) -> Result<()> {
        swiglu::forward_quantized(self, args);
        Ok(())
    }

    fn swiglu_backward<T: Activation, D: Activation>(
        &self,
        _: &CpuStream,
        args: SwigluBackwardArgs<'_, Self, T, D>,
    ) -> Result<()> {
        swiglu::backward(self, args);
        Ok(())
    }
}
