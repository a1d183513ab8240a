//! Multicast objects of one process.

use std::ffi::{c_int, c_uint};

use crate::abi::MulticastObjectProp;
use crate::driver::driver;
use crate::entry::{api, get, lacking, put};
use crate::failure::{Failure, Result};
use crate::handles::Handle;
use crate::multicast::{Multicast, Part};
use crate::vmm::GRANULARITY;

api! {
    /// An object for the memory of several devices.
    fn cuMulticastCreate(handle: *mut u64, prop: *const MulticastObjectProp) {
        // SAFETY: the caller's structure of numbers.
        let object = unsafe { from_prop(prop) }?;
        if handle.is_null() {
            return Err(Failure::argument("mcHandle", "an address", "null"));
        }
        // SAFETY: the caller's pointer.
        unsafe { put(handle, "mcHandle", driver()?.multicasts.add(object) as u64) }?;
    }

    /// Adds a device; all are added before memory is bound.
    fn cuMulticastAddDevice(handle: u64, dev: c_int) {
        let driver = driver()?;
        driver.multicasts.get(handle as Handle)?.add_device(driver.device(dev)?)?;
    }

    /// Binds physical memory of its device.
    fn cuMulticastBindMem(
        handle: u64,
        offset: usize,
        memory: u64,
        at: usize,
        size: usize,
        flags: u64,
    ) {
        bind_memory(handle, offset, memory, at, size, flags)?;
    }

    /// Binds physical memory, which must be the device's.
    fn cuMulticastBindMem_v2(
        handle: u64,
        dev: c_int,
        offset: usize,
        memory: u64,
        at: usize,
        size: usize,
        flags: u64,
    ) {
        let driver = driver()?;
        let device = driver.device(dev)?;
        if driver.physical.get(memory as Handle)?.device != device {
            return Err(Failure::argument("memHandle", format!("of device {dev}"), "of another"));
        }
        bind_memory(handle, offset, memory, at, size, flags)?;
    }

    /// Binds the memory that an address is mapped to.
    fn cuMulticastBindAddr(handle: u64, offset: usize, address: u64, size: usize, flags: u64) {
        bind_address(handle, offset, address, size, flags)?;
    }

    /// Binds the memory that an address is mapped to, which must be the device's.
    fn cuMulticastBindAddr_v2(
        handle: u64,
        dev: c_int,
        offset: usize,
        address: u64,
        size: usize,
        flags: u64,
    ) {
        let driver = driver()?;
        let device = driver.device(dev)?;
        if driver.ranges.find(address).is_none_or(|(physical, ..)| physical.device != device) {
            return Err(Failure::argument("memptr", format!("of device {dev}"), "of another"));
        }
        bind_address(handle, offset, address, size, flags)?;
    }

    /// Ends bindings.
    fn cuMulticastUnbind(handle: u64, dev: c_int, offset: usize, size: usize) {
        let driver = driver()?;
        let object = driver.multicasts.get(handle as Handle)?;
        object.unbind(driver.device(dev)?, offset as u64, size as u64)?;
    }

    /// What sizes and offsets are multiples of.
    fn cuMulticastGetGranularity(
        granularity: *mut usize,
        prop: *const MulticastObjectProp,
        option: c_uint,
    ) {
        // SAFETY: the caller's structure of numbers.
        unsafe { get(prop, "prop") }?;
        if option > 1 {
            return Err(Failure::argument("option", "minimum or recommended", option));
        }
        // SAFETY: the caller's pointer.
        unsafe { put(granularity, "granularity", GRANULARITY as usize) }?;
    }
}

/// # Safety
///
/// The pointer is null or valid.
unsafe fn from_prop(prop: *const MulticastObjectProp) -> Result<Multicast> {
    // SAFETY: the caller's.
    let prop = unsafe { get(prop, "prop") }?;
    no_flags(prop.flags)?;
    if prop.handle_types != 0 {
        return Err(lacking("a multicast object of several processes"));
    }
    Multicast::new(prop.num_devices as usize, prop.size, driver()?.primary.len())
}

fn no_flags(flags: u64) -> Result<()> {
    if flags == 0 { Ok(()) } else { Err(Failure::argument("flags", 0, flags)) }
}

fn bind_memory(
    handle: u64,
    offset: usize,
    memory: u64,
    at: usize,
    size: usize,
    flags: u64,
) -> Result<()> {
    no_flags(flags)?;
    let driver = driver()?;
    let physical = driver.physical.get(memory as Handle)?;
    let part = Part { physical, at: at as u64, bytes: size as u64 };
    driver.multicasts.get(handle as Handle)?.bind(offset as u64, part)
}

fn bind_address(handle: u64, offset: usize, address: u64, size: usize, flags: u64) -> Result<()> {
    no_flags(flags)?;
    let driver = driver()?;
    let none = || Failure::argument("memptr", "a mapped address", format!("{address:#x}"));
    let (physical, at) = driver.ranges.place(address).ok_or_else(none)?;
    let part = Part { physical, at, bytes: size as u64 };
    driver.multicasts.get(handle as Handle)?.bind(offset as u64, part)
}
