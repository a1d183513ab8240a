//! The backend's stream: a queue of the device with a record of the faults that its stages met.

use std::sync::atomic::{AtomicU32, Ordering};

use super::abi::FaultSink;
use super::driver::{CudaEvent, Stream};
use super::faults::Faults;
use crate::error::Result;

/// An ordered queue of stages on a device.
#[derive(Debug)]
pub struct CudaStream {
    pub(super) driver: Stream,
    faults: Faults,
    next_launch_idx: AtomicU32,
}

impl CudaStream {
    pub(super) fn new(driver: Stream) -> Result<Self> {
        let faults = Faults::new(&driver)?;
        Ok(Self { driver, faults, next_launch_idx: AtomicU32::new(0) })
    }

    /// Has later stages of this stream wait for `event`, of whatever stream.
    ///
    /// # Errors
    ///
    /// Those of the driver.
    pub fn wait_for(&self, event: &CudaEvent) -> Result<()> {
        self.driver.wait_for(event)
    }

    /// Where the next launch leaves its faults.
    pub(super) fn fault_sink(&self) -> FaultSink {
        let launch_idx = self.next_launch_idx.fetch_add(1, Ordering::Relaxed);
        FaultSink { records: self.faults.records(), launch_idx, reserved: 0 }
    }

    /// Waits, and returns the first fault since the last check.
    pub(super) fn check(&self) -> Result<()> {
        self.driver.synchronize("check")?;
        self.faults.take(&self.driver)
    }
}
