//! Memory of other processes.

use std::ffi::c_uint;

use crate::abi::IpcMemHandle;
use crate::arena::Origin;
use crate::capture::refuse_in_capture;
use crate::context::usable;
use crate::driver::driver;
use crate::entry::{api, get, put};
use crate::event::Event;
use crate::failure::{Failure, Result};
use crate::handles::Handle;
use crate::remote::Remote;
use crate::status::Status;

/// First bytes of a handle.
const MAGIC: [u8; 8] = *b"vgpu ipc";
const EVENT_MAGIC: [u8; 8] = *b"vgpu evt";
/// `CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS`.
const LAZY_PEER_ACCESS: u32 = 1;

api! {
    /// A handle of the allocation that an address lies in, for other processes.
    fn cuIpcGetMemHandle(handle: *mut IpcMemHandle, address: u64) {
        usable()?;
        refuse_in_capture()?;
        let driver = driver()?;
        let (start, bytes) = driver.allocation(address)?;
        let none = || Failure::argument("dptr", "memory of cuMemAlloc", format!("{address:#x}"));
        let origin = driver.heap.origin(start).ok_or_else(none)?;
        // Nobody sees from here what other processes write.
        driver.memory.initialise(start, bytes)?;
        // SAFETY: the caller's pointer.
        unsafe { put(handle, "pHandle", encode(&origin)) }?;
    }

    /// Memory that another process has a handle of, at its first byte. Opened again, it is the same.
    fn cuIpcOpenMemHandle_v2(address: *mut u64, handle: IpcMemHandle, flags: c_uint) {
        let context = usable()?;
        refuse_in_capture()?;
        if address.is_null() {
            return Err(Failure::argument("pdptr", "an address", "null"));
        }
        if flags != LAZY_PEER_ACCESS {
            let expected = "CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS";
            return Err(Failure::argument("Flags", expected, flags));
        }
        let origin = decode(&handle)?;
        if origin.process == std::process::id() {
            let reason = "the handle is of this process";
            return Err(Failure::new(Status::INVALID_CONTEXT, reason));
        }
        let opened = driver()?.heap.open(&context, origin)?;
        // SAFETY: the caller's pointer.
        unsafe { put(address, "pdptr", opened) }?;
    }

    /// A handle of an event that was made for several processes.
    fn cuIpcGetEventHandle(handle: *mut IpcMemHandle, event: Handle) {
        usable()?;
        let event = driver()?.events.get(event)?;
        let none = || Failure::argument("event", "one with CU_EVENT_INTERPROCESS", "another");
        let origin = event.remote.as_ref().ok_or_else(none)?.origin();
        // SAFETY: the caller's pointer.
        unsafe { put(handle, "pHandle", encode_as(EVENT_MAGIC, &origin)) }?;
    }

    /// An event of another process.
    fn cuIpcOpenEventHandle(event: *mut Handle, handle: IpcMemHandle) {
        let context = usable()?;
        if event.is_null() {
            return Err(Failure::argument("phEvent", "an address", "null"));
        }
        let remote = Remote::open(&decode_as(EVENT_MAGIC, &handle)?)?;
        let new = Event::of_processes(context.handle, context.shared.clone(), remote);
        // SAFETY: the caller's pointer.
        unsafe { put(event, "phEvent", driver()?.events.add(new)) }?;
    }

    /// Closes memory of another process, after the context's work.
    fn cuIpcCloseMemHandle(address: u64) {
        let context = usable()?;
        refuse_in_capture()?;
        context.synchronize()?;
        driver()?.heap.close(address)?;
    }
}

pub(super) fn encode(origin: &Origin) -> IpcMemHandle {
    encode_as(MAGIC, origin)
}

fn encode_as(magic: [u8; 8], origin: &Origin) -> IpcMemHandle {
    let mut handle = [0; 64];
    handle[..8].copy_from_slice(&magic);
    handle[8..12].copy_from_slice(&origin.process.to_le_bytes());
    handle[12..16].copy_from_slice(&origin.file.to_le_bytes());
    handle[16..24].copy_from_slice(&origin.offset.to_le_bytes());
    handle[24..32].copy_from_slice(&origin.bytes.to_le_bytes());
    IpcMemHandle { reserved: handle }
}

/// Where the bytes are.
pub(super) fn decode(handle: &IpcMemHandle) -> Result<Origin> {
    decode_as(MAGIC, handle)
}

fn decode_as(magic: [u8; 8], handle: &IpcMemHandle) -> Result<Origin> {
    if handle.reserved[..8] != magic {
        return Err(Failure::argument("handle", "one that the driver made", "other bytes"));
    }
    // SAFETY: the fields lie inside of the handle; all bits are numbers.
    unsafe {
        let start = handle.reserved.as_ptr();
        Ok(Origin {
            process: get(start.add(8).cast(), "handle")?,
            file: get(start.add(12).cast(), "handle")?,
            offset: get(start.add(16).cast(), "handle")?,
            bytes: get(start.add(24).cast(), "handle")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_says_where_the_bytes_are() {
        let origin = Origin { process: 7, file: 8, offset: 1 << 40, bytes: 9 };
        assert_eq!(decode(&encode(&origin)).unwrap(), origin);
        assert_eq!(
            decode(&IpcMemHandle { reserved: [0; 64] }).unwrap_err().status,
            Status::INVALID_VALUE
        );
    }
}
