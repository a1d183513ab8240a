//! Access to other devices' memory: there always is, but it must be asked for as on hardware.

use std::ffi::{c_int, c_uint};

use crate::context::{lock, usable};
use crate::driver::driver;
use crate::entry::{api, put};
use crate::failure::Failure;
use crate::handles::Handle;
use crate::status::Status;

api! {
    /// Whether a device can use another's memory.
    fn cuDeviceCanAccessPeer(can: *mut c_int, dev: c_int, peer: c_int) {
        let driver = driver()?;
        let (device, peer) = (driver.device(dev)?, driver.device(peer)?);
        // SAFETY: the caller's pointer.
        unsafe { put(can, "canAccessPeer", (device != peer).into()) }?;
    }

    /// How well: rank 0, with access and atomics, without arrays.
    fn cuDeviceGetP2PAttribute(value: *mut c_int, attribute: c_uint, src: c_int, dst: c_int) {
        let driver = driver()?;
        let (src, dst) = (driver.device(src)?, driver.device(dst)?);
        if src == dst {
            return Err(Failure::new(Status::INVALID_DEVICE, "the devices are one"));
        }
        let found = match attribute {
            1 | 4 => 0,
            2 | 3 => 1,
            _ => return Err(Failure::argument("attrib", "a CUdevice_P2PAttribute", attribute)),
        };
        // SAFETY: the caller's pointer.
        unsafe { put(value, "value", found) }?;
    }

    /// Lets this context use another's memory.
    fn cuCtxEnablePeerAccess(peer: Handle, flags: c_uint) {
        let context = usable()?;
        if flags != 0 {
            return Err(Failure::argument("Flags", 0, flags));
        }
        let other = driver()?.contexts.get(peer).map_err(|failure| Failure {
            status: Status::INVALID_CONTEXT,
            ..failure
        })?;
        if other.device == context.device {
            let reason = "both contexts are of one device";
            return Err(Failure::new(Status::INVALID_DEVICE, reason));
        }
        if !lock(&context.options).peers.insert(peer) {
            return Err(Status::PEER_ACCESS_ALREADY_ENABLED.into());
        }
    }

    /// Ends the use of another context's memory.
    fn cuCtxDisablePeerAccess(peer: Handle) {
        if !lock(&usable()?.options).peers.remove(&peer) {
            return Err(Status::PEER_ACCESS_NOT_ENABLED.into());
        }
    }
}
