//! Events that several processes see: two numbers in shared memory.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::Duration;

use vgpu::HostBytes;

use crate::arena::{Origin, Range};
use crate::failure::Result;

/// How often a waiting thread looks.
const INTERVAL: Duration = Duration::from_micros(50);
const BYTES: u64 = 4096;

/// How often an event was recorded, and how many of those records have been passed.
pub struct Remote(Range);

impl Remote {
    /// An event that is past.
    ///
    /// # Errors
    ///
    /// `OUT_OF_MEMORY`.
    pub fn new() -> Result<Self> {
        Range::with_own_file(BYTES).map(Remote)
    }

    /// The event of another process.
    ///
    /// # Errors
    ///
    /// `INVALID_VALUE` if the process or its event is gone.
    pub fn open(origin: &Origin) -> Result<Self> {
        Range::open(&Origin { bytes: BYTES, ..*origin }).map(Remote)
    }

    /// Where another process finds it.
    pub fn origin(&self) -> Origin {
        self.0.origin()
    }

    fn number(&self, index: usize) -> &AtomicU64 {
        let start = self.0.start().cast::<AtomicU64>();
        // SAFETY: the range has room for both numbers, is aligned, and lives as long as `self`; all
        // processes access them atomically.
        unsafe { start.add(index).as_ref() }
    }

    /// Records it; the record's number.
    pub fn record(&self) -> u64 {
        self.number(0).fetch_add(1, Ordering::AcqRel) + 1
    }

    /// A stream has got to a record.
    pub fn pass(&self, number: u64) {
        self.number(1).fetch_max(number, Ordering::AcqRel);
    }

    /// Number of the latest record.
    pub fn latest(&self) -> u64 {
        self.number(0).load(Ordering::Acquire)
    }

    /// The record of a number has been passed.
    pub fn is_past(&self, number: u64) -> bool {
        self.number(1).load(Ordering::Acquire) >= number
    }

    /// Waits until that is so.
    pub fn wait(&self, number: u64) {
        while !self.is_past(number) {
            sleep(INTERVAL);
        }
    }
}
