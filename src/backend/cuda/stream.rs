//! The backend's stream: a queue of the device with a record of the faults that its stages met.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use super::abi::FaultSink;
use super::driver::{CudaEvent, Stream};
use super::faults::Faults;
use crate::error::{Error, Result};

/// An ordered queue of stages on a device.
#[derive(Debug)]
pub struct CudaStream {
    pub(super) driver: Stream,
    faults: Faults,
    /// The first fault of stages that the host ran, with the index of the launch after it.
    host_fault: Mutex<Option<(u32, Error)>>,
    next_launch_idx: AtomicU32,
}

impl CudaStream {
    pub(super) fn new(driver: Stream) -> Result<Self> {
        let faults = Faults::new(&driver)?;
        let (host_fault, next_launch_idx) = (Mutex::new(None), AtomicU32::new(0));
        Ok(Self { driver, faults, host_fault, next_launch_idx })
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
        let on_device = self.faults.take(&self.driver)?;
        let of_host = self.host_fault.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (of_host, on_device) {
            (None, None) => Ok(()),
            (Some((launch_idx, _)), Some((earlier, fault))) if earlier < launch_idx => Err(fault),
            (Some((_, fault)), _) | (None, Some((_, fault))) => Err(fault),
        }
    }

    /// Keeps a fault of a stage that the host ran.
    pub(super) fn report(&self, fault: Error) {
        let launch_idx = self.next_launch_idx.load(Ordering::Relaxed);
        let mut kept = self.host_fault.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get_or_insert((launch_idx, fault));
    }
}
