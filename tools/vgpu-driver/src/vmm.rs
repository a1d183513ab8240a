//! Memory and addresses apart: physical memory, address ranges, and what is mapped where.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex};

use vgpu::HostBytes;

use crate::arena::{Origin, Range};
use crate::context::lock;
use crate::driver::driver;
use crate::failure::{Failure, Result};
use crate::handles::Handle;
use crate::multicast::{self, Multicast};
use crate::status::Status;

/// Sizes and addresses are multiples of this.
pub const GRANULARITY: u64 = 2 << 20;

/// Memory without an address.
pub struct Physical {
    /// The device that it belongs to.
    pub device: usize,
    /// `CUmemAllocationHandleType`s that it can be exported as.
    pub handle_types: u32,
    bytes: Range,
}

impl Physical {
    /// Zeroed memory in a file of its own.
    ///
    /// # Errors
    ///
    /// `OUT_OF_MEMORY`.
    pub fn create(device: usize, handle_types: u32, bytes: u64) -> Result<Self> {
        Ok(Physical { device, handle_types, bytes: Range::with_own_file(bytes)? })
    }

    /// Memory that was exported.
    pub fn imported(device: usize, handle_types: u32, bytes: Range) -> Self {
        Physical { device, handle_types, bytes }
    }

    /// Its length.
    pub fn len(&self) -> u64 {
        self.bytes.bytes()
    }

    /// Where another process finds it.
    pub fn origin(&self) -> Origin {
        self.bytes.origin()
    }

    /// Its bytes.
    pub fn host_bytes(&self) -> &impl HostBytes {
        &self.bytes
    }

    /// An open file that is the memory.
    ///
    /// # Errors
    ///
    /// `OUT_OF_MEMORY` if no file can be opened.
    pub fn file(&self) -> Result<OwnedFd> {
        self.bytes.file()
    }
}

/// Physical memory that stays as long as it is mapped.
struct Mapped(Arc<Physical>);

// SAFETY: the physical memory's own, which lives as long.
unsafe impl HostBytes for Mapped {
    fn start(&self) -> NonNull<u8> {
        self.0.bytes.start()
    }

    fn bytes(&self) -> u64 {
        self.0.bytes.bytes()
    }
}

/// What addresses can be mapped to.
#[derive(Clone)]
enum Target {
    Physical(Arc<Physical>),
    Multicast(Arc<Multicast>),
}

impl Target {
    fn find(handle: Handle) -> Result<Self> {
        let driver = driver()?;
        match driver.multicasts.get(handle) {
            Ok(object) => Ok(Target::Multicast(object)),
            Err(_) => driver.physical.get(handle).map(Target::Physical),
        }
    }

    fn len(&self) -> u64 {
        match self {
            Target::Physical(physical) => physical.len(),
            Target::Multicast(object) => object.len(),
        }
    }
}

/// What a range of addresses is mapped to.
struct Mapping {
    target: Target,
    handle: Handle,
    /// Kernels and copies may use it.
    is_accessible: bool,
}

/// Address ranges and what is mapped in them, by first address.
#[derive(Default)]
pub struct Ranges {
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    reserved: BTreeMap<u64, u64>,
    mapped: BTreeMap<u64, Mapping>,
}

fn refuse<T>(arg: &str, expected: &str, address: u64, bytes: u64) -> Result<T> {
    Err(Failure::argument(arg, expected, format!("{bytes} bytes at {address:#x}")))
}

impl Ranges {
    /// Reserves addresses.
    ///
    /// # Errors
    ///
    /// `INVALID_VALUE` for a wrong size, `OUT_OF_MEMORY`.
    pub fn reserve(&self, bytes: u64, align: u64) -> Result<u64> {
        if bytes == 0 || !bytes.is_multiple_of(GRANULARITY) {
            return Err(Failure::argument("size", "a multiple of 2 MiB", bytes));
        }
        if align != 0 && !align.is_power_of_two() {
            return Err(Failure::argument("alignment", "a power of two", align));
        }
        let address = driver()?.memory.reserve(bytes, align.max(GRANULARITY))?;
        lock(&self.table).reserved.insert(address, bytes);
        Ok(address)
    }

    /// Gives addresses back.
    ///
    /// # Errors
    ///
    /// `INVALID_VALUE` unless the range was reserved so and nothing is mapped in it.
    pub fn release(&self, address: u64, bytes: u64) -> Result<()> {
        let mut table = lock(&self.table);
        let is_used = table.mapped.range(address..address.saturating_add(bytes)).next().is_some();
        if table.reserved.get(&address) != Some(&bytes) || is_used {
            return refuse("ptr", "a whole range with nothing mapped", address, bytes);
        }
        table.reserved.remove(&address);
        Ok(())
    }

    /// Maps all of a physical memory or a multicast object.
    ///
    /// # Errors
    ///
    /// `INVALID_VALUE` unless the addresses are reserved and free and the sizes agree.
    pub fn map(&self, address: u64, bytes: u64, handle: Handle) -> Result<()> {
        let target = Target::find(handle)?;
        let mut table = lock(&self.table);
        let end = address.saturating_add(bytes);
        let range = table.reserved.range(..=address).next_back();
        let is_reserved = range.is_some_and(|(start, length)| end <= start + length);
        let before = table.mapped.range(..end).next_back();
        let is_used = before.is_some_and(|(start, it)| start + it.target.len() > address);
        if !is_reserved || is_used || !address.is_multiple_of(GRANULARITY) {
            return refuse("ptr", "reserved addresses with nothing mapped", address, bytes);
        }
        if bytes != target.len() {
            return Err(Failure::argument("size", format!("all {} bytes", target.len()), bytes));
        }
        table.mapped.insert(address, Mapping { target, handle, is_accessible: false });
        Ok(())
    }

    /// Unmaps whole mappings.
    ///
    /// # Errors
    ///
    /// `INVALID_VALUE` unless the range is made of whole mappings.
    pub fn unmap(&self, address: u64, bytes: u64) -> Result<()> {
        let mut table = lock(&self.table);
        for start in table.whole_mappings(address, bytes)? {
            table.set_access(start, false)?;
            table.mapped.remove(&start);
        }
        Ok(())
    }

    /// Lets kernels and copies use mappings, or not.
    ///
    /// # Errors
    ///
    /// `INVALID_VALUE` unless the range is made of whole mappings.
    pub fn set_access(&self, address: u64, bytes: u64, is_accessible: bool) -> Result<()> {
        let mut table = lock(&self.table);
        for start in table.whole_mappings(address, bytes)? {
            table.set_access(start, is_accessible)?;
        }
        Ok(())
    }

    /// The mapping that an address lies in: the memory, its handle, and whether it can be used.
    pub fn find(&self, address: u64) -> Option<(Arc<Physical>, Handle, bool)> {
        let table = lock(&self.table);
        let (start, mapping) = table.mapped.range(..=address).next_back()?;
        let Target::Physical(physical) = &mapping.target else { return None };
        let is_inside = address < start + physical.len();
        is_inside.then(|| (physical.clone(), mapping.handle, mapping.is_accessible))
    }

    /// The physical memory that an address is mapped to, and the byte of it.
    pub fn place(&self, address: u64) -> Option<(Arc<Physical>, u64)> {
        let table = lock(&self.table);
        let (start, mapping) = table.mapped.range(..=address).next_back()?;
        let Target::Physical(physical) = &mapping.target else { return None };
        let at = address - start;
        (at < physical.len()).then(|| (physical.clone(), at))
    }
}

impl Table {
    /// First addresses of the mappings that a range is made of.
    fn whole_mappings(&self, address: u64, bytes: u64) -> Result<Vec<u64>> {
        let (mut at, end) = (address, address.saturating_add(bytes));
        let mut starts = Vec::new();
        while at < end {
            let Some(mapping) = self.mapped.get(&at) else { break };
            starts.push(at);
            at += mapping.target.len();
        }
        match at == end && bytes > 0 {
            true => Ok(starts),
            false => refuse("ptr", "whole mappings", address, bytes),
        }
    }

    fn set_access(&mut self, start: u64, is_accessible: bool) -> Result<()> {
        let Some(mapping) = self.mapped.get_mut(&start) else {
            return Err(Status::INVALID_VALUE.into());
        };
        let memory = &driver()?.memory;
        match (&mapping.target, mapping.is_accessible, is_accessible) {
            (Target::Physical(physical), false, true) => {
                memory.map(start, Box::new(Mapped(physical.clone())))?;
            }
            (Target::Physical(_), true, false) => memory.free(start)?,
            (Target::Multicast(object), false, true) => {
                memory.map_replicas(start, Box::new(multicast::Mapped(object.clone())))?;
            }
            (Target::Multicast(_), true, false) => memory.unmap_replicas(start)?,
            _ => {}
        }
        mapping.is_accessible = is_accessible;
        Ok(())
    }
}
