//! What a device can do at its best, measured in the run whose rows are compared with it.

use std::ffi::c_void;
use std::time::Instant;

use cudarc::driver::{DriverError, result, sys};
use moekit::backend::cuda::Cuda;
use moekit::cost::Cost;
use moekit::num::E4M3;
use moekit::tensor::Tensor;
use moekit::{Error, Result};

use super::{Call, NUM_CALLS, NUM_WARM_UP, Options, Timer, inputs, median_us};

/// Bytes that are copied: several times any L2.
const COPIED_BYTES: usize = 256 << 20;
/// A kernel that does nothing, as text with its final zero.
const EMPTY_KERNEL: &str = "\
.version 7.8
.target sm_90
.address_size 64
.visible .entry empty()
{
    ret;
}
\0";

/// The least that a call can take, and the most that memory can give.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// An empty call, microseconds.
    pub empty_us: f64,
    /// A copy within the device's memory: 10^9 bytes read and written per second.
    pub copy_gb_per_s: f64,
}

impl Limits {
    /// The least time for a call's traffic.
    pub fn time_us(&self, cost: &Cost) -> f64 {
        self.empty_us.max(cost.hbm_bytes as f64 / (self.copy_gb_per_s * 1e3))
    }

    /// Of a GPU: a kernel without instructions, and the driver's copy.
    pub fn of_cuda(cuda: &Cuda, options: Options<'_>) -> Result<Self> {
        let len = options.extent(COPIED_BYTES, 16);
        let from = Tensor::<Cuda, E4M3, 1>::from_host(cuda, &inputs::codes(len), [len])?;
        let mut to = Tensor::<Cuda, E4M3, 1>::zeros(cuda, [len])?;
        // The allocations above have made the context current.
        let flags = result::stream::StreamKind::NonBlocking;
        let raw = Raw(result::stream::create(flags).map_err(driver_error("cuStreamCreate"))?);
        // SAFETY: the stream is destroyed after all that works on it, `raw` being declared before.
        let mut timer = Timer::new(cuda, unsafe { cuda.wrap_stream(raw.0.cast()) }?, options)?;

        let module = Module::load()?;
        let empty_us = timer.time_us(&mut module.call(raw.0)?)?;
        let (src, dst) = (from.view().as_ptr() as u64, to.view_mut().as_mut_ptr() as u64);
        let mut copy: Call<'_, Cuda> = Box::new(move |_| {
            // SAFETY: both have so many bytes and live until `check` has waited.
            let answer = unsafe { result::memcpy_dtod_async(dst, src, len, raw.0) };
            answer.map_err(driver_error("cuMemcpyDtoDAsync"))
        });
        let copy_us = timer.time_us(&mut copy)?;
        Ok(Self { empty_us, copy_gb_per_s: 2.0 * len as f64 / copy_us / 1e3 })
    }

    /// Of the processor: a copy by the calling thread; an empty call is a call of a function.
    pub fn of_processor(options: Options<'_>) -> Self {
        let len = options.extent(COPIED_BYTES, 16);
        let (from, mut to) = (inputs::codes(len), vec![E4M3(0); len]);
        let mut times: Vec<_> = (0..NUM_CALLS)
            .map(|_| {
                let started = Instant::now();
                to.copy_from_slice(std::hint::black_box(&from));
                std::hint::black_box(&mut to);
                started.elapsed()
            })
            .collect();
        let copy_us = median_us(&mut times[NUM_WARM_UP..]);
        Self { empty_us: 0.0, copy_gb_per_s: 2.0 * len as f64 / copy_us / 1e3 }
    }
}

/// A stream of the driver, destroyed at the end.
struct Raw(sys::CUstream);

impl Drop for Raw {
    fn drop(&mut self) {
        // SAFETY: created above; whoever works on it has been dropped. A failure has nobody to go to.
        let _ = unsafe { result::stream::destroy(self.0) };
    }
}

/// The empty kernel, loaded.
struct Module(sys::CUmodule);

impl Module {
    fn load() -> Result<Self> {
        // SAFETY: text that ends with a zero byte.
        let answer = unsafe { result::module::load_data(EMPTY_KERNEL.as_ptr().cast::<c_void>()) };
        answer.map(Self).map_err(driver_error("cuModuleLoadData"))
    }

    /// Launches it: one CTA of one warp.
    fn call(&self, stream: sys::CUstream) -> Result<Call<'_, Cuda>> {
        // SAFETY: the module is loaded.
        let answer = unsafe { result::module::get_function(self.0, c"empty".to_owned()) };
        let function = answer.map_err(driver_error("cuModuleGetFunction"))?;
        Ok(Box::new(move |_| {
            let (one, warp) = ((1, 1, 1), (32, 1, 1));
            // SAFETY: the kernel has no parameters and touches nothing.
            let answer = unsafe { result::launch_kernel(function, one, warp, 0, stream, &mut []) };
            answer.map_err(driver_error("cuLaunchKernel"))
        }))
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        // SAFETY: loaded by `load`; its launches have passed. A failure has nobody to go to.
        let _ = unsafe { result::module::unload(self.0) };
    }
}

fn driver_error(call: &'static str) -> impl Fn(DriverError) -> Error {
    move |error| Error::Driver { op: "limits", call, reason: error.to_string() }
}
