//! The memory of several devices behind one address, for `multimem` instructions.

use std::ptr::NonNull;
use std::sync::PoisonError;

use super::{Memory, MemoryError, Table};

/// The same bytes in the memory of several devices, behind one address.
///
/// # Safety
///
/// Each pointer that [`Replicas::copies`] returns is valid for the bytes asked for, aligned to 256 where
/// the offset is, until the value is dropped; others access the bytes only atomically or when no kernel
/// does.
pub unsafe trait Replicas: Send + Sync {
    /// How many bytes of addresses.
    fn bytes(&self) -> u64;
    /// Where the devices have `bytes` bytes from `offset` on; `None` unless all of them have.
    fn copies(&self, offset: u64, bytes: u64) -> Option<Vec<NonNull<u8>>>;
}

impl Memory {
    /// Gives reserved addresses the memory of several devices, for `multimem` instructions alone, until
    /// [`Memory::unmap_replicas`].
    ///
    /// # Errors
    ///
    /// [`MemoryError::OutOfBounds`] unless all are reserved and without memory.
    pub fn map_replicas(
        &self,
        address: u64,
        replicas: Box<dyn Replicas>,
    ) -> Result<(), MemoryError> {
        let bytes = replicas.bytes();
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        if !table.is_free(address, bytes) {
            return Err(MemoryError::OutOfBounds { address, bytes, hint: String::new() });
        }
        table.replicas.insert(address, replicas);
        Ok(())
    }

    /// Takes the memory of several devices away. Kernels that still use it must have ended.
    ///
    /// # Errors
    ///
    /// [`MemoryError::NotAllocated`] unless some was mapped at `address`.
    pub fn unmap_replicas(&self, address: u64) -> Result<(), MemoryError> {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        table.replicas.remove(&address).map(drop).ok_or(MemoryError::NotAllocated { address })
    }

    /// Where the devices have the bytes of a `multimem` address.
    pub(crate) fn copies(&self, address: u64, bytes: u64) -> Option<Vec<*mut u8>> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let (start, replicas) = table.replicas.range(..=address).next_back()?;
        let copies = replicas.copies(address - start, bytes)?;
        Some(copies.into_iter().map(NonNull::as_ptr).collect())
    }
}

impl Table {
    /// Where the addresses of several devices' memory begin that an address is one of.
    pub(super) fn replicas_at(&self, address: u64) -> Option<u64> {
        let (start, replicas) = self.replicas.range(..=address).next_back()?;
        (address - start < replicas.bytes()).then_some(*start)
    }
}
