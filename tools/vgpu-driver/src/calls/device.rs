//! Initialisation, version, devices.

use std::ffi::{c_char, c_int, c_uint};

use crate::attributes::device_attribute;
use crate::driver::{driver, initialise};
use crate::entry::{api, put, put_text, text};
use crate::failure::Failure;
use crate::settings::settings;
use crate::status::Status;

/// CUDA 13.0.
const VERSION: c_int = 13_000;

api! {
    /// Sets the driver up.
    fn cuInit(flags: c_uint) {
        if flags != 0 {
            return Err(Failure::argument("Flags", 0, flags));
        }
        if settings().num_devices == 0 {
            return Err(Failure::new(Status::NO_DEVICE, "VGPU_DEVICES is 0"));
        }
        initialise();
    }

    /// Version of CUDA that the calls are of.
    fn cuDriverGetVersion(version: *mut c_int) {
        // SAFETY: the caller's pointer.
        unsafe { put(version, "driverVersion", VERSION) }?;
    }

    /// Number of devices.
    fn cuDeviceGetCount(count: *mut c_int) {
        let num = driver()?.primary.len() as c_int;
        // SAFETY: the caller's pointer.
        unsafe { put(count, "count", num) }?;
    }

    /// A device by its number.
    fn cuDeviceGet(device: *mut c_int, ordinal: c_int) {
        let index = driver()?.device(ordinal)? as c_int;
        // SAFETY: the caller's pointer.
        unsafe { put(device, "device", index) }?;
    }

    /// Name of a device.
    fn cuDeviceGetName(name: *mut c_char, len: c_int, dev: c_int) {
        driver()?.device(dev)?;
        let length = usize::try_from(len).unwrap_or(0);
        // SAFETY: the caller's buffer.
        unsafe { put_text(name, length, &settings().name, "name") }?;
    }

    /// Identity of a device: the same in all processes.
    fn cuDeviceGetUuid_v2(uuid: *mut [u8; 16], dev: c_int) {
        let mut id = *b"virtual GPU     ";
        id[15] = driver()?.device(dev)? as u8;
        // SAFETY: the caller's pointer.
        unsafe { put(uuid, "uuid", id) }?;
    }

    /// As `cuDeviceGetUuid_v2`.
    fn cuDeviceGetUuid(uuid: *mut [u8; 16], dev: c_int) {
        // SAFETY: the caller's pointer.
        return passed(unsafe { cuDeviceGetUuid_v2(uuid, dev) });
    }

    /// Memory of a device.
    fn cuDeviceTotalMem_v2(bytes: *mut usize, dev: c_int) {
        driver()?.device(dev)?;
        // SAFETY: the caller's pointer.
        unsafe { put(bytes, "bytes", settings().memory_bytes as usize) }?;
    }

    /// An attribute of a device.
    fn cuDeviceGetAttribute(value: *mut c_int, attribute: c_uint, dev: c_int) {
        let device = driver()?.device(dev)?;
        let found = device_attribute(device, attribute)
            .ok_or_else(|| Failure::argument("attrib", "a CUdevice_attribute", attribute))?;
        // SAFETY: the caller's pointer.
        unsafe { put(value, "pi", found) }?;
    }

    /// Compute capability.
    fn cuDeviceComputeCapability(major: *mut c_int, minor: *mut c_int, dev: c_int) {
        driver()?.device(dev)?;
        // SAFETY: the caller's pointers.
        unsafe { put(major, "major", 9).and_then(|()| put(minor, "minor", 0)) }?;
    }

    /// Address on a bus that does not exist.
    fn cuDeviceGetPCIBusId(id: *mut c_char, len: c_int, dev: c_int) {
        let device = driver()?.device(dev)?;
        let length = usize::try_from(len).unwrap_or(0);
        // SAFETY: the caller's buffer.
        unsafe { put_text(id, length, &bus_id(device), "pciBusId") }?;
    }

    /// The device at an address of `cuDeviceGetPCIBusId`.
    fn cuDeviceGetByPCIBusId(dev: *mut c_int, id: *const c_char) {
        // SAFETY: the caller's string.
        let id = unsafe { text(id, "pciBusId") }?;
        let num = driver()?.primary.len();
        let found = (0..num).find(|device| bus_id(*device).eq_ignore_ascii_case(id));
        let found = found
            .ok_or_else(|| Failure::new(Status::INVALID_DEVICE, format!("no device at {id}")))?;
        // SAFETY: the caller's pointer.
        unsafe { put(dev, "dev", found as c_int) }?;
    }
}

fn bus_id(device: usize) -> String {
    format!("0000:{:02X}:00.0", device + 1)
}

/// The result of another call.
pub(super) fn passed(status: Status) -> crate::failure::Result<()> {
    if status == Status::SUCCESS { Ok(()) } else { Err(status.into()) }
}
