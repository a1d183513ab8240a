//! Memory that other processes can map: each device's allocations are ranges of one file without a
//! name. The file of a process that has ended is gone when nobody maps it any more.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex};

use vgpu::HostBytes;

use crate::context::lock;
use crate::failure::{Failure, Result};
use crate::status::Status;

/// Small allocations share mappings of this size: a process can have 65,530 mappings.
const CHUNK_BYTES: u64 = 32 << 20;
const PAGE_BYTES: u64 = 4096;
/// Alignment of every allocation.
const GRANULE: u64 = 256;

/// A device's memory.
#[derive(Default)]
pub struct Arena {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    file: Option<Arc<File>>,
    /// Bytes of the file that are taken.
    end: u64,
    /// The mapping that small allocations come from, and how much of it is taken.
    chunk: Option<(Arc<Mapping>, u64)>,
}

/// A part of a file in this process's memory.
pub struct Mapping {
    file: Arc<File>,
    /// First byte in the file.
    offset: u64,
    start: NonNull<u8>,
    bytes: u64,
}

// SAFETY: the bytes are reached through raw pointers alone.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

/// Bytes of a mapping.
pub struct Range {
    mapping: Arc<Mapping>,
    at: u64,
    bytes: u64,
    /// The pages are of no use to anyone when this range has ended.
    gives_back: bool,
}

/// Where bytes can be found by another process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The process that has the file open, and as what.
    pub process: u32,
    /// Its number of the open file.
    pub file: i32,
    /// First byte in the file.
    pub offset: u64,
    /// How many.
    pub bytes: u64,
}

fn system(what: &str) -> Failure {
    let reason = format!("{what}: {}", std::io::Error::last_os_error());
    Failure::new(Status::OUT_OF_MEMORY, reason)
}

impl Arena {
    /// Zeroed bytes.
    ///
    /// # Errors
    ///
    /// `OUT_OF_MEMORY`.
    pub fn alloc(&self, bytes: u64) -> Result<Range> {
        let mut state = lock(&self.state);
        if bytes >= CHUNK_BYTES {
            let mapping = Arc::new(state.map(bytes.next_multiple_of(PAGE_BYTES))?);
            return Ok(Range { mapping, at: 0, bytes, gives_back: true });
        }
        // Whole pages are given back when an allocation ends; they belong to it alone.
        let align = if bytes < PAGE_BYTES { GRANULE } else { PAGE_BYTES };
        let room = bytes.next_multiple_of(align);
        let (mapping, at) = match state.chunk.take() {
            Some((chunk, used)) if used.next_multiple_of(align) + room <= CHUNK_BYTES => {
                (chunk, used.next_multiple_of(align))
            }
            _ => (Arc::new(state.map(CHUNK_BYTES)?), 0),
        };
        state.chunk = Some((mapping.clone(), at + room));
        Ok(Range { mapping, at, bytes, gives_back: true })
    }
}

impl State {
    /// Maps new bytes of the file.
    fn map(&mut self, bytes: u64) -> Result<Mapping> {
        let file = match &self.file {
            Some(file) => file.clone(),
            None => self.file.insert(Arc::new(unnamed_file(c"vgpu")?)).clone(),
        };
        let offset = self.end;
        file.set_len(offset + bytes).map_err(|_| system("the devices' memory"))?;
        self.end += bytes;
        Mapping::new(file, offset, bytes)
    }
}

fn unnamed_file(name: &CStr) -> Result<File> {
    // SAFETY: a name that ends with a zero byte.
    let file = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) };
    if file < 0 {
        return Err(system("memfd_create"));
    }
    // SAFETY: it was opened just now, and nobody else has it.
    Ok(unsafe { File::from_raw_fd(file) })
}

impl Mapping {
    fn new(file: Arc<File>, offset: u64, bytes: u64) -> Result<Self> {
        let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        // SAFETY: a new mapping, wherever there is room.
        let start = unsafe {
            let nowhere = std::ptr::null_mut();
            let length = bytes as usize;
            libc::mmap(nowhere, length, access, flags, file.as_raw_fd(), offset as libc::off_t)
        };
        match NonNull::new(start.cast()) {
            Some(first) if start != libc::MAP_FAILED => {
                Ok(Mapping { file, offset, start: first, bytes })
            }
            _ => Err(system("mmap")),
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped in `new`; nobody holds a pointer once the last range is gone.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes as usize) };
    }
}

impl Range {
    /// Zeroed bytes, alone in a file.
    ///
    /// # Errors
    ///
    /// `OUT_OF_MEMORY`.
    pub fn with_own_file(bytes: u64) -> Result<Self> {
        let mapping = State::default().map(bytes.next_multiple_of(PAGE_BYTES))?;
        Ok(Range { mapping: Arc::new(mapping), at: 0, bytes, gives_back: false })
    }

    /// Bytes of another process.
    ///
    /// # Errors
    ///
    /// `INVALID_VALUE` if the process or its file is gone.
    pub fn open(origin: &Origin) -> Result<Self> {
        let path = format!("/proc/{}/fd/{}", origin.process, origin.file);
        let file = File::options().read(true).write(true).open(&path);
        let file = file.map_err(|error| {
            Failure::argument(
                "handle",
                "memory of a process that lives",
                format!("{path}: {error}"),
            )
        })?;
        let end = origin.offset.checked_add(origin.bytes);
        let length = file.metadata().map_or(0, |it| it.len());
        if origin.bytes == 0 || end.is_none_or(|end| end > length) {
            return Err(Failure::argument("handle", "bytes of the file", format!("{origin:?}")));
        }
        Self::map(file, origin)
    }

    /// Maps all of a file that is a physical memory.
    ///
    /// # Errors
    ///
    /// `INVALID_VALUE` if it is empty.
    pub fn of_file(file: File) -> Result<Self> {
        let bytes = file.metadata().map_or(0, |it| it.len());
        if bytes == 0 {
            return Err(Failure::argument("osHandle", "a file of memory", "another file"));
        }
        let (process, number) = (std::process::id(), file.as_raw_fd());
        Self::map(file, &Origin { process, file: number, offset: 0, bytes })
    }

    fn map(file: File, origin: &Origin) -> Result<Self> {
        let offset = origin.offset / PAGE_BYTES * PAGE_BYTES;
        let at = origin.offset - offset;
        let mapping = Mapping::new(Arc::new(file), offset, at + origin.bytes)?;
        Ok(Range { mapping: Arc::new(mapping), at, bytes: origin.bytes, gives_back: false })
    }

    /// The file, opened once more.
    ///
    /// # Errors
    ///
    /// `OUT_OF_MEMORY`.
    pub fn file(&self) -> Result<OwnedFd> {
        self.mapping.file.as_fd().try_clone_to_owned().map_err(|_| system("a file"))
    }

    /// Where another process finds the bytes.
    pub fn origin(&self) -> Origin {
        Origin {
            process: std::process::id(),
            file: self.mapping.file.as_raw_fd(),
            offset: self.mapping.offset + self.at,
            bytes: self.bytes,
        }
    }
}

// SAFETY: the mapping has `bytes` bytes from `at` on, at a multiple of 256, as long as the range.
unsafe impl HostBytes for Range {
    fn start(&self) -> NonNull<u8> {
        // SAFETY: inside of the mapping.
        unsafe { self.mapping.start.add(self.at as usize) }
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Range {
    fn drop(&mut self) {
        if self.gives_back && self.bytes >= PAGE_BYTES {
            let length = self.bytes.next_multiple_of(PAGE_BYTES) as usize;
            // Other processes that map the bytes read zeros from now on, which is a use after free
            // on their side.
            // SAFETY: pages of this range alone.
            unsafe { libc::madvise(self.start().as_ptr().cast(), length, libc::MADV_REMOVE) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allocations_do_not_overlap_and_are_found_by_their_origin() {
        let arena = Arena::default();
        let sizes = [1, 300, 4096, 5000, CHUNK_BYTES, 256];
        let ranges: Vec<Range> = sizes.iter().map(|bytes| arena.alloc(*bytes).unwrap()).collect();
        for (index, range) in ranges.iter().enumerate() {
            assert!((range.start().as_ptr() as u64).is_multiple_of(GRANULE));
            // SAFETY: the range has at least one byte.
            unsafe { range.start().as_ptr().add(range.bytes as usize - 1).write(index as u8 + 1) };
        }
        for (index, range) in ranges.iter().enumerate() {
            let import = Range::open(&range.origin()).unwrap();
            // SAFETY: as above.
            let last = unsafe { import.start().as_ptr().add(range.bytes as usize - 1).read() };
            assert_eq!(last, index as u8 + 1);
        }
    }

    #[test]
    fn bytes_of_nobody_are_refused() {
        let arena = Arena::default();
        let origin = arena.alloc(256).unwrap().origin();
        assert!(Range::open(&Origin { file: 1 << 20, ..origin }).is_err());
        assert!(Range::open(&Origin { offset: u64::MAX, ..origin }).is_err());
        assert!(Range::open(&Origin { bytes: 0, ..origin }).is_err());
    }
}
