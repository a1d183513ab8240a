//! Allocations, host memory and what pointers point to.

use std::ffi::{c_int, c_uint, c_void};

use crate::capture::refuse_in_capture;
use crate::context::{stream_of, usable};
use crate::driver::{Driver, driver};
use crate::entry::{api, lacking, put};
use crate::failure::{Failure, Result};
use crate::handles::Handle;
use crate::heap::HostKind;
use crate::operation::Operation;
use crate::settings::settings;

/// Flags of `cuMemHostAlloc`: portable, device map, write combined.
const HOST_ALLOC_FLAGS: u32 = 7;
/// Flags of `cuMemHostRegister`: portable, device map, I/O memory, read only.
const HOST_REGISTER_FLAGS: u32 = 15;
/// I/O memory, which cannot be registered.
const IO_MEMORY: u32 = 4;

api! {
    /// Free and total memory of the context's device.
    fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) {
        let context = usable()?;
        let all = settings().memory_bytes;
        let left = all.saturating_sub(driver()?.heap.used(context.device));
        // SAFETY: the caller's pointers.
        unsafe { put(free, "free", left as usize).and_then(|()| put(total, "total", all as usize)) }?;
    }

    /// Device memory.
    fn cuMemAlloc_v2(address: *mut u64, bytes: usize) {
        let context = usable()?;
        refuse_in_capture()?;
        // SAFETY: the caller's pointer.
        unsafe { give(address, || driver()?.heap.alloc(&context, bytes as u64)) }?;
    }

    /// Rows of device memory, each aligned.
    fn cuMemAllocPitch_v2(
        address: *mut u64,
        pitch: *mut usize,
        width: usize,
        height: usize,
        element: c_uint,
    ) {
        let context = usable()?;
        refuse_in_capture()?;
        if ![4, 8, 16].contains(&element) {
            return Err(Failure::argument("ElementSizeBytes", "4, 8 or 16", element));
        }
        let row = width.next_multiple_of(512);
        let bytes = row.saturating_mul(height) as u64;
        // SAFETY: the caller's pointers.
        unsafe {
            put(pitch, "pPitch", row)?;
            give(address, || driver()?.heap.alloc(&context, bytes))
        }?;
    }

    /// Gives device memory back after the context's work. Null is nothing.
    fn cuMemFree_v2(address: u64) {
        let context = usable()?;
        refuse_in_capture()?;
        if address == 0 {
            return Ok(());
        }
        // Kernels that come before may use the memory, also those of the context that it belongs to.
        context.synchronize()?;
        let driver = driver()?;
        if let Some(owner) = driver.heap.context_of(address).filter(|it| *it != context.handle) {
            driver.contexts.get(owner)?.synchronize()?;
        }
        if driver.heap.host_block(address).is_some_and(|it| it.kind == HostKind::Managed) {
            return driver.heap.free_host(address, Some(HostKind::Managed));
        }
        driver.heap.free(address)?;
    }

    /// The allocation that an address lies in.
    fn cuMemGetAddressRange_v2(base: *mut u64, size: *mut usize, address: u64) {
        usable()?;
        let (start, bytes) = driver()?.allocation(address)?;
        if !base.is_null() {
            // SAFETY: the caller's pointer.
            unsafe { put(base, "pbase", start) }?;
        }
        if !size.is_null() {
            // SAFETY: the caller's pointer.
            unsafe { put(size, "psize", bytes as usize) }?;
        }
    }

    /// Device memory, in a stream's order.
    fn cuMemAllocAsync(address: *mut u64, bytes: usize, stream: Handle) {
        let context = usable()?;
        let stream = stream_of(stream)?;
        if stream.capture.is_active() {
            let memory = driver()?.heap.reserve_for_graph(&context, bytes as u64)?;
            // SAFETY: the caller's pointer.
            unsafe { put(address, "dptr", memory.address) }?;
            return stream.enqueue(Operation::Alloc(memory));
        }
        // SAFETY: the caller's pointer.
        unsafe { give(address, || driver()?.heap.alloc(&context, bytes as u64)) }?;
    }

    /// Gives device memory back in a stream's order.
    fn cuMemFreeAsync(address: u64, stream: Handle) {
        usable()?;
        let stream = stream_of(stream)?;
        if address == 0 {
            return Ok(());
        }
        let heap = &driver()?.heap;
        let is_known = match stream.capture.is_active() {
            // There is none before the graph runs.
            true => heap.is_of_graph(address),
            false => heap.owns(address) || heap.is_of_graph(address),
        };
        if !is_known {
            return Err(Failure::argument("dptr", "an allocation", format!("{address:#x}")));
        }
        stream.enqueue(Operation::Free(address))?;
    }

    /// Host memory that devices see.
    fn cuMemHostAlloc(pointer: *mut u64, bytes: usize, flags: c_uint) {
        let context = usable()?;
        refuse_in_capture()?;
        check_flags(flags, HOST_ALLOC_FLAGS)?;
        // SAFETY: the caller's pointer.
        unsafe { give(pointer, || driver()?.heap.alloc_host(&context, bytes, HostKind::Pinned, flags)) }?;
    }

    /// As `cuMemHostAlloc`, without flags.
    fn cuMemAllocHost_v2(pointer: *mut u64, bytes: usize) {
        let context = usable()?;
        refuse_in_capture()?;
        // SAFETY: the caller's pointer.
        unsafe { give(pointer, || driver()?.heap.alloc_host(&context, bytes, HostKind::Pinned, 0)) }?;
    }

    /// Gives host memory back, after all work of the context.
    fn cuMemFreeHost(pointer: u64) {
        let context = usable()?;
        refuse_in_capture()?;
        context.synchronize()?;
        driver()?.heap.free_host(pointer, Some(HostKind::Pinned))?;
    }

    /// Lets devices see memory of the caller.
    fn cuMemHostRegister_v2(pointer: *mut c_void, bytes: usize, flags: c_uint) {
        let context = usable()?;
        refuse_in_capture()?;
        check_flags(flags, HOST_REGISTER_FLAGS)?;
        if flags & IO_MEMORY != 0 {
            return Err(lacking("CU_MEMHOSTREGISTER_IOMEMORY"));
        }
        // SAFETY: the caller keeps the memory until it is unregistered.
        unsafe { driver()?.heap.register(&context, pointer.cast(), bytes, flags) }?;
    }

    /// Takes memory of the caller out of the devices' sight, after all work of the context.
    fn cuMemHostUnregister(pointer: u64) {
        let context = usable()?;
        refuse_in_capture()?;
        context.synchronize()?;
        driver()?.heap.free_host(pointer, Some(HostKind::Registered))?;
    }

    /// Address at which devices see host memory: its own.
    fn cuMemHostGetDevicePointer_v2(address: *mut u64, pointer: u64, flags: c_uint) {
        usable()?;
        check_flags(flags, 0)?;
        let driver = driver()?;
        let (start, _) = driver.allocation(pointer)?;
        if driver.heap.host_block(start).is_none() {
            return Err(Failure::argument("p", "host memory", "device memory"));
        }
        // SAFETY: the caller's pointer.
        unsafe { put(address, "pdptr", pointer) }?;
    }

    /// Flags that host memory was allocated with.
    fn cuMemHostGetFlags(flags: *mut c_uint, pointer: u64) {
        usable()?;
        let (start, _) = driver()?.allocation(pointer)?;
        let block = driver()?.heap.host_block(start).filter(|it| it.kind == HostKind::Pinned);
        let none = || Failure::argument("p", "memory of cuMemHostAlloc", "other memory");
        // SAFETY: the caller's pointer.
        unsafe { put(flags, "pFlags", block.ok_or_else(none)?.flags) }?;
    }

    /// What an address is.
    fn cuPointerGetAttribute(data: *mut c_void, attribute: c_uint, address: u64) {
        usable()?;
        let driver = driver()?;
        // SAFETY: the caller's pointer.
        unsafe { driver.put_pointer_attribute(data, attribute, address) }?;
    }

    /// Several attributes of an address; of one that nobody allocated, zeros.
    fn cuPointerGetAttributes(
        count: c_uint,
        attributes: *const c_uint,
        data: *const *mut c_void,
        address: u64,
    ) {
        usable()?;
        if attributes.is_null() || data.is_null() {
            return Err(Failure::argument("attributes", "an array", "null"));
        }
        let driver = driver()?;
        for index in 0..count as usize {
            // SAFETY: the caller's arrays have `count` entries.
            unsafe {
                let (attribute, pointer) = (*attributes.add(index), *data.add(index));
                if driver.allocation(address).is_ok() {
                    driver.put_pointer_attribute(pointer, attribute, address)?;
                } else {
                    put_zero(pointer, attribute)?;
                }
            }
        }
    }
}

/// Writes the address that `make` finds room at.
///
/// # Safety
///
/// The pointer is null or valid.
pub(super) unsafe fn give(pointer: *mut u64, make: impl FnOnce() -> Result<u64>) -> Result<()> {
    if pointer.is_null() {
        return Err(Failure::argument("dptr", "an address", "null"));
    }
    let address = make()?;
    // SAFETY: the caller's.
    unsafe { put(pointer, "dptr", address) }
}

fn check_flags(flags: u32, known: u32) -> Result<()> {
    match flags & !known {
        0 => Ok(()),
        _ => Err(Failure::argument("Flags", format!("flags of {known:#x}"), format!("{flags:#x}"))),
    }
}

/// A pointer attribute's length: 8 bytes but for the numbers of 4.
fn is_wide(attribute: u32) -> bool {
    !matches!(attribute, 2 | 6 | 8 | 9 | 10 | 13 | 15 | 16)
}

/// # Safety
///
/// The pointer is null or valid for the attribute.
unsafe fn put_zero(data: *mut c_void, attribute: u32) -> Result<()> {
    // SAFETY: the caller's.
    unsafe {
        match (attribute, is_wide(attribute)) {
            // CU_DEVICE_INVALID.
            (9, _) => put(data.cast(), "data", -2 as c_int),
            (_, true) => put(data.cast(), "data", 0u64),
            (_, false) => put(data.cast(), "data", 0u32),
        }
    }
}

impl Driver {
    /// Start and length of the allocation that an address lies in.
    pub(super) fn allocation(&self, address: u64) -> Result<(u64, u64)> {
        let refuse =
            || Failure::argument("ptr", "an address in an allocation", format!("{address:#x}"));
        self.memory.allocation(address).ok_or_else(refuse)
    }

    /// # Safety
    ///
    /// The pointer is null or valid for the attribute.
    unsafe fn put_pointer_attribute(
        &self,
        data: *mut c_void,
        attribute: u32,
        address: u64,
    ) -> Result<()> {
        let (start, bytes) = self.allocation(address)?;
        let mapped = self.ranges.find(address).map(|(physical, ..)| physical.device);
        let of_heap = || self.heap.device_of(start).or_else(|| self.memory.device_of(address));
        let device = mapped.or_else(of_heap);
        let host = self.heap.host_block(start);
        let is_managed = host.is_some_and(|it| it.kind == HostKind::Managed);
        let of_host = device.is_none() && !is_managed;
        let context = self.heap.context_of(start).unwrap_or(0);
        let owner = match device {
            Some(device) => device,
            None => self.contexts.get(context).map_or(0, |context| context.device),
        };
        let value = match attribute {
            1 => context as u64,
            // CU_MEMORYTYPE_HOST and CU_MEMORYTYPE_DEVICE.
            2 => {
                if of_host {
                    1
                } else {
                    2
                }
            }
            3 => address,
            4 if of_host || is_managed => address,
            4 => return Err(Failure::argument("ptr", "host memory", "device memory")),
            // Synchronous copies always wait; every allocation has a number: its address.
            8 => is_managed.into(),
            6 | 14 | 15 | 17 => 0,
            7 | 11 => start,
            9 => owner as u64,
            10 => u64::from(!of_host),
            12 => bytes,
            13 => 1,
            // CU_POINTER_ATTRIBUTE_ACCESS_FLAG_READWRITE.
            16 => 3,
            _ => return Err(lacking(&format!("pointer attribute {attribute}"))),
        };
        // SAFETY: the caller's.
        unsafe {
            match is_wide(attribute) {
                true => put(data.cast(), "data", value),
                false => put(data.cast(), "data", value as u32),
            }
        }
    }
}
