//! The address space of a process: the memory of its devices and the host memory that they see.

mod region;
mod replicas;

use std::alloc::{Layout, alloc_zeroed};
use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

pub(crate) use region::Region;
pub use region::{HostBytes, Span};

use crate::check::Initial;
use crate::checks::Checks;
use region::Backing;
pub use replicas::Replicas;

/// Device 0's heap starts here: above the windows of the generic address space, below where Linux
/// places programs and libraries.
const HEAP_BASE: u64 = 0x100_0000_0000;
/// Addresses of each device. They are not reused, so that a use after free is always seen.
const HEAP_BYTES: u64 = 0x400_0000_0000;
/// Devices that the layout has room for.
pub const MAX_DEVICES: usize = 15;
/// Behind the devices' addresses: those that are handed out without memory.
const RESERVED_BASE: u64 = HEAP_BASE + HEAP_BYTES * MAX_DEVICES as u64;
/// Alignment of every allocation, and the gap behind it that belongs to nobody.
const GRANULE: u64 = 256;

/// Why an operation on device memory was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemoryError {
    /// The device number is not below [`MAX_DEVICES`].
    #[error("device {device} does not exist, there is room for {MAX_DEVICES}")]
    NoDevice {
        /// Number that came.
        device: usize,
    },
    /// The host or the device's addresses are exhausted.
    #[error("no room for {bytes} bytes on device {device}")]
    OutOfMemory {
        /// Device asked.
        device: usize,
        /// Bytes asked for.
        bytes: u64,
    },
    /// The bytes do not lie in one allocation.
    #[error("{bytes} bytes at {address:#x} are not inside one allocation{hint}")]
    OutOfBounds {
        /// First byte.
        address: u64,
        /// Number of bytes.
        bytes: u64,
        /// The nearest allocation, in words.
        hint: String,
    },
    /// No allocation starts at the address.
    #[error("no allocation starts at {address:#x}")]
    NotAllocated {
        /// Address that came.
        address: u64,
    },
}

#[derive(Default)]
struct Table {
    regions: BTreeMap<u64, Region>,
    freed: BTreeMap<u64, u64>,
    names: BTreeMap<u64, String>,
    next: [u64; MAX_DEVICES],
    /// Reserved addresses, counted from their base.
    reserved: u64,
    /// What `multimem` instructions see, by first address.
    replicas: BTreeMap<u64, Box<dyn Replicas>>,
}

impl Table {
    /// All of the range was reserved, and nothing is mapped there.
    fn is_free(&self, address: u64, bytes: u64) -> bool {
        let end = address.saturating_add(bytes);
        let region = self.regions.range(..end).next_back();
        let replicas = self.replicas.range(..end).next_back();
        let is_reserved = address >= RESERVED_BASE && end - RESERVED_BASE <= self.reserved;
        let is_used = region.is_some_and(|(_, it)| it.end > address)
            || replicas.is_some_and(|(start, it)| start + it.bytes() > address);
        bytes > 0 && is_reserved && !is_used
    }
}

/// Allocations of all devices of a process.
pub struct Memory {
    table: RwLock<Table>,
    /// Counts changes of the table.
    generation: AtomicU64,
    /// Keeps count of the bytes that have been written.
    tracks: bool,
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl Memory {
    /// An empty address space, for the checks that `VGPU_CHECK` names ([`Checks::from_env`]).
    #[must_use]
    pub fn new() -> Self {
        Self::with_checks(Checks::from_env().unwrap_or(Checks::NONE))
    }

    /// An empty address space. Reads of bytes that nobody has written are found if `checks` contains
    /// [`Checks::INITIALISED`], by launches that look for them.
    #[must_use]
    pub fn with_checks(checks: Checks) -> Self {
        let tracks = checks.contains(Checks::INITIALISED);
        Memory { table: RwLock::default(), generation: AtomicU64::new(0), tracks }
    }

    /// Allocates `bytes` zeroed bytes on a device, aligned to 256, and returns their address.
    ///
    /// # Errors
    ///
    /// [`MemoryError::NoDevice`]; [`MemoryError::OutOfMemory`], also for 0 bytes.
    pub fn alloc(&self, device: usize, bytes: u64) -> Result<u64, MemoryError> {
        let exhausted = MemoryError::OutOfMemory { device, bytes };
        let length = usize::try_from(bytes).map_err(|_| exhausted.clone())?;
        let layout =
            Layout::from_size_align(length, GRANULE as usize).map_err(|_| exhausted.clone())?;
        if device >= MAX_DEVICES {
            return Err(MemoryError::NoDevice { device });
        }
        if bytes == 0 || bytes > HEAP_BYTES / 2 {
            return Err(exhausted);
        }
        // SAFETY: the layout is not empty.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or(exhausted)?;
        self.place(device, bytes, Backing::Owned { start, layout })
    }

    /// Makes an allocation on a device of bytes that somebody lends, and returns its address. The
    /// bytes are dropped when it has ended and no kernel sees it any more.
    ///
    /// # Errors
    ///
    /// [`MemoryError::NoDevice`]; [`MemoryError::OutOfMemory`], also for 0 bytes.
    pub fn adopt(&self, device: usize, host: Box<dyn HostBytes>) -> Result<u64, MemoryError> {
        self.place(device, host.bytes(), Backing::Lent(host))
    }

    fn place(&self, device: usize, bytes: u64, backing: Backing) -> Result<u64, MemoryError> {
        let exhausted = MemoryError::OutOfMemory { device, bytes };
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let Some(offset) = table.next.get(device).copied() else {
            return Err(MemoryError::NoDevice { device });
        };
        if bytes == 0 || bytes > HEAP_BYTES / 2 {
            return Err(exhausted);
        }
        let end = offset + bytes.next_multiple_of(GRANULE) + GRANULE;
        if end > HEAP_BYTES {
            return Err(exhausted);
        }
        table.next[device] = end;
        let address = HEAP_BASE + HEAP_BYTES * device as u64 + offset;
        let initial = self.tracks.then(|| Initial::new(bytes));
        table.regions.insert(address, Region::new(address, address + bytes, backing, initial));
        self.generation.fetch_add(1, Ordering::Release);
        Ok(address)
    }

    /// Hands out addresses, aligned to `align`, that have no memory yet.
    ///
    /// # Errors
    ///
    /// [`MemoryError::OutOfMemory`], also for 0 bytes or an alignment that is no power of two.
    pub fn reserve(&self, bytes: u64, align: u64) -> Result<u64, MemoryError> {
        let exhausted = MemoryError::OutOfMemory { device: MAX_DEVICES, bytes };
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        if bytes == 0 || bytes.max(align) > HEAP_BYTES / 2 || !align.is_power_of_two() {
            return Err(exhausted);
        }
        let start = table.reserved.next_multiple_of(align.max(GRANULE));
        if start + bytes > HEAP_BYTES - GRANULE {
            return Err(exhausted);
        }
        table.reserved = start + bytes + GRANULE;
        Ok(RESERVED_BASE + start)
    }

    /// Gives reserved addresses memory that somebody lends, until [`Memory::free`] is called on the
    /// first of them.
    ///
    /// # Errors
    ///
    /// [`MemoryError::OutOfBounds`] unless all are reserved and without memory.
    pub fn map(&self, address: u64, host: Box<dyn HostBytes>) -> Result<(), MemoryError> {
        let bytes = host.bytes();
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let end = address.saturating_add(bytes);
        if !table.is_free(address, bytes) {
            return Err(MemoryError::OutOfBounds { address, bytes, hint: String::new() });
        }
        table.freed.retain(|start, stop| *start >= end || *stop <= address);
        // The bytes may have been written elsewhere.
        table.regions.insert(address, Region::new(address, end, Backing::Lent(host), None));
        self.generation.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Ends an allocation. Kernels that still use it fault.
    ///
    /// # Errors
    ///
    /// [`MemoryError::NotAllocated`] unless an allocation starts at `address`.
    pub fn free(&self, address: u64) -> Result<(), MemoryError> {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let region = table.regions.remove(&address).ok_or(MemoryError::NotAllocated { address })?;
        table.freed.insert(region.start, region.end);
        self.generation.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Gives the allocation that starts at `address` a name, for messages.
    pub fn name(&self, address: u64, name: &str) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        table.names.insert(address, name.to_owned());
    }

    /// Says that bytes of one allocation have values, which [`Memory::write`] does by itself.
    ///
    /// # Errors
    ///
    /// [`MemoryError::OutOfBounds`].
    pub fn initialise(&self, address: u64, bytes: u64) -> Result<(), MemoryError> {
        if self.tracks && bytes > 0 {
            let region = self.region(address, bytes)?;
            region.initial().inspect(|it| it.set(address - region.start, bytes));
        }
        Ok(())
    }

    /// Says that all bytes have values: a launch runs that does not keep count.
    pub(crate) fn initialise_all(&self) {
        if self.tracks {
            let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
            table.regions.values().filter_map(Region::initial).for_each(Initial::set_whole);
        }
    }

    /// Lets kernels see host memory at its own address.
    ///
    /// # Errors
    ///
    /// [`MemoryError::OutOfBounds`] if it is empty, at null, or overlaps an allocation.
    ///
    /// # Safety
    ///
    /// The bytes stay valid, and are read and written by nobody else except atomically, until
    /// [`Memory::free`] has been called on `start` and no kernel runs that was started before.
    pub unsafe fn map_host(&self, start: *mut u8, bytes: u64) -> Result<(), MemoryError> {
        let address = start as u64;
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let end = address.saturating_add(bytes);
        let overlaps = table.regions.range(..end).next_back().is_some_and(|(_, r)| r.end > address);
        match NonNull::new(start) {
            Some(start) if bytes > 0 && !overlaps => {
                let backing = Backing::Foreign { start };
                table.regions.insert(address, Region::new(address, end, backing, None));
                self.generation.fetch_add(1, Ordering::Release);
                Ok(())
            }
            _ => Err(MemoryError::OutOfBounds { address, bytes, hint: String::new() }),
        }
    }

    /// Start and length of the allocation that `address` lies in.
    #[must_use]
    pub fn allocation(&self, address: u64) -> Option<(u64, u64)> {
        let region = self.region(address, 1).ok()?;
        Some((region.start, region.end - region.start))
    }

    /// Number of the device whose heap `address` lies in; `None` for mapped host memory.
    #[must_use]
    pub fn device_of(&self, address: u64) -> Option<usize> {
        let device = address.checked_sub(HEAP_BASE)? / HEAP_BYTES;
        (device < MAX_DEVICES as u64).then_some(device as usize)
    }

    /// Access to the first bytes of a range, as far as one allocation goes, and how many they are.
    ///
    /// # Errors
    ///
    /// [`MemoryError::OutOfBounds`] if there is no memory at `address`.
    pub fn span_from(&self, address: u64, bytes: u64) -> Result<(Span, u64), MemoryError> {
        let region = self.region(address, bytes.min(1))?;
        let length = bytes.min(region.end - address);
        Ok((Span { region, address }, length))
    }

    /// Copies `data` to a device address.
    ///
    /// # Errors
    ///
    /// [`MemoryError::OutOfBounds`].
    pub fn write(&self, address: u64, data: &[u8]) -> Result<(), MemoryError> {
        if data.is_empty() {
            return Ok(());
        }
        let region = self.region(address, data.len() as u64)?;
        region.initial().inspect(|it| it.set(address - region.start, data.len() as u64));
        let host = region.host(address);
        // SAFETY: the region holds `data.len()` bytes from `host` on; `data` cannot overlap them.
        unsafe { host.copy_from_nonoverlapping(data.as_ptr(), data.len()) };
        Ok(())
    }

    /// Copies from a device address to `data`.
    ///
    /// # Errors
    ///
    /// [`MemoryError::OutOfBounds`].
    pub fn read(&self, address: u64, data: &mut [u8]) -> Result<(), MemoryError> {
        if data.is_empty() {
            return Ok(());
        }
        let host = self.region(address, data.len() as u64)?.host(address);
        // SAFETY: as in `write`.
        unsafe { host.copy_to_nonoverlapping(data.as_mut_ptr(), data.len()) };
        Ok(())
    }

    /// The region of a range.
    pub(crate) fn region(&self, address: u64, bytes: u64) -> Result<Region, MemoryError> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        match table.regions.range(..=address).next_back() {
            Some((_, region)) if region.contains(address, bytes) => Ok(region.clone()),
            _ => Err(MemoryError::OutOfBounds { address, bytes, hint: hint(&table, address) }),
        }
    }

    /// All regions in order, and the number of this state.
    pub(crate) fn snapshot(&self) -> (u64, Vec<Region>) {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        (self.generation(), table.regions.values().cloned().collect())
    }

    /// Changes when allocations come or go.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// What lies at or near an address, in words.
    pub(crate) fn describe(&self, address: u64) -> String {
        let table: RwLockReadGuard<'_, Table> =
            self.table.read().unwrap_or_else(PoisonError::into_inner);
        hint(&table, address)
    }
}

fn hint(table: &Table, address: u64) -> String {
    let name = |start: &u64| match table.names.get(start) {
        Some(name) => format!(" (`{name}`)"),
        None => String::new(),
    };
    if let Some(start) = table.replicas_at(address) {
        return format!(": it is an address of a multicast object, at {start:#x}");
    }
    if let Some((start, end)) = table.freed.range(..=address).next_back()
        && address < *end
    {
        let (length, at) = (end - start, address - start);
        let name = name(start);
        return format!(": byte {at} of {length} bytes at {start:#x}{name} that were freed");
    }
    match table.regions.range(..=address).next_back() {
        Some((start, region)) => {
            let (length, at) = (region.end - start, address - start);
            format!(": byte {at} of the {length} bytes at {start:#x}{}", name(start))
        }
        None => String::new(),
    }
}
