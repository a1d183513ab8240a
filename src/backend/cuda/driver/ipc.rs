//! Ordinary device memory, opened in another process.

use std::ffi::c_char;
use std::sync::Arc;

use cudarc::driver::sys;

use super::{Context, CudaBuffer, call};
use crate::backend::Buffer;
use crate::error::{Error, Result};

const OP: &str = "ipc";
const HANDLE_BYTES: usize = 64;

/// A name of a [`CudaBuffer`] for other processes of the machine; bytes that can be sent by any way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpcHandle {
    bytes: [u8; HANDLE_BYTES],
    /// The buffer's size in bytes.
    num_bytes: u64,
    /// Where the buffer begins in what the handle opens.
    offset: u64,
}

impl IpcHandle {
    /// Length of [`IpcHandle::to_bytes`].
    pub const NUM_BYTES: usize = HANDLE_BYTES + 16;

    /// The name of a buffer.
    pub(in super::super) fn of(context: &Context, buffer: &CudaBuffer) -> Result<Self> {
        let num_bytes = buffer.num_bytes();
        if num_bytes == 0 {
            return Err(Error::value(OP, "buffer", "at least 1 byte", 0));
        }
        context.bind()?;
        let mut handle = sys::CUipcMemHandle { reserved: [0; HANDLE_BYTES] };
        let mut base = 0;
        // SAFETY: live structures, and memory of this context.
        unsafe {
            let answer = sys::cuIpcGetMemHandle(&mut handle, buffer.address());
            call(OP, "cuIpcGetMemHandle", answer.result())?;
            // The handle is that of the driver's allocation, which may begin in front of the buffer.
            let answer =
                sys::cuMemGetAddressRange_v2(&mut base, std::ptr::null_mut(), buffer.address());
            call(OP, "cuMemGetAddressRange", answer.result())?;
        }
        let bytes = handle.reserved.map(|byte| byte as u8);
        Ok(Self { bytes, num_bytes: num_bytes as u64, offset: buffer.address() - base })
    }

    /// All of it as bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::NUM_BYTES] {
        let mut all = [0; Self::NUM_BYTES];
        all[..HANDLE_BYTES].copy_from_slice(&self.bytes);
        all[HANDLE_BYTES..][..8].copy_from_slice(&self.num_bytes.to_le_bytes());
        all[HANDLE_BYTES + 8..].copy_from_slice(&self.offset.to_le_bytes());
        all
    }

    /// The reverse of [`IpcHandle::to_bytes`]; opening tells whether it names anything.
    #[must_use]
    pub fn from_bytes(all: &[u8; Self::NUM_BYTES]) -> Self {
        let number = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&all[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        let mut bytes = [0; HANDLE_BYTES];
        bytes.copy_from_slice(&all[..HANDLE_BYTES]);
        Self { bytes, num_bytes: number(HANDLE_BYTES), offset: number(HANDLE_BYTES + 8) }
    }
}

/// Device memory of another process.
#[derive(Debug)]
pub struct IpcBuffer {
    context: Arc<Context>,
    /// Where the driver's allocation begins.
    base: sys::CUdeviceptr,
    offset: u64,
    num_bytes: usize,
}

impl IpcBuffer {
    /// Opens another process's memory.
    ///
    /// # Safety
    ///
    /// The other process keeps the buffer for longer than this one uses the result.
    pub(in super::super) unsafe fn open(
        context: &Arc<Context>,
        handle: &IpcHandle,
    ) -> Result<Self> {
        context.bind()?;
        let handle_of_driver =
            sys::CUipcMemHandle { reserved: handle.bytes.map(|byte| byte as c_char) };
        let lazy = sys::CUipcMem_flags_enum::CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS as u32;
        let mut base = 0;
        // SAFETY: a live pointer; a handle of nothing is refused.
        let answer = unsafe { sys::cuIpcOpenMemHandle_v2(&mut base, handle_of_driver, lazy) };
        call(OP, "cuIpcOpenMemHandle", answer.result())?;
        let num_bytes = usize::try_from(handle.num_bytes).unwrap_or(usize::MAX);
        // From here on, its drop closes the memory.
        let buffer = Self { context: Arc::clone(context), base, offset: handle.offset, num_bytes };
        let mut size = 0;
        // SAFETY: a live pointer, and memory that was opened just now.
        let answer = unsafe { sys::cuMemGetAddressRange_v2(std::ptr::null_mut(), &mut size, base) };
        call(OP, "cuMemGetAddressRange", answer.result())?;
        let end = handle.offset.checked_add(handle.num_bytes);
        if end.is_none_or(|end| end > size as u64) {
            let got = format!("{} bytes at {}", handle.num_bytes, handle.offset);
            return Err(Error::value(OP, "handle", format!("inside of {size} bytes"), got));
        }
        Ok(buffer)
    }
}

impl Buffer for IpcBuffer {
    fn num_bytes(&self) -> usize {
        self.num_bytes
    }

    fn as_ptr(&self) -> *const u8 {
        (self.base + self.offset) as *const u8
    }

    fn as_mut_ptr(&mut self) -> *mut u8 {
        (self.base + self.offset) as *mut u8
    }
}

impl Drop for IpcBuffer {
    fn drop(&mut self) {
        if self.context.synchronize(OP).is_ok() {
            // SAFETY: opened by `open`, and idle. A failure has nobody to go to.
            let _ = unsafe { sys::cuIpcCloseMemHandle(self.base) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_survives_as_bytes() {
        let handle = IpcHandle {
            bytes: std::array::from_fn(|at| at as u8),
            num_bytes: 1 << 40,
            offset: 256,
        };
        assert_eq!(IpcHandle::from_bytes(&handle.to_bytes()), handle);
    }
}
