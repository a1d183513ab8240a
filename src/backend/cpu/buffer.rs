//! Host memory of the cpu backend.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;

use memmap2::{Advice, MmapMut};

use crate::backend::Buffer;
use crate::error::{Error, Result};

const ALIGN: usize = 256;
const ALIGN_NONZERO: std::num::NonZero<usize> = std::num::NonZero::new(ALIGN).expect("256");
/// From this size on a buffer is mapped by itself, aligned for 2 MiB pages.
const HUGE_PAGE: usize = 2 << 20;

/// Zeroed bytes, aligned to 256 (to 2 MiB from that size on, on huge pages where the system has them).
#[derive(Debug)]
pub struct CpuBuffer {
    ptr: NonNull<u8>,
    num_bytes: usize,
    memory: Memory,
}

#[derive(Debug)]
enum Memory {
    Empty,
    Heap(Layout),
    Mapped { _map: MmapMut },
}

// SAFETY: the buffer owns its bytes, like a `Vec<u8>`.
unsafe impl Send for CpuBuffer {}
// SAFETY: shared access only reads.
unsafe impl Sync for CpuBuffer {}

impl CpuBuffer {
    pub(crate) fn zeroed(num_bytes: usize) -> Result<Self> {
        let found = match num_bytes {
            0 => Ok((NonNull::without_provenance(ALIGN_NONZERO), Memory::Empty)),
            HUGE_PAGE.. => mapped(num_bytes),
            _ => on_heap(num_bytes),
        };
        let (ptr, memory) = found.map_err(|reason| Error::OutOfMemory {
            op: "alloc",
            arg: "buffer",
            bytes: num_bytes,
            reason,
        })?;
        Ok(Self { ptr, num_bytes, memory })
    }
}

fn on_heap(num_bytes: usize) -> Result<(NonNull<u8>, Memory), String> {
    let layout = Layout::from_size_align(num_bytes, ALIGN).map_err(|error| error.to_string())?;
    // SAFETY: the size is not zero.
    let ptr = NonNull::new(unsafe { alloc_zeroed(layout) });
    Ok((ptr.ok_or("the system allocator refused")?, Memory::Heap(layout)))
}

/// Pages come when they are first touched; whole huge ones only if that is after the advice.
fn mapped(num_bytes: usize) -> Result<(NonNull<u8>, Memory), String> {
    let padded =
        num_bytes.checked_add(HUGE_PAGE).ok_or("the size does not fit the address space")?;
    let mut map = MmapMut::map_anon(padded).map_err(|error| error.to_string())?;
    // A refusal costs only speed.
    let _ = map.advise(Advice::HugePage);
    let start = map.as_mut_ptr();
    let ptr = start.wrapping_add(start.align_offset(HUGE_PAGE));
    Ok((NonNull::new(ptr).ok_or("the system mapped address 0")?, Memory::Mapped { _map: map }))
}

impl Buffer for CpuBuffer {
    fn num_bytes(&self) -> usize {
        self.num_bytes
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
        if let Memory::Heap(layout) = self.memory {
            // SAFETY: allocated in `on_heap` with this very layout.
            unsafe { dealloc(self.ptr.as_ptr(), layout) };
        }
    }
}
