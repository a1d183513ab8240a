//! Memory that several devices and processes use.

use super::Cuda;
use super::driver::{
    CudaBuffer, HandleKind, IpcBuffer, IpcHandle, MemoryHandle, SharedBuffer, handle_kinds,
};
use crate::error::Result;

/// Memory for other devices and processes.
impl Cuda {
    /// The kinds of handles that the device exports memory by.
    ///
    /// # Errors
    ///
    /// Those of the driver.
    pub fn handle_kinds(&self) -> Result<Vec<HandleKind>> {
        handle_kinds(self.context())
    }

    /// Allocates `num_bytes` zeroed bytes that other processes can map.
    ///
    /// # Errors
    ///
    /// - [`Error::Value`](crate::Error::Value) for 0 bytes.
    /// - [`Error::Unavailable`](crate::Error::Unavailable) if the device does not export `kind`, or this
    ///   process may not: fabric handles need an IMEX channel, which no attribute tells of.
    /// - [`Error::OutOfMemory`](crate::Error::OutOfMemory) when there is no room.
    /// - [`Error::Driver`](crate::Error::Driver) for what the driver refuses.
    pub fn alloc_shared(&self, num_bytes: usize, kind: HandleKind) -> Result<SharedBuffer> {
        SharedBuffer::zeroed(self.context(), num_bytes, kind)
    }

    /// Maps memory that was exported, of `num_bytes` bytes as it was allocated. It lives until all
    /// processes have dropped it.
    ///
    /// # Errors
    ///
    /// - [`Error::Value`](crate::Error::Value) for 0 bytes.
    /// - [`Error::Driver`](crate::Error::Driver) if the handle names nothing or the size is wrong.
    pub fn import_shared(&self, handle: &MemoryHandle, num_bytes: usize) -> Result<SharedBuffer> {
        SharedBuffer::import(self.context(), handle, num_bytes)
    }

    /// Lets this device use memory that another one allocated or imported.
    ///
    /// # Errors
    ///
    /// Those of the driver.
    pub fn allow_access(&self, buffer: &SharedBuffer) -> Result<()> {
        buffer.allow(self.context())
    }

    /// A name of a buffer of this device for other processes.
    ///
    /// # Errors
    ///
    /// - [`Error::Value`](crate::Error::Value) for a buffer without bytes.
    /// - [`Error::Driver`](crate::Error::Driver) for what the driver refuses.
    pub fn ipc_handle(&self, buffer: &CudaBuffer) -> Result<IpcHandle> {
        IpcHandle::of(self.context(), buffer)
    }

    /// Opens a buffer of another process.
    ///
    /// # Errors
    ///
    /// [`Error::Driver`](crate::Error::Driver) if the handle names nothing, or memory of this process.
    ///
    /// # Safety
    ///
    /// The other process keeps the buffer for longer than this one uses the result.
    pub unsafe fn open_ipc(&self, handle: &IpcHandle) -> Result<IpcBuffer> {
        // SAFETY: the caller's.
        unsafe { IpcBuffer::open(self.context(), handle) }
    }

    /// Whether this device can use the memory of `other`'s device.
    ///
    /// # Errors
    ///
    /// Those of the driver.
    pub fn can_access_peer(&self, other: &Cuda) -> Result<bool> {
        self.context().can_access(other.context())
    }

    /// Lets this device use the ordinary memory of `other`'s device from now on.
    ///
    /// # Errors
    ///
    /// [`Error::Driver`](crate::Error::Driver) if it cannot.
    pub fn enable_peer_access(&self, other: &Cuda) -> Result<()> {
        self.context().enable_access(other.context())
    }
}
