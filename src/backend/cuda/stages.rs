//! `Backend` for [`Cuda`]: which stages there are, and where each is launched.

use std::time::Duration;

use super::driver::{Stream, read, write};
use super::host_ep::CudaSymmetric;
use super::{Cuda, CudaBuffer, CudaEvent, CudaStream, gate, gemm, host_ep, plan, quant, swiglu};
use crate::backend::Backend;
use crate::comm::World;
use crate::error::Result;
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

impl Backend for Cuda {
    type Stream = CudaStream;
    type Event = CudaEvent;
    type Buffer = CudaBuffer;
    type Symmetric = CudaSymmetric;

    fn name(&self) -> &'static str {
        "cuda"
    }

    fn stream(&self) -> Result<CudaStream> {
        CudaStream::new(Stream::new(self.context())?)
    }

    fn check(&self, stream: &CudaStream) -> Result<()> {
        stream.check()
    }

    fn record(&self, stream: &CudaStream) -> Result<CudaEvent> {
        CudaEvent::record(&stream.driver)
    }

    fn elapsed(&self, start: &CudaEvent, end: &CudaEvent) -> Result<Duration> {
        end.since(start)
    }

    fn alloc(&self, num_bytes: usize) -> Result<CudaBuffer> {
        CudaBuffer::zeroed(self.context(), num_bytes)
    }

    unsafe fn write(&self, dst: *mut u8, data: &[u8]) -> Result<()> {
        // SAFETY: the caller promised `data.len()` bytes that nothing else accesses.
        unsafe { write(self.context(), dst, data) }
    }

    unsafe fn read(&self, src: *const u8, data: &mut [u8]) -> Result<()> {
        // SAFETY: the caller promised `data.len()` initialised bytes that nothing writes.
        unsafe { read(self.context(), src, data) }
    }

    fn alloc_symmetric(
        &self,
        world: &World,
        num_bytes: usize,
        num_signals: usize,
    ) -> Result<CudaSymmetric> {
        world.alloc_symmetric(num_bytes, num_signals).map(CudaSymmetric::new)
    }

    fn gemm_nt(&self, stream: &CudaStream, args: GemmArgs<'_, Self>) -> Result<()> {
        gemm::dense(self, stream, args)
    }

    fn m_grouped_gemm_nt_contiguous(
        &self,
        stream: &CudaStream,
        args: GroupedGemmArgs<'_, Self>,
    ) -> Result<()> {
        gemm::contiguous(self, stream, args)
    }

    fn m_grouped_gemm_nt_masked(
        &self,
        stream: &CudaStream,
        args: MaskedGemmArgs<'_, Self>,
    ) -> Result<()> {
        gemm::masked(self, stream, args)
    }

    fn m_grouped_gemm_swiglu_contiguous(
        &self,
        stream: &CudaStream,
        args: GroupedSwigluArgs<'_, Self>,
    ) -> Result<()> {
        gemm::swiglu_contiguous(self, stream, args)
    }

    fn m_grouped_gemm_swiglu_masked(
        &self,
        stream: &CudaStream,
        args: MaskedSwigluArgs<'_, Self>,
    ) -> Result<()> {
        gemm::swiglu_masked(self, stream, args)
    }

    fn swiglu_fusion_pays(&self, shape: &GemmShape) -> bool {
        gemm::swiglu_fusion_pays(self, shape)
    }

    fn k_grouped_gemm_nt_contiguous(
        &self,
        stream: &CudaStream,
        args: KGroupedGemmArgs<'_, Self>,
    ) -> Result<()> {
        gemm::k_grouped(self, stream, args)
    }

    fn gate(&self, stream: &CudaStream, args: GateArgs<'_, Self>) -> Result<()> {
        gate::gate(self, stream, args)
    }

    fn plan(&self, stream: &CudaStream, args: PlanArgs<'_, Self>) -> Result<()> {
        plan::plan(self, stream, args)
    }

    fn dispatch_send(&self, stream: &CudaStream, args: DispatchSendArgs<'_, Self>) -> Result<()> {
        host_ep::dispatch_send(self, stream, args)
    }

    fn dispatch_gather(
        &self,
        stream: &CudaStream,
        args: DispatchGatherArgs<'_, Self>,
    ) -> Result<()> {
        host_ep::dispatch_gather(self, stream, args)
    }

    fn dispatch_recv(&self, stream: &CudaStream, args: DispatchRecvArgs<'_, Self>) -> Result<()> {
        host_ep::dispatch_recv(self, stream, args)
    }

    fn combine_send(&self, stream: &CudaStream, args: CombineSendArgs<'_, Self>) -> Result<()> {
        host_ep::combine_send(self, stream, args)
    }

    fn combine_recv(&self, stream: &CudaStream, args: CombineRecvArgs<'_, Self>) -> Result<()> {
        host_ep::combine_recv(self, stream, args)
    }

    fn quantize<T: Activation>(
        &self,
        stream: &CudaStream,
        args: QuantizeArgs<'_, Self, T>,
    ) -> Result<()> {
        quant::quantize(self, stream, args)
    }

    fn quantize_block<T: Activation>(
        &self,
        stream: &CudaStream,
        args: QuantizeBlockArgs<'_, Self, T>,
    ) -> Result<()> {
        quant::quantize_block(self, stream, args)
    }

    fn quantize_channel<T: Activation>(
        &self,
        stream: &CudaStream,
        args: QuantizeChannelArgs<'_, Self, T>,
    ) -> Result<()> {
        quant::quantize_channel(self, stream, args)
    }

    fn quantize_transpose<T: Activation>(
        &self,
        stream: &CudaStream,
        args: QuantizeTransposeArgs<'_, Self, T>,
    ) -> Result<()> {
        quant::quantize_transpose(self, stream, args)
    }

    fn dequantize<T: Activation>(
        &self,
        stream: &CudaStream,
        args: DequantizeArgs<'_, Self, T>,
    ) -> Result<()> {
        quant::dequantize(self, stream, args)
    }

    fn relayout_scales(
        &self,
        stream: &CudaStream,
        args: RelayoutScalesArgs<'_, Self>,
    ) -> Result<()> {
        quant::relayout_scales(self, stream, args)
    }

    fn pack_scales(&self, stream: &CudaStream, args: PackScalesArgs<'_, Self>) -> Result<()> {
        quant::pack_scales(self, stream, args)
    }

    fn unpack_scales(&self, stream: &CudaStream, args: UnpackScalesArgs<'_, Self>) -> Result<()> {
        quant::unpack_scales(self, stream, args)
    }

    fn swiglu<T: Activation, U: Activation>(
        &self,
        stream: &CudaStream,
        args: SwigluArgs<'_, Self, T, U>,
    ) -> Result<()> {
        swiglu::forward(self, stream, args)
    }

    fn swiglu_quantize<T: Activation>(
        &self,
        stream: &CudaStream,
        args: SwigluQuantizeArgs<'_, Self, T>,
    ) -> Result<()> {
        swiglu::forward_quantized(self, stream, args)
    }

    fn swiglu_backward<T: Activation, D: Activation>(
        &self,
        stream: &CudaStream,
        args: SwigluBackwardArgs<'_, Self, T, D>,
    ) -> Result<()> {
        swiglu::backward(self, stream, args)
    }
}
