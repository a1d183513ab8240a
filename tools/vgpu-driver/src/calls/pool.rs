//! Memory pools: one for each device, which is all of its memory.

use std::ffi::{c_int, c_uint, c_void};

use crate::driver::driver;
use crate::entry::{api, lacking, put};
use crate::failure::{Failure, Result};
use crate::handles::Handle;
use crate::settings::settings;

/// Handle of device 0's pool; the others follow.
const FIRST_POOL: Handle = 0x100;

api! {
    /// The pool of a device.
    fn cuDeviceGetDefaultMemPool(pool: *mut Handle, dev: c_int) {
        let device = driver()?.device(dev)?;
        // SAFETY: the caller's pointer.
        unsafe { put(pool, "pool_out", FIRST_POOL + device) }?;
    }

    /// The pool that a device's stream-ordered allocations come from.
    fn cuDeviceGetMemPool(pool: *mut Handle, dev: c_int) {
        let device = driver()?.device(dev)?;
        // SAFETY: the caller's pointer.
        unsafe { put(pool, "pool", FIRST_POOL + device) }?;
    }

    /// An attribute of a pool.
    fn cuMemPoolGetAttribute(pool: Handle, attribute: c_uint, value: *mut c_void) {
        let device = device_of(pool)?;
        let used = driver()?.heap.used(device);
        // SAFETY: the caller's pointer: a number of 4 bytes for reuse, of 8 for bytes.
        unsafe {
            match attribute {
                1..=3 => put(value.cast(), "value", 1u32),
                4 => put(value.cast(), "value", settings().memory_bytes),
                5..=8 => put(value.cast(), "value", used),
                _ => Err(Failure::argument("attr", "a CUmemPool_attribute", attribute)),
            }
        }?;
    }

    /// Sets an attribute: how much is kept and reused has no effect here.
    fn cuMemPoolSetAttribute(pool: Handle, attribute: c_uint, _value: *mut c_void) {
        device_of(pool)?;
        if !(1..=8).contains(&attribute) {
            return Err(Failure::argument("attr", "a CUmemPool_attribute", attribute));
        }
    }

    /// Nothing is kept that could be given back.
    fn cuMemPoolTrimTo(pool: Handle, _bytes: usize) {
        device_of(pool)?;
    }

    /// Stream-ordered allocation from a pool.
    fn cuMemAllocFromPoolAsync(address: *mut u64, bytes: usize, pool: Handle, stream: Handle) {
        let device = device_of(pool)?;
        if device != crate::context::usable()?.device {
            return Err(lacking("allocation from another device's pool"));
        }
        // SAFETY: the caller's pointer.
        return super::device::passed(unsafe { super::cuMemAllocAsync(address, bytes, stream) });
    }
}

fn device_of(pool: Handle) -> Result<usize> {
    let device = pool.wrapping_sub(FIRST_POOL);
    match device < driver()?.primary.len() {
        true => Ok(device),
        false => Err(Failure::argument("pool", "a device's own pool", format!("{pool:#x}"))),
    }
}
