//! Host memory of the cpu backend.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;

use crate::backend::Buffer;
use crate::error::{Error, Result};

const ALIGN: usize = 256;
const ALIGN_NONZERO: std::num::NonZero<usize> = std::num::NonZero::new(ALIGN).expect("256");
/// From this size on the buffer is aligned for, and asks for, 2 MiB pages.
const HUGE_PAGE: usize = 2 << 20;

/// Zeroed bytes, aligned to 256 (to 2 MiB from that size on, on huge pages where the system has them).
#[derive(Debug)]
pub struct CpuBuffer {
    ptr: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the buffer owns its bytes, like a `Vec<u8>`.
unsafe impl Send for CpuBuffer {}
// SAFETY: shared access only reads.
unsafe impl Sync for CpuBuffer {}

impl CpuBuffer {
    pub(crate) fn zeroed(num_bytes: usize) -> Result<Self> {
        let no_room = |reason: &str| Error::OutOfMemory {
            op: "alloc",
            arg: "buffer",
            bytes: num_bytes,
            reason: reason.to_owned(),
        };
        let align = if num_bytes >= HUGE_PAGE { HUGE_PAGE } else { ALIGN };
        let layout = Layout::from_size_align(num_bytes, align)
            .map_err(|_| no_room("the size does not fit the address space"))?;
        if num_bytes == 0 {
            return Ok(Self { ptr: NonNull::without_provenance(ALIGN_NONZERO), layout });
        }
        // SAFETY: the size is not zero.
        let ptr = NonNull::new(unsafe { alloc_zeroed(layout) })
            .ok_or_else(|| no_room("the system allocator refused"))?;
        if num_bytes >= HUGE_PAGE {
            // SAFETY: the range is ours; the advice changes no contents. A refusal costs only speed.
            unsafe { libc::madvise(ptr.as_ptr().cast(), num_bytes, libc::MADV_HUGEPAGE) };
        }
        Ok(Self { ptr, layout })
    }
}

impl Buffer for CpuBuffer {
    fn num_bytes(&self) -> usize {
        self.layout.size()
    }

    fn as_ptr(&self) -> *const u8 {
        self.ptr.as_ptr()
    }

    fn as_mut_ptr(&mut self) -> *mut u8 {
        self.ptr.as_ptr()
    }
}

impl Drop for CpuBuffer {
    fn drop(&mut self) {
        if self.layout.size() > 0 {
            // SAFETY: allocated in `zeroed` with this very layout.
            unsafe { dealloc(self.ptr.as_ptr(), self.layout) };
        }
    }
}
