//! An allocation: addresses, and the host's bytes behind them.

use std::alloc::{Layout, dealloc};
use std::ptr::NonNull;
use std::sync::Arc;

use crate::check::Initial;

/// Bytes of the host that somebody lends for an allocation.
///
/// # Safety
///
/// `start` is valid for `bytes` bytes, aligned to 256, until the value is dropped, and others access
/// the bytes only atomically or when no kernel does.
pub unsafe trait HostBytes: Send + Sync {
    /// The first byte.
    fn start(&self) -> NonNull<u8>;
    /// How many.
    fn bytes(&self) -> u64;
}

/// Bytes of the host that stand behind an allocation.
pub(super) enum Backing {
    Owned {
        start: NonNull<u8>,
        layout: Layout,
    },
    /// Memory of somebody else, who keeps it alive as long as it is mapped.
    Foreign {
        start: NonNull<u8>,
    },
    Lent(Box<dyn HostBytes>),
}

// SAFETY: the bytes are reached through raw pointers with atomic accesses only.
unsafe impl Send for Backing {}
// SAFETY: as above.
unsafe impl Sync for Backing {}

impl Backing {
    fn start(&self) -> *mut u8 {
        match self {
            Backing::Owned { start, .. } | Backing::Foreign { start } => start.as_ptr(),
            Backing::Lent(host) => host.start().as_ptr(),
        }
    }
}

impl Drop for Backing {
    fn drop(&mut self) {
        if let Backing::Owned { start, layout } = self {
            // SAFETY: allocated with this layout in `Memory::alloc`, and freed once.
            unsafe { dealloc(start.as_ptr(), *layout) }
        }
    }
}

/// An allocation: addresses and the host bytes behind them.
#[derive(Clone)]
pub(crate) struct Region {
    pub start: u64,
    pub end: u64,
    backing: Arc<Backing>,
    /// Which bytes have been written; `None` if nobody keeps count.
    initial: Option<Arc<Initial>>,
}

impl Region {
    pub(super) fn new(start: u64, end: u64, backing: Backing, initial: Option<Initial>) -> Self {
        Region { start, end, backing: Arc::new(backing), initial: initial.map(Arc::new) }
    }

    /// Which bytes have been written, from the region's start on; `None` for all.
    pub(crate) fn initial(&self) -> Option<&Initial> {
        self.initial.as_deref()
    }

    /// Host address of `address`, which must lie in the region.
    pub(crate) fn host(&self, address: u64) -> *mut u8 {
        self.backing.start().wrapping_add((address - self.start) as usize)
    }

    /// All of `address .. address + bytes` lies in the region.
    pub(crate) fn contains(&self, address: u64, bytes: u64) -> bool {
        address >= self.start && address < self.end && bytes <= self.end - address
    }
}

/// Bytes of one allocation, which lives at least as long as this.
pub struct Span {
    pub(super) region: Region,
    pub(super) address: u64,
}

impl Span {
    /// Where the bytes are in the host's memory. Kernels may access them at the same time.
    #[must_use]
    pub fn as_mut_ptr(&self) -> *mut u8 {
        self.region.host(self.address)
    }
}
