//! The CUDA backend: the kernels of `csrc` on a device with compute capability 9.0.
//!
//! The driver is opened at run time; nothing is linked. Kernels are compiled ahead of time where
//! nvcc was found ([`KERNEL_MODULES`]). Dispatch and combine have no kernels yet: tokens travel between
//! ranks in host memory, by the cpu's stages; so these wait for the stream, and cannot be captured.

#[rustfmt::skip]
mod abi;
mod driver;
mod faults;
mod gate;
mod gemm;
pub mod heuristics;
mod host_ep;
mod kernels;
mod params;
mod plan;
mod quant;
mod sharing;
mod stages;
mod stream;
mod swiglu;

use std::ffi::c_void;
use std::sync::Arc;

use crate::error::Result;
use crate::gemm::GemmShape;
use driver::{Context, Kernel, Kernels, Stream};

pub use driver::{
    CudaBuffer, CudaEvent, CudaGraph, HandleKind, IpcBuffer, IpcHandle, MemoryHandle, SharedBuffer,
    Swizzle, TensorMap, TensorMapDesc,
};
pub use host_ep::CudaSymmetric;
pub use kernels::{KERNEL_MODULES, KernelModule, NVCC_VERSION};
pub use stream::CudaStream;

/// The CUDA backend on one device. Clones share its context and kernels.
///
/// # Examples
///
/// ```
/// use moekit::Backend;
/// use moekit::backend::cuda::Cuda;
/// match Cuda::new(0) {
///     Ok(cuda) => cuda.check(&cuda.stream()?)?,
///     Err(error) => println!("{error}"),
/// }
/// # Ok::<(), moekit::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Cuda {
    device: Arc<Device>,
    gemm_config: Option<heuristics::GemmConfig>,
    max_split_k: usize,
}

#[derive(Debug)]
struct Device {
    // NOTE: dropped before the context that they are loaded into.
    kernels: Kernels,
    context: Arc<Context>,
    num_sms: usize,
    gemm_choices: GemmChoices<heuristics::GemmConfig>,
    fusion_choices: GemmChoices<bool>,
}

/// By shape, and the parts that K may be cut into.
type GemmChoices<T> = gemm::Choices<(GemmShape, usize), T>;

impl Cuda {
    /// Opens device `ordinal` through its primary context.
    ///
    /// # Errors
    ///
    /// - [`Error::KernelsNotBuilt`](crate::Error::KernelsNotBuilt) if this build holds no kernels.
    /// - [`Error::Unavailable`](crate::Error::Unavailable) if there is no driver or no device.
    /// - [`Error::Value`](crate::Error::Value) if there are fewer devices.
    /// - [`Error::Driver`](crate::Error::Driver) for what the driver refuses.
    pub fn new(ordinal: usize) -> Result<Self> {
        kernels::check_built()?;
        Self::with_context(Context::primary(ordinal)?)
    }

    /// Devices that the driver offers.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`](crate::Error::Unavailable) if there is no driver;
    /// [`Error::Driver`](crate::Error::Driver) for what the driver refuses.
    pub fn num_devices() -> Result<usize> {
        driver::num_devices()
    }

    /// Works in a context that others own; `context` is its `CUcontext`.
    ///
    /// # Errors
    ///
    /// Those of [`Cuda::new`].
    ///
    /// # Safety
    ///
    /// The context outlives the backend and all that is made with it.
    pub unsafe fn from_context(context: *mut c_void) -> Result<Self> {
        kernels::check_built()?;
        // SAFETY: the caller keeps the context.
        Self::with_context(unsafe { Context::foreign(context.cast()) }?)
    }

    fn with_context(context: Arc<Context>) -> Result<Self> {
        let kernels = Kernels::load(&context)?;
        let num_sms = context.num_sms()?;
        let (gemm_choices, fusion_choices) = Default::default();
        let device = Arc::new(Device { kernels, context, num_sms, gemm_choices, fusion_choices });
        Ok(Self { device, gemm_config: None, max_split_k: 1 })
    }

    /// The same backend, whose products take this launch rather than the one that is chosen for their shape:
    /// for tuning, and for tests of every kernel. Those in another format, or that have no such tile, are not concerned; the number
    /// of SMs and the size of shared memory follow from the product.
    ///
    /// A product fails with [`Error::Value`](crate::Error::Value) if the ring, the cluster or the parts of K cannot be, and
    /// with [`Error::Driver`](crate::Error::Driver) if the device has not the shared memory.
    #[must_use]
    pub fn with_gemm_config(&self, config: heuristics::GemmConfig) -> Self {
        Self { gemm_config: Some(config), ..self.clone() }
    }

    /// The same backend, which may cut K of products with few rows into up to `most` parts, where the estimates say that
    /// it takes less time: 2, 4 or 8; the default is 1, K whole.
    ///
    /// CTAs of a cluster then sum a part each, and their FP32 sums are added in ascending order of K. The result is the
    /// same from run to run, but a row's bits depend on the number of parts, which is chosen by the shape: **rows have
    /// other bits in other company**, and so has a product with its activation beside the two stages.
    /// [`with_gemm_config`](Self::with_gemm_config) fixes the number.
    #[must_use]
    pub fn with_max_split_k(&self, most: usize) -> Self {
        Self { max_split_k: most, ..self.clone() }
    }

    /// Enqueues on a stream that others own; `stream` is its `CUstream`.
    ///
    /// # Errors
    ///
    /// Those of the driver.
    ///
    /// # Safety
    ///
    /// The stream belongs to this backend's context and outlives the result.
    pub unsafe fn wrap_stream(&self, stream: *mut c_void) -> Result<CudaStream> {
        // SAFETY: the caller keeps the stream.
        CudaStream::new(unsafe { Stream::foreign(self.context(), stream.cast()) })
    }

    /// Captures the stages that `enqueue` enqueues on `stream`, which runs none of them.
    ///
    /// Meanwhile no other thread may wait for the whole context, as copies to and from the host do
    /// (`to_host`, `from_host`) and the end of shared memory. A driver may end the capture with an error,
    /// or crash. To wait for a stream ([`Backend::check`](crate::Backend::check)) is fine.
    ///
    /// # Errors
    ///
    /// Those of `enqueue` and of the driver.
    ///
    /// # Safety
    ///
    /// Every tensor that the stages use, and `stream`, outlive the graph, and each replay may use
    /// the tensors as the stages do.
    pub unsafe fn capture(
        &self,
        stream: &CudaStream,
        enqueue: impl FnOnce() -> Result<()>,
    ) -> Result<CudaGraph> {
        CudaGraph::capture(&stream.driver, enqueue)
    }

    /// Enqueues all stages of a graph again.
    ///
    /// # Errors
    ///
    /// Those of the driver.
    pub fn replay(&self, graph: &mut CudaGraph, stream: &CudaStream) -> Result<()> {
        graph.replay(&stream.driver)
    }

    /// The device's name.
    ///
    /// # Errors
    ///
    /// Those of the driver.
    pub fn device_name(&self) -> Result<String> {
        self.context().device_name()
    }

    fn context(&self) -> &Arc<Context> {
        &self.device.context
    }

    fn num_sms(&self) -> usize {
        self.device.num_sms
    }

    fn gemm_choices(&self) -> &GemmChoices<heuristics::GemmConfig> {
        &self.device.gemm_choices
    }

    fn fusion_choices(&self) -> &GemmChoices<bool> {
        &self.device.fusion_choices
    }

    fn kernel(&self, op: &'static str, name: &str) -> Result<Kernel> {
        self.device.kernels.get(op, name)
    }
}
