//! Virtual memory management: physical memory, address ranges, mappings, export and import.

use std::ffi::{c_int, c_uint, c_void};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd};

use crate::abi::{IpcMemHandle, MemAccessDesc, MemAllocationProp, MemLocation};
use crate::arena::Range;
use crate::context::{current, usable};
use crate::driver::driver;
use crate::entry::{api, get, lacking, put};
use crate::failure::{Failure, Result};
use crate::handles::Handle;
use crate::vmm::{GRANULARITY, Physical};

use super::ipc::{decode, encode};

/// `CU_MEM_ALLOCATION_TYPE_PINNED` and `CU_MEM_LOCATION_TYPE_DEVICE`.
const PINNED: u32 = 1;
const DEVICE: u32 = 1;
/// `CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR` and `_FABRIC`.
const FILE: u32 = 1;
const FABRIC: u32 = 8;

api! {
    /// What sizes and addresses are multiples of.
    fn cuMemGetAllocationGranularity(
        granularity: *mut usize,
        prop: *const MemAllocationProp,
        option: c_uint,
    ) {
        // SAFETY: the caller's structure of numbers.
        device_of(&unsafe { get(prop, "prop") }?)?;
        if option > 1 {
            return Err(Failure::argument("option", "minimum or recommended", option));
        }
        // SAFETY: the caller's pointer.
        unsafe { put(granularity, "granularity", GRANULARITY as usize) }?;
    }

    /// Physical memory.
    fn cuMemCreate(handle: *mut u64, size: usize, prop: *const MemAllocationProp, flags: u64) {
        // SAFETY: the caller's structure of numbers.
        let prop = unsafe { get(prop, "prop") }?;
        let (device, size) = (device_of(&prop)?, size as u64);
        none("flags", flags)?;
        if size == 0 || !size.is_multiple_of(GRANULARITY) {
            return Err(Failure::argument("size", "a multiple of 2 MiB", size));
        }
        if prop.handle_types & !(FILE | FABRIC) != 0 {
            let got = prop.handle_types;
            return Err(Failure::argument("requestedHandleTypes", "file or fabric", got));
        }
        if handle.is_null() {
            return Err(Failure::argument("handle", "an address", "null"));
        }
        let physical = Physical::create(device, prop.handle_types, size)?;
        // SAFETY: the caller's pointer.
        unsafe { put(handle, "handle", driver()?.physical.add(physical) as u64) }?;
    }

    /// Gives physical memory back; what is mapped stays.
    fn cuMemRelease(handle: u64) {
        let driver = driver()?;
        if driver.multicasts.remove(handle as Handle).is_err() {
            driver.physical.remove(handle as Handle)?;
        }
    }

    /// Addresses without memory. A wish for certain ones is not heard.
    fn cuMemAddressReserve(
        address: *mut u64,
        size: usize,
        alignment: usize,
        _wish: u64,
        flags: u64,
    ) {
        none("flags", flags)?;
        if address.is_null() {
            return Err(Failure::argument("ptr", "an address", "null"));
        }
        let start = driver()?.ranges.reserve(size as u64, alignment as u64)?;
        // SAFETY: the caller's pointer.
        unsafe { put(address, "ptr", start) }?;
    }

    /// Gives addresses back.
    fn cuMemAddressFree(address: u64, size: usize) {
        driver()?.ranges.release(address, size as u64)?;
    }

    /// Gives addresses physical memory; nobody can use it before `cuMemSetAccess`.
    fn cuMemMap(address: u64, size: usize, offset: usize, handle: u64, flags: u64) {
        none("offset", offset as u64)?;
        none("flags", flags)?;
        driver()?.ranges.map(address, size as u64, handle as Handle)?;
    }

    /// Takes the memory away from addresses.
    fn cuMemUnmap(address: u64, size: usize) {
        driver()?.ranges.unmap(address, size as u64)?;
    }

    /// Says who can use mapped memory: all devices or none, whichever is named.
    fn cuMemSetAccess(address: u64, size: usize, descs: *const MemAccessDesc, count: usize) {
        usable()?;
        if descs.is_null() || count == 0 {
            return Err(Failure::argument("desc", "an array", "none"));
        }
        let mut is_accessible = false;
        for index in 0..count {
            // SAFETY: the caller's array of `count` structures of numbers.
            let desc = unsafe { *descs.add(index) };
            if desc.location.kind != DEVICE {
                return Err(lacking("access from other places than devices"));
            }
            driver()?.device(desc.location.id)?;
            // Nothing, or reading and writing.
            match desc.flags {
                0 => {}
                3 => is_accessible = true,
                1 => return Err(lacking("CU_MEM_ACCESS_FLAGS_PROT_READ")),
                other => return Err(Failure::argument("flags", "CUmemAccess_flags", other)),
            }
        }
        driver()?.ranges.set_access(address, size as u64, is_accessible)?;
    }

    /// Whether mapped memory can be used.
    fn cuMemGetAccess(flags: *mut u64, _location: *const MemLocation, address: u64) {
        let (_, _, is_accessible) = find(address)?;
        // SAFETY: the caller's pointer.
        unsafe { put(flags, "flags", if is_accessible { 3 } else { 0 }) }?;
    }

    /// A handle of the memory that an address is mapped to.
    fn cuMemRetainAllocationHandle(handle: *mut u64, address: u64) {
        let (physical, old, _) = find(address)?;
        let driver = driver()?;
        if driver.physical.get(old).is_err() {
            driver.physical.insert(old, physical);
        }
        // SAFETY: the caller's pointer.
        unsafe { put(handle, "handle", old as u64) }?;
    }

    /// What physical memory was made as.
    fn cuMemGetAllocationPropertiesFromHandle(prop: *mut MemAllocationProp, handle: u64) {
        let physical = driver()?.physical.get(handle as Handle)?;
        let location = MemLocation { kind: DEVICE, id: physical.device as c_int };
        let found = MemAllocationProp {
            kind: PINNED,
            handle_types: physical.handle_types,
            location,
            metadata: 0,
            flags: 0,
        };
        // SAFETY: the caller's pointer.
        unsafe { put(prop, "prop", found) }?;
    }

    /// Physical memory for another process: an open file, or 64 bytes that say where it is.
    fn cuMemExportToShareableHandle(
        shareable: *mut c_void,
        handle: u64,
        kind: c_uint,
        flags: u64,
    ) {
        none("flags", flags)?;
        let physical = driver()?.physical.get(handle as Handle)?;
        if shareable.is_null() {
            return Err(Failure::argument("shareableHandle", "an address", "null"));
        }
        if physical.handle_types & kind == 0 {
            return Err(Failure::argument("handleType", "one that was requested", kind));
        }
        // SAFETY: the caller's pointer, at what its kind of handle needs.
        unsafe {
            match kind {
                FILE => put(shareable.cast(), "shareableHandle", physical.file()?.into_raw_fd()),
                FABRIC => put(shareable.cast(), "shareableHandle", encode(&physical.origin())),
                _ => Err(Failure::argument("handleType", "file or fabric", kind)),
            }
        }?;
    }

    /// Physical memory that was exported. A file stays the caller's.
    fn cuMemImportFromShareableHandle(handle: *mut u64, shareable: *mut c_void, kind: c_uint) {
        let device = current()?.device;
        if handle.is_null() {
            return Err(Failure::argument("handle", "an address", "null"));
        }
        let import = match kind {
            FILE => {
                let number = shareable as usize as c_int;
                if number < 0 {
                    return Err(Failure::argument("osHandle", "an open file", number));
                }
                // SAFETY: the caller's open file; one that is not open makes no copy.
                let file = unsafe { BorrowedFd::borrow_raw(number) }.as_fd().try_clone_to_owned();
                let file = file.map_err(|error| {
                    Failure::argument("osHandle", "an open file", format!("{number}: {error}"))
                })?;
                Range::of_file(File::from(file))?
            }
            FABRIC => {
                // SAFETY: the caller's 64 bytes.
                let fabric = unsafe { get(shareable.cast::<IpcMemHandle>(), "osHandle") }?;
                Range::open(&decode(&fabric)?)?
            }
            _ => return Err(Failure::argument("shHandleType", "file or fabric", kind)),
        };
        let physical = Physical::imported(device, kind, import);
        // SAFETY: the caller's pointer.
        unsafe { put(handle, "handle", driver()?.physical.add(physical) as u64) }?;
    }
}

fn none(arg: &str, value: u64) -> Result<()> {
    if value == 0 { Ok(()) } else { Err(Failure::argument(arg, 0, value)) }
}

fn device_of(prop: &MemAllocationProp) -> Result<usize> {
    if prop.kind != PINNED {
        return Err(Failure::argument("type", "CU_MEM_ALLOCATION_TYPE_PINNED", prop.kind));
    }
    if prop.location.kind != DEVICE {
        return Err(lacking("physical memory in other places than devices"));
    }
    driver()?.device(prop.location.id)
}

fn find(address: u64) -> Result<(std::sync::Arc<Physical>, Handle, bool)> {
    let refuse = || Failure::argument("ptr", "a mapped address", format!("{address:#x}"));
    driver()?.ranges.find(address).ok_or_else(refuse)
}
