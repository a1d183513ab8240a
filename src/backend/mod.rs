//! Backends: where stages run. `moe`, `gemm` and `mla` check arguments; a backend only computes.

pub(crate) mod cpu;
pub mod cuda;

use std::time::Duration;

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

pub use cpu::{Cpu, CpuBuffer, CpuStream, Limits, SimdLevel};

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
    /// Memory of the same layout on all ranks, reachable by peers.
    type Symmetric: Send + Sync;

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

    /// Waits for all streams, then copies host bytes to the backend's memory and waits.
    /// [`crate::tensor::TensorMut::copy_from_host`] is the safe form.
    ///
    /// # Errors
    ///
    /// Those of the driver.
    ///
    /// # Safety
    ///
    /// `dst` points at `data.len()` bytes of this backend's memory that nothing else accesses.
    unsafe fn write(&self, dst: *mut u8, data: &[u8]) -> Result<()>;

    /// Waits for all streams, then copies the backend's memory to the host.
    /// [`crate::tensor::TensorRef::to_host`] is the safe form.
    ///
    /// # Errors
    ///
    /// Those of the driver.
    ///
    /// # Safety
    ///
    /// `src` points at `data.len()` initialised bytes of this backend's memory that nothing writes.
    unsafe fn read(&self, src: *const u8, data: &mut [u8]) -> Result<()>;

    /// Allocates symmetric memory with `num_signals` signal words per peer; collective.
    ///
    /// # Errors
    ///
    /// [`crate::Error::OutOfMemory`]; those of the world if a rank does not take part.
    fn alloc_symmetric(
        &self,
        world: &World,
        num_bytes: usize,
        num_signals: usize,
    ) -> Result<Self::Symmetric>;

    /// Multiplies two matrices; see [`GemmArgs`].
    ///
    /// # Errors
    ///
    /// Those of the driver; [`crate::Error::KernelsNotBuilt`].
    fn gemm_nt(&self, stream: &Self::Stream, args: GemmArgs<'_, Self>) -> Result<()>;

    /// Multiplies every group's rows with its weights, contiguous layout; see [`GroupedGemmArgs`].
    ///
    /// # Errors
    ///
    /// Those of the driver; [`crate::Error::KernelsNotBuilt`].
    fn m_grouped_gemm_nt_contiguous(
        &self,
        stream: &Self::Stream,
        args: GroupedGemmArgs<'_, Self>,
    ) -> Result<()>;

    /// Multiplies every group's rows with its weights, masked layout; see [`MaskedGemmArgs`].
    ///
    /// # Errors
    ///
    /// Those of the driver; [`crate::Error::KernelsNotBuilt`].
    fn m_grouped_gemm_nt_masked(
        &self,
        stream: &Self::Stream,
        args: MaskedGemmArgs<'_, Self>,
    ) -> Result<()>;

    /// Multiplies every group's rows with its gate and up-projection, activates and quantises, contiguous layout;
    /// see [`GroupedSwigluArgs`].
    ///
    /// # Errors
    ///
    /// Those of the driver; [`crate::Error::KernelsNotBuilt`].
    fn m_grouped_gemm_swiglu_contiguous(
        &self,
        stream: &Self::Stream,
        args: GroupedSwigluArgs<'_, Self>,
    ) -> Result<()>;

    /// Multiplies every group's rows with its gate and up-projection, activates and quantises, masked layout;
    /// see [`MaskedSwigluArgs`].
    ///
    /// # Errors
    ///
    /// Those of the driver; [`crate::Error::KernelsNotBuilt`].
    fn m_grouped_gemm_swiglu_masked(
        &self,
        stream: &Self::Stream,
        args: MaskedSwigluArgs<'_, Self>,
    ) -> Result<()>;

    /// Whether a product with its activation ([`Backend::m_grouped_gemm_swiglu_contiguous`] or its masked form) is
    /// expected to take less time than the two stages; `shape` is that of the arguments.
    fn swiglu_fusion_pays(&self, shape: &GemmShape) -> bool;

    /// Adds every group's product along K to its result; see [`KGroupedGemmArgs`].
    ///
    /// # Errors
    ///
    /// Those of the driver; [`crate::Error::KernelsNotBuilt`].
    fn k_grouped_gemm_nt_contiguous(
        &self,
        stream: &Self::Stream,
        args: KGroupedGemmArgs<'_, Self>,
    ) -> Result<()>;

    /// Routes tokens to experts; see [`GateArgs`].
    ///
    /// # Errors
    ///
    /// Those of the driver.
    fn gate(&self, stream: &Self::Stream, args: GateArgs<'_, Self>) -> Result<()>;

    /// Plans the rows of routed tokens; see [`PlanArgs`].
    ///
    /// # Errors
    ///
    /// Those of the driver.
    fn plan(&self, stream: &Self::Stream, args: PlanArgs<'_, Self>) -> Result<()>;

    /// Publishes tokens; see [`crate::moe::EpBuffer::dispatch_send`].
    ///
    /// # Errors
    ///
    /// Those of the driver, and of waits that the host makes.
    fn dispatch_send(&self, stream: &Self::Stream, args: DispatchSendArgs<'_, Self>) -> Result<()>;

    /// Gathers all ranks' routing; see [`crate::moe::EpBuffer::dispatch_plan`].
    ///
    /// # Errors
    ///
    /// Those of the driver, and of waits that the host makes.
    fn dispatch_gather(
        &self,
        stream: &Self::Stream,
        args: DispatchGatherArgs<'_, Self>,
    ) -> Result<()>;

    /// Fills received rows; see [`crate::moe::EpBuffer::dispatch_recv`].
    ///
    /// # Errors
    ///
    /// Those of the driver, and of waits that the host makes.
    fn dispatch_recv(&self, stream: &Self::Stream, args: DispatchRecvArgs<'_, Self>) -> Result<()>;

    /// Returns the experts' outputs; see [`crate::moe::EpBuffer::combine_send`].
    ///
    /// # Errors
    ///
    /// Those of the driver, and of waits that the host makes.
    fn combine_send(&self, stream: &Self::Stream, args: CombineSendArgs<'_, Self>) -> Result<()>;

    /// Adds the returned rows; see [`crate::moe::EpBuffer::combine_recv`].
    ///
    /// # Errors
    ///
    /// Those of the driver, and of waits that the host makes.
    fn combine_recv(&self, stream: &Self::Stream, args: CombineRecvArgs<'_, Self>) -> Result<()>;

    /// Quantises activations per token x 128 of K; see [`QuantizeArgs`].
    ///
    /// # Errors
    ///
    /// Those of the driver.
    fn quantize<T: Activation>(
        &self,
        stream: &Self::Stream,
        args: QuantizeArgs<'_, Self, T>,
    ) -> Result<()>;

    /// Quantises weights per 128 x 128 block; see [`QuantizeBlockArgs`].
    ///
    /// # Errors
    ///
    /// Those of the driver.
    fn quantize_block<T: Activation>(
        &self,
        stream: &Self::Stream,
        args: QuantizeBlockArgs<'_, Self, T>,
    ) -> Result<()>;

    /// Quantises per 128 rows and channel; see [`QuantizeChannelArgs`].
    ///
    /// # Errors
    ///
    /// Those of the driver.
    fn quantize_channel<T: Activation>(
        &self,
        stream: &Self::Stream,
        args: QuantizeChannelArgs<'_, Self, T>,
    ) -> Result<()>;

    /// Transposes each expert's rows and quantises them along the tokens; see [`QuantizeTransposeArgs`].
    ///
    /// # Errors
    ///
    /// Those of the driver.
    fn quantize_transpose<T: Activation>(
        &self,
        stream: &Self::Stream,
        args: QuantizeTransposeArgs<'_, Self, T>,
    ) -> Result<()>;

    /// Multiplies codes and scales out; see [`DequantizeArgs`].
    ///
    /// # Errors
    ///
    /// Those of the driver.
    fn dequantize<T: Activation>(
        &self,
        stream: &Self::Stream,
        args: DequantizeArgs<'_, Self, T>,
    ) -> Result<()>;

    /// Copies scales into another order; see [`RelayoutScalesArgs`].
    ///
    /// # Errors
    ///
    /// Those of the driver.
    fn relayout_scales(
        &self,
        stream: &Self::Stream,
        args: RelayoutScalesArgs<'_, Self>,
    ) -> Result<()>;

    /// Packs power-of-two scales into UE8M0 bytes, four to a word; see [`PackScalesArgs`].
    ///
    /// # Errors
    ///
    /// Those of the driver.
    fn pack_scales(&self, stream: &Self::Stream, args: PackScalesArgs<'_, Self>) -> Result<()>;

    /// Unpacks UE8M0 bytes into FP32 scales; see [`UnpackScalesArgs`].
    ///
    /// # Errors
    ///
    /// Those of the driver.
    fn unpack_scales(&self, stream: &Self::Stream, args: UnpackScalesArgs<'_, Self>) -> Result<()>;

    /// Applies SwiGLU; see [`SwigluArgs`].
    ///
    /// # Errors
    ///
    /// Those of the driver.
    fn swiglu<T: Activation, U: Activation>(
        &self,
        stream: &Self::Stream,
        args: SwigluArgs<'_, Self, T, U>,
    ) -> Result<()>;

    /// Applies SwiGLU and quantises per token x 128; see [`SwigluQuantizeArgs`].
    ///
    /// # Errors
    ///
    /// Those of the driver.
    fn swiglu_quantize<T: Activation>(
        &self,
        stream: &Self::Stream,
        args: SwigluQuantizeArgs<'_, Self, T>,
    ) -> Result<()>;

    /// Computes SwiGLU's gradients; see [`SwigluBackwardArgs`].
    ///
    /// # Errors
    ///
    /// Those of the driver.
    fn swiglu_backward<T: Activation, D: Activation>(
        &self,
        stream: &Self::Stream,
        args: SwigluBackwardArgs<'_, Self, T, D>,
    ) -> Result<()>;
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
