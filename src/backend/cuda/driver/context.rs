//! Contexts: a device as one user of it sees it.

use std::ffi::c_int;
use std::sync::Arc;

use cudarc::driver::sys::CUresult;
use cudarc::driver::{result, sys};

use super::{call, is, open_library};
use crate::error::{Error, Result};

const OP: &str = "cuda context";

/// The device's primary context, or a foreign one.
#[derive(Debug)]
pub struct Context {
    handle: sys::CUcontext,
    device: sys::CUdevice,
    /// Whether a reference to the primary context is given back at the end.
    is_retained: bool,
}

// SAFETY: a context may be used from any thread; the driver locks it.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

/// Devices that the driver offers.
pub fn num_devices() -> Result<usize> {
    open_library()?;
    let num_devices = call(OP, "cuDeviceGetCount", result::device::get_count())?;
    Ok(usize::try_from(num_devices).unwrap_or(0))
}

impl Context {
    /// The primary context of device `ordinal`.
    pub fn primary(ordinal: usize) -> Result<Arc<Self>> {
        let num_devices = num_devices()?;
        if ordinal >= num_devices {
            let expected = format!("less than {num_devices} (devices)");
            return Err(Error::value(OP, "ordinal", expected, ordinal));
        }
        let ordinal = c_int::try_from(ordinal).unwrap_or(c_int::MAX);
        let device = call(OP, "cuDeviceGet", result::device::get(ordinal))?;
        // SAFETY: the device was given by the driver.
        let answer = unsafe { result::primary_ctx::retain(device) };
        let handle = call(OP, "cuDevicePrimaryCtxRetain", answer)?;
        let context = Arc::new(Self { handle, device, is_retained: true });
        context.bind()?;
        Ok(context)
    }

    /// A context that others own.
    ///
    /// # Safety
    ///
    /// The context outlives the result.
    pub unsafe fn foreign(handle: sys::CUcontext) -> Result<Arc<Self>> {
        open_library()?;
        let mut device = 0;
        // SAFETY: the caller says that the context is live.
        call(OP, "cuCtxSetCurrent", unsafe { result::ctx::set_current(handle) })?;
        // SAFETY: the pointer is that of a live integer, and a context is current.
        let answer = unsafe { sys::cuCtxGetDevice(&mut device) }.result();
        call(OP, "cuCtxGetDevice", answer)?;
        Ok(Arc::new(Self { handle, device, is_retained: false }))
    }

    /// Makes this context the calling thread's, as most calls demand; it stays so.
    pub fn bind(&self) -> Result<()> {
        let current = call(OP, "cuCtxGetCurrent", result::ctx::get_current())?;
        if current == Some(self.handle) {
            return Ok(());
        }
        // SAFETY: the context lives as long as `self`.
        call(OP, "cuCtxSetCurrent", unsafe { result::ctx::set_current(self.handle) })
    }

    /// Waits for all that was enqueued.
    pub fn synchronize(&self, op: &'static str) -> Result<()> {
        self.bind()?;
        call(op, "cuCtxSynchronize", result::ctx::synchronize())
    }

    pub fn device(&self) -> sys::CUdevice {
        self.device
    }

    /// Whether this context's device can use the memory of the other's.
    pub fn can_access(&self, other: &Self) -> Result<bool> {
        let mut can = 0;
        // SAFETY: a live integer, and devices that the driver gave.
        let answer = unsafe { sys::cuDeviceCanAccessPeer(&mut can, self.device, other.device) };
        call(OP, "cuDeviceCanAccessPeer", answer.result())?;
        Ok(can != 0)
    }

    /// Lets this context use the other's memory; a second time is no error.
    pub fn enable_access(&self, other: &Self) -> Result<()> {
        self.bind()?;
        // SAFETY: both contexts are live.
        let answer = unsafe { sys::cuCtxEnablePeerAccess(other.handle, 0) }.result();
        match answer {
            Err(error) if is(&error, CUresult::CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED) => Ok(()),
            answer => call(OP, "cuCtxEnablePeerAccess", answer),
        }
    }

    pub fn attribute(&self, attribute: sys::CUdevice_attribute) -> Result<usize> {
        // SAFETY: the device was given by the driver.
        let answer = unsafe { result::device::get_attribute(self.device, attribute) };
        let value = call(OP, "cuDeviceGetAttribute", answer)?;
        Ok(usize::try_from(value).unwrap_or(0))
    }

    /// Streaming multiprocessors of the device.
    pub fn num_sms(&self) -> Result<usize> {
        self.attribute(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)
    }

    pub fn device_name(&self) -> Result<String> {
        call(OP, "cuDeviceGetName", result::device::get_name(self.device))
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        if self.is_retained {
            // SAFETY: retained once, when this was made. A failure has nobody to go to.
            let _ = unsafe { result::primary_ctx::release(self.device) };
        }
    }
}
