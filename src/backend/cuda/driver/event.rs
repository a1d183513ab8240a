//! Events: points in a stream's order, with their time.

use std::sync::Arc;
use std::time::Duration;

use cudarc::driver::{result, sys};

use super::{Context, Stream, call};
use crate::error::Result;

const OP: &str = "cuda event";

/// A point in a stream's order.
#[derive(Debug)]
pub struct CudaEvent {
    context: Arc<Context>,
    handle: sys::CUevent,
}

// SAFETY: an event may be used from any thread; the driver locks it.
unsafe impl Send for CudaEvent {}
// SAFETY: as above.
unsafe impl Sync for CudaEvent {}

impl CudaEvent {
    /// Marks the stream's present end.
    pub(in super::super) fn record(stream: &Stream) -> Result<Self> {
        stream.context().bind()?;
        let answer = result::event::create(sys::CUevent_flags::CU_EVENT_DEFAULT);
        let handle = call(OP, "cuEventCreate", answer)?;
        let event = Self { context: Arc::clone(stream.context()), handle };
        // SAFETY: event and stream are live.
        let answer = unsafe { result::event::record(event.handle, stream.handle()) };
        call(OP, "cuEventRecord", answer)?;
        Ok(event)
    }

    /// Time from `start` to this event, after waiting for this one.
    pub(in super::super) fn since(&self, start: &Self) -> Result<Duration> {
        self.context.bind()?;
        // SAFETY: the event is live.
        let answer = unsafe { result::event::synchronize(self.handle) };
        call(OP, "cuEventSynchronize", answer)?;
        // SAFETY: both events are live.
        let answer = unsafe { result::event::elapsed(start.handle, self.handle) };
        let milliseconds = call(OP, "cuEventElapsedTime", answer)?;
        Ok(Duration::try_from_secs_f32(milliseconds / 1e3).unwrap_or_default())
    }

    pub(super) fn handle(&self) -> sys::CUevent {
        self.handle
    }
}

impl Drop for CudaEvent {
    fn drop(&mut self) {
        if self.context.bind().is_ok() {
            // SAFETY: created by `record`. A failure has nobody to go to.
            let _ = unsafe { result::event::destroy(self.handle) };
        }
    }
}
