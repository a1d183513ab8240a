//! Contexts.

use std::ffi::{c_int, c_uint};

use crate::capture::refuse_in_capture;
use crate::context::{
    Context, current, current_handle, lock, pop_current, push_current, set_current, usable,
};
use crate::driver::driver;
use crate::entry::{api, put};
use crate::failure::{Failure, Result};
use crate::handles::Handle;
use crate::status::Status;

/// Flags of a context that have a meaning.
const FLAGS: u32 = 0xff;

fn check_flags(flags: u32) -> Result<()> {
    match flags & !FLAGS {
        0 => Ok(()),
        _ => Err(Failure::argument("flags", "flags of CUctx_flags", format!("{flags:#x}"))),
    }
}

/// Limits that can be set, with their values at the start, by `CUlimit`.
const LIMITS: [(u32, usize); 7] =
    [(0, 1024), (1, 1 << 20), (2, 8 << 20), (3, 2), (4, 2048), (5, 64), (6, 0)];

fn limit_default(limit: u32) -> Result<usize> {
    let found = LIMITS.iter().find(|(number, _)| *number == limit);
    let refuse = || Failure::new(Status::UNSUPPORTED_LIMIT, format!("limit {limit}"));
    found.map(|(_, value)| *value).ok_or_else(refuse)
}

api! {
    /// The device's primary context, with one more user.
    fn cuDevicePrimaryCtxRetain(context: *mut Handle, dev: c_int) {
        let driver = driver()?;
        let device = driver.device(dev)?;
        if context.is_null() {
            return Err(Failure::argument("pctx", "an address", "null"));
        }
        let handle = driver.primary[device].retain(device)?.handle;
        // SAFETY: the caller's pointer.
        unsafe { put(context, "pctx", handle) }?;
    }

    /// One user of the primary context less.
    fn cuDevicePrimaryCtxRelease_v2(dev: c_int) {
        let driver = driver()?;
        driver.primary[driver.device(dev)?].release()?;
    }

    /// Ends the primary context.
    fn cuDevicePrimaryCtxReset_v2(dev: c_int) {
        let driver = driver()?;
        driver.primary[driver.device(dev)?].reset()?;
    }

    /// Flags of the primary context, and whether it exists.
    fn cuDevicePrimaryCtxGetState(dev: c_int, flags: *mut c_uint, active: *mut c_int) {
        let driver = driver()?;
        let (value, exists) = driver.primary[driver.device(dev)?].state();
        // SAFETY: the caller's pointers.
        unsafe { put(flags, "flags", value).and_then(|()| put(active, "active", exists.into())) }?;
    }

    /// Sets flags of the primary context.
    fn cuDevicePrimaryCtxSetFlags_v2(dev: c_int, flags: c_uint) {
        let driver = driver()?;
        let device = driver.device(dev)?;
        check_flags(flags)?;
        driver.primary[device].set_flags(flags);
    }

    /// A new context, current in this thread. Parameters for affinity are not looked at.
    fn cuCtxCreate_v4(context: *mut Handle, _params: usize, flags: c_uint, dev: c_int) {
        // SAFETY: the caller's pointer.
        unsafe { create(context, flags, dev) }?;
    }

    /// As `cuCtxCreate_v4`, without parameters.
    fn cuCtxCreate_v2(context: *mut Handle, flags: c_uint, dev: c_int) {
        // SAFETY: the caller's pointer.
        unsafe { create(context, flags, dev) }?;
    }

    /// Ends a context.
    fn cuCtxDestroy_v2(handle: Handle) {
        let context = driver()?.contexts.get(handle)?;
        if context.is_primary {
            return Err(Failure::new(Status::INVALID_CONTEXT, "primary contexts are released"));
        }
        if current_handle() == handle {
            pop_current();
        }
        context.destroy()?;
    }

    /// Makes a context current; null for none.
    fn cuCtxSetCurrent(handle: Handle) {
        known(handle)?;
        set_current(handle);
    }

    /// This thread's context; null if it has none.
    fn cuCtxGetCurrent(context: *mut Handle) {
        driver()?;
        // SAFETY: the caller's pointer.
        unsafe { put(context, "pctx", current_handle()) }?;
    }

    /// Makes a context current, above the one that is.
    fn cuCtxPushCurrent_v2(handle: Handle) {
        driver()?.contexts.get(handle).map_err(invalid)?;
        push_current(handle);
    }

    /// Goes back to the context below.
    fn cuCtxPopCurrent_v2(context: *mut Handle) {
        driver()?;
        let none = || Failure::new(Status::INVALID_CONTEXT, "this thread has no context");
        let handle = pop_current().ok_or_else(none)?;
        if !context.is_null() {
            // SAFETY: the caller's pointer.
            unsafe { put(context, "pctx", handle) }?;
        }
    }

    /// The context's device.
    fn cuCtxGetDevice(device: *mut c_int) {
        let index = current()?.device as c_int;
        // SAFETY: the caller's pointer.
        unsafe { put(device, "device", index) }?;
    }

    /// The device of any context.
    fn cuCtxGetDevice_v2(device: *mut c_int, handle: Handle) {
        let index = this_or(handle)?.device as c_int;
        // SAFETY: the caller's pointer.
        unsafe { put(device, "device", index) }?;
    }

    /// The context's flags.
    fn cuCtxGetFlags(flags: *mut c_uint) {
        let value = lock(&current()?.options).flags;
        // SAFETY: the caller's pointer.
        unsafe { put(flags, "flags", value) }?;
    }

    /// Sets the context's flags.
    fn cuCtxSetFlags(flags: c_uint) {
        check_flags(flags)?;
        lock(&current()?.options).flags = flags;
    }

    /// A number that no other context has.
    fn cuCtxGetId(handle: Handle, id: *mut u64) {
        let value = this_or(handle)?.handle as u64;
        // SAFETY: the caller's pointer.
        unsafe { put(id, "ctxId", value) }?;
    }

    /// Version of the API that the context is for.
    fn cuCtxGetApiVersion(handle: Handle, version: *mut c_uint) {
        this_or(handle)?;
        // SAFETY: the caller's pointer.
        unsafe { put(version, "version", 3020) }?;
    }

    /// A limit of the context.
    fn cuCtxGetLimit(value: *mut usize, limit: c_uint) {
        let default = limit_default(limit)?;
        let found = lock(&current()?.options).limits.get(&limit).copied();
        // SAFETY: the caller's pointer.
        unsafe { put(value, "pvalue", found.unwrap_or(default)) }?;
    }

    /// Sets a limit. They are kept and change nothing: the virtual GPU grows as needed.
    fn cuCtxSetLimit(limit: c_uint, value: usize) {
        limit_default(limit)?;
        lock(&usable()?.options).limits.insert(limit, value);
    }

    /// Priorities of streams: from 0 to -5, without effect.
    fn cuCtxGetStreamPriorityRange(least: *mut c_int, greatest: *mut c_int) {
        current()?;
        for (pointer, value) in [(least, 0), (greatest, -5)] {
            if !pointer.is_null() {
                // SAFETY: the caller's pointer.
                unsafe { put(pointer, "priority", value) }?;
            }
        }
    }

    /// Preferred split of cache and shared memory: none.
    fn cuCtxGetCacheConfig(config: *mut c_uint) {
        current()?;
        // SAFETY: the caller's pointer.
        unsafe { put(config, "pconfig", 0) }?;
    }

    /// A preference without effect.
    fn cuCtxSetCacheConfig(_config: c_uint) {
        current()?;
    }

    /// Waits for the context's work.
    fn cuCtxSynchronize() {
        let context = current()?;
        refuse_in_capture()?;
        context.synchronize()?;
    }

    /// Waits for any context's work.
    fn cuCtxSynchronize_v2(handle: Handle) {
        let context = this_or(handle)?;
        refuse_in_capture()?;
        context.synchronize()?;
    }
}

/// # Safety
///
/// The pointer is null or valid.
unsafe fn create(context: *mut Handle, flags: u32, dev: c_int) -> Result<()> {
    let device = driver()?.device(dev)?;
    check_flags(flags)?;
    if context.is_null() {
        return Err(Failure::argument("pctx", "an address", "null"));
    }
    let handle = Context::create(device, false, flags)?.handle;
    push_current(handle);
    // SAFETY: the caller's.
    unsafe { put(context, "pctx", handle) }
}

fn invalid(failure: Failure) -> Failure {
    Failure { status: Status::INVALID_CONTEXT, ..failure }
}

/// Checks a context's handle; 0 is none.
fn known(handle: Handle) -> Result<()> {
    let driver = driver()?;
    if handle == 0 { Ok(()) } else { driver.contexts.get(handle).map(drop).map_err(invalid) }
}

/// A context, or this thread's for 0.
fn this_or(handle: Handle) -> Result<std::sync::Arc<Context>> {
    match handle {
        0 => current(),
        _ => driver()?.contexts.get(handle).map_err(invalid),
    }
}
