//! Device memory.

use std::sync::Arc;

use cudarc::driver::sys::CUresult;
use cudarc::driver::{result, sys};

use super::{Context, Stream, call, is, reason};
use crate::backend::Buffer;
use crate::error::{Error, Result};

/// Address of buffers without bytes: as aligned as all others, and never used.
const EMPTY: sys::CUdeviceptr = 256;

/// Zeroed device memory, aligned to 256.
#[derive(Debug)]
pub struct CudaBuffer {
    context: Arc<Context>,
    address: sys::CUdeviceptr,
    num_bytes: usize,
}

impl CudaBuffer {
    pub(in super::super) fn zeroed(context: &Arc<Context>, num_bytes: usize) -> Result<Self> {
        context.bind()?;
        if num_bytes == 0 {
            return Ok(Self { context: Arc::clone(context), address: EMPTY, num_bytes });
        }
        // SAFETY: the size is not zero; the memory is set before anyone reads it.
        let address = unsafe { result::malloc_sync(num_bytes) }.map_err(|error| {
            match is(&error, CUresult::CUDA_ERROR_OUT_OF_MEMORY) {
                true => Error::OutOfMemory {
                    op: "alloc",
                    arg: "buffer",
                    bytes: num_bytes,
                    reason: reason(error),
                },
                false => Error::Driver { op: "alloc", call: "cuMemAlloc", reason: reason(error) },
            }
        })?;
        let buffer = Self { context: Arc::clone(context), address, num_bytes };
        // SAFETY: the memory was allocated with this size.
        call("alloc", "cuMemsetD8", unsafe { result::memset_d8_sync(address, 0, num_bytes) })?;
        wait_for_default_stream("alloc")?;
        Ok(buffer)
    }

    pub(in super::super) fn address(&self) -> sys::CUdeviceptr {
        self.address
    }

    /// Enqueues setting every byte to `value`.
    pub(in super::super) fn fill(&self, stream: &Stream, value: u8) -> Result<()> {
        self.context.bind()?;
        // SAFETY: the memory has this size, and the stream is live.
        let answer = unsafe {
            result::memset_d8_async(self.address, value, self.num_bytes, stream.handle())
        };
        call("fill", "cuMemsetD8Async", answer)
    }

    /// Copies the first bytes to the host behind the stream's work, and waits for that alone.
    pub(in super::super) fn read_behind(&self, stream: &Stream, data: &mut [u8]) -> Result<()> {
        if data.len() > self.num_bytes {
            let expected = format!("at most {} bytes", self.num_bytes);
            return Err(Error::value("check", "data", expected, data.len()));
        }
        self.context.bind()?;
        // SAFETY: both have that many bytes, and the host's live until the wait below.
        let answer = unsafe { result::memcpy_dtoh_async(data, self.address, stream.handle()) };
        call("check", "cuMemcpyDtoHAsync", answer)?;
        stream.synchronize("check")
    }
}

impl Buffer for CudaBuffer {
    fn num_bytes(&self) -> usize {
        self.num_bytes
    }

    fn as_ptr(&self) -> *const u8 {
        self.address as *const u8
    }

    fn as_mut_ptr(&mut self) -> *mut u8 {
        self.address as *mut u8
    }
}

impl Drop for CudaBuffer {
    fn drop(&mut self) {
        if self.num_bytes > 0 && self.context.bind().is_ok() {
            // SAFETY: allocated in `zeroed`; the driver waits for work that uses it. A failure has
            // nobody to go to.
            let _ = unsafe { result::free_sync(self.address) };
        }
    }
}

/// Waits for what calls without a stream began.
///
/// They may return before the device is done, and the backend's streams do not wait for them.
fn wait_for_default_stream(op: &'static str) -> Result<()> {
    // SAFETY: the null handle is the current context's default stream.
    let answer = unsafe { result::stream::synchronize(std::ptr::null_mut()) };
    call(op, "cuStreamSynchronize", answer)
}

/// Waits for the context's work, then copies to the device.
///
/// # Safety
///
/// `dst` is device memory of the context, of `data.len()` bytes that nothing else uses.
pub(in super::super) unsafe fn write(context: &Context, dst: *mut u8, data: &[u8]) -> Result<()> {
    context.synchronize("write")?;
    if data.is_empty() {
        return Ok(());
    }
    // SAFETY: the caller promised the memory.
    let answer = unsafe { result::memcpy_htod_sync(dst as sys::CUdeviceptr, data) };
    call("write", "cuMemcpyHtoD", answer)?;
    wait_for_default_stream("write")
}

/// Waits for the context's work, then copies to the host.
///
/// # Safety
///
/// `src` is device memory of the context, of `data.len()` bytes that nothing writes.
pub(in super::super) unsafe fn read(
    context: &Context,
    src: *const u8,
    data: &mut [u8],
) -> Result<()> {
    context.synchronize("read")?;
    if data.is_empty() {
        return Ok(());
    }
    // SAFETY: the caller promised the memory.
    let answer = unsafe { result::memcpy_dtoh_sync(data, src as sys::CUdeviceptr) };
    call("read", "cuMemcpyDtoH", answer)
}
