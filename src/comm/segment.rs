//! Memory that the ranks of a node share.

use std::fs;
use std::ptr::{self, NonNull};

use rustix::mm::{self, Advice, MapFlags, ProtFlags};

use crate::error::{Error, Result};

/// Page size that buffers are aligned to and rounded up to, in bytes.
pub(super) const PAGE_BYTES: usize = 4096;

/// A zero-initialised mapping, shared between threads by `Arc` or between processes by a memfd.
///
/// Every rank that can reach the memory holds it mapped on its own account, so a rank that drops
/// its handle never pulls the memory from under a peer that still writes.
#[derive(Debug)]
pub(super) struct Segment {
    ptr: NonNull<u8>,
    num_bytes: usize,
    #[cfg(feature = "mpi")]
    file: Option<std::os::fd::OwnedFd>,
}

// SAFETY: the mapping belongs to no thread, and the type only hands out its address.
unsafe impl Send for Segment {}
// SAFETY: as above; whoever dereferences the address answers for races.
unsafe impl Sync for Segment {}

impl Segment {
    /// Maps fresh zeroed memory of at least `num_bytes`, private to this process.
    pub(super) fn anonymous(op: &'static str, arg: &'static str, num_bytes: usize) -> Result<Self> {
        let num_bytes = round_to_pages(op, arg, num_bytes)?;
        check_room(op, arg, num_bytes)?;
        // SAFETY: a null hint without MAP_FIXED replaces no mapping.
        let address = unsafe {
            mm::mmap_anonymous(ptr::null_mut(), num_bytes, PROTECTION, MapFlags::PRIVATE)
        };
        let address = address.map_err(|error| out_of_memory(op, arg, num_bytes, error))?;
        let segment = Self {
            ptr: NonNull::new(address.cast()).expect("mmap should not map page zero"),
            num_bytes,
            #[cfg(feature = "mpi")]
            file: None,
        };
        segment.prefer_huge_pages();
        Ok(segment)
    }

    /// Maps fresh zeroed memory that other processes of the machine can map too.
    #[cfg(feature = "mpi")]
    pub(super) fn in_memfd(op: &'static str, arg: &'static str, num_bytes: usize) -> Result<Self> {
        use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, ftruncate, memfd_create};

        let num_bytes = round_to_pages(op, arg, num_bytes)?;
        check_room(op, arg, num_bytes)?;
        let file = memfd_create("moekit", MemfdFlags::CLOEXEC)
            .map_err(|error| Error::io(op, "memfd", error.into()))?;
        ftruncate(&file, num_bytes as u64)
            .map_err(|error| out_of_memory(op, arg, num_bytes, error))?;
        let segment = Self::map_file(op, arg, file, num_bytes)?;
        // SAFETY: the range is this segment's own mapping, in which nothing is kept yet. Faulting
        // it in is how it gets huge pages, where there are any; `fallocate` would take small ones.
        let _ = unsafe { mm::madvise(segment.ptr().cast(), num_bytes, Advice::LinuxPopulateWrite) };
        // All pages now: a page that cannot be had later would be a SIGBUS in whoever touches it.
        if let Some(file) = segment.file() {
            fallocate(file, FallocateFlags::empty(), 0, num_bytes as u64)
                .map_err(|error| out_of_memory(op, arg, num_bytes, error))?;
        }
        Ok(segment)
    }

    /// Maps the whole of a memory file that a peer made.
    #[cfg(feature = "mpi")]
    pub(super) fn map_peer(file: std::os::fd::OwnedFd) -> Result<Self> {
        let op = "map a peer's memory";
        let stat =
            rustix::fs::fstat(&file).map_err(|error| Error::io(op, "memfd", error.into()))?;
        Self::map_file(op, "a peer's segment", file, stat.st_size as usize)
    }

    #[cfg(feature = "mpi")]
    fn map_file(
        op: &'static str,
        arg: &'static str,
        file: std::os::fd::OwnedFd,
        num_bytes: usize,
    ) -> Result<Self> {
        // SAFETY: a null hint without MAP_FIXED replaces no mapping.
        let address =
            unsafe { mm::mmap(ptr::null_mut(), num_bytes, PROTECTION, MapFlags::SHARED, &file, 0) };
        let address = address.map_err(|error| out_of_memory(op, arg, num_bytes, error))?;
        let segment = Self {
            ptr: NonNull::new(address.cast()).expect("mmap should not map page zero"),
            num_bytes,
            file: Some(file),
        };
        segment.prefer_huge_pages();
        Ok(segment)
    }

    /// The memory file behind the segment, if it has one.
    #[cfg(feature = "mpi")]
    pub(super) fn file(&self) -> Option<&std::os::fd::OwnedFd> {
        self.file.as_ref()
    }

    /// Address of the first byte, a multiple of [`PAGE_BYTES`].
    pub(super) fn ptr(&self) -> *mut u8 {
        self.ptr.as_ptr()
    }

    fn prefer_huge_pages(&self) {
        const HUGE_PAGE_BYTES: usize = 2 << 20;
        if self.num_bytes >= HUGE_PAGE_BYTES {
            // SAFETY: the range is this segment's own mapping; the advice changes no contents. It
            // is a hint, so its refusal is no error.
            let _ =
                unsafe { mm::madvise(self.ptr().cast(), self.num_bytes, Advice::LinuxHugepage) };
        }
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by the constructor, and the last user of it drops it.
        let _ = unsafe { mm::munmap(self.ptr().cast(), self.num_bytes) };
    }
}

const PROTECTION: ProtFlags = ProtFlags::READ.union(ProtFlags::WRITE);

fn round_to_pages(op: &'static str, arg: &'static str, num_bytes: usize) -> Result<usize> {
    num_bytes
        .max(1)
        .checked_next_multiple_of(PAGE_BYTES)
        .filter(|&rounded| rounded <= isize::MAX as usize)
        .ok_or_else(|| out_of_memory(op, arg, num_bytes, "more than the address space"))
}

fn out_of_memory(
    op: &'static str,
    arg: &'static str,
    bytes: usize,
    reason: impl ToString,
) -> Error {
    Error::OutOfMemory { op, arg, bytes, reason: reason.to_string() }
}

/// Refuses what the machine cannot hold, before the kernel's OOM killer answers instead.
fn check_room(op: &'static str, arg: &'static str, num_bytes: usize) -> Result<()> {
    match available_bytes() {
        Some(available) if num_bytes as u64 > available => {
            Err(out_of_memory(op, arg, num_bytes, format!("{available} bytes are available")))
        }
        _ => Ok(()),
    }
}

/// Memory that can be had now: the machine's, or less where a control group limits it.
fn available_bytes() -> Option<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let machine = line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024;
    let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let limit = number("/sys/fs/cgroup/memory.max");
    let used = number("/sys/fs/cgroup/memory.current");
    let group = limit.zip(used).map(|(limit, used)| limit.saturating_sub(used));
    Some(group.map_or(machine, |group| group.min(machine)))
}
