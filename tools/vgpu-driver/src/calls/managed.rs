//! Managed memory: the host and all devices see it at one address.

use std::ffi::{c_int, c_uint};

use crate::abi::MemLocation;
use crate::capture::refuse_in_capture;
use crate::context::{stream_of, usable};
use crate::driver::driver;
use crate::entry::api;
use crate::failure::{Failure, Result};
use crate::handles::Handle;
use crate::heap::HostKind;
use crate::operation::Operation;

/// `CU_MEM_ATTACH_GLOBAL` and `CU_MEM_ATTACH_HOST`.
const ATTACH: [u32; 2] = [1, 2];
/// `CU_DEVICE_CPU`.
const CPU: c_int = -1;
/// Values of `CUmem_advise`.
const ADVICE: std::ops::RangeInclusive<u32> = 1..=6;

api! {
    /// Managed memory. Who it is attached to makes no difference.
    fn cuMemAllocManaged(address: *mut u64, bytes: usize, flags: c_uint) {
        let context = usable()?;
        refuse_in_capture()?;
        if !ATTACH.contains(&flags) {
            return Err(Failure::argument("flags", "CU_MEM_ATTACH_GLOBAL or _HOST", flags));
        }
        // SAFETY: the caller's pointer.
        unsafe {
            super::memory::give(address, || {
                driver()?.heap.alloc_host(&context, bytes, HostKind::Managed, flags)
            })
        }?;
    }

    /// Managed memory is everywhere already.
    fn cuMemPrefetchAsync(address: u64, bytes: usize, dev: c_int, stream: Handle) {
        prefetch(address, bytes, dev, stream)?;
    }

    /// Managed memory is everywhere already.
    fn cuMemPrefetchAsync_v2(
        address: u64,
        bytes: usize,
        location: MemLocation,
        flags: c_uint,
        stream: Handle,
    ) {
        if flags != 0 {
            return Err(Failure::argument("flags", 0, flags));
        }
        prefetch(address, bytes, device_of(location), stream)?;
    }

    /// Advice makes no difference.
    fn cuMemAdvise(address: u64, bytes: usize, advice: c_uint, dev: c_int) {
        advise(address, bytes, advice, dev)?;
    }

    /// Advice makes no difference.
    fn cuMemAdvise_v2(address: u64, bytes: usize, advice: c_uint, location: MemLocation) {
        advise(address, bytes, advice, device_of(location))?;
    }

    /// Attaching memory to a stream makes no difference.
    fn cuStreamAttachMemAsync(stream: Handle, address: u64, bytes: usize, flags: c_uint) {
        usable()?;
        // CU_MEM_ATTACH_SINGLE is the third.
        if !ATTACH.contains(&flags) && flags != 4 {
            return Err(Failure::argument("flags", "CUmemAttach_flags", flags));
        }
        check(address, bytes.max(1))?;
        stream_of(stream)?.enqueue(Operation::Nothing)?;
    }
}

/// `CU_MEM_LOCATION_TYPE_DEVICE`; the others are on the host.
fn device_of(location: MemLocation) -> c_int {
    if location.kind == 1 { location.id } else { CPU }
}

/// The range lies in managed memory.
fn check(address: u64, bytes: usize) -> Result<()> {
    let driver = driver()?;
    let (start, length) = driver.allocation(address)?;
    let is_managed = driver.heap.host_block(start).is_some_and(|it| it.kind == HostKind::Managed);
    match is_managed && bytes > 0 && bytes as u64 <= length - (address - start) {
        true => Ok(()),
        false => {
            let got = format!("{bytes} bytes at {address:#x}");
            Err(Failure::argument("devPtr", "a range of managed memory", got))
        }
    }
}

fn prefetch(address: u64, bytes: usize, dev: c_int, stream: Handle) -> Result<()> {
    usable()?;
    check(address, bytes)?;
    if dev != CPU {
        driver()?.device(dev)?;
    }
    stream_of(stream)?.enqueue(Operation::Nothing)
}

fn advise(address: u64, bytes: usize, advice: u32, dev: c_int) -> Result<()> {
    usable()?;
    check(address, bytes)?;
    if !ADVICE.contains(&advice) {
        return Err(Failure::argument("advice", "a CUmem_advise", advice));
    }
    if dev != CPU {
        driver()?.device(dev)?;
    }
    Ok(())
}
