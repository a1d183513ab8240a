//! Streams of the driver.

use std::sync::Arc;

use cudarc::driver::{result, sys};

use super::{Context, CudaEvent, call};
use crate::error::Result;

const OP: &str = "cuda stream";

/// An ordered queue of the device's work, our own or a foreign one.
#[derive(Debug)]
pub struct Stream {
    context: Arc<Context>,
    handle: sys::CUstream,
    is_owned: bool,
}

// SAFETY: a stream may be used from any thread; the driver locks it.
unsafe impl Send for Stream {}
// SAFETY: as above.
unsafe impl Sync for Stream {}

impl Stream {
    /// A new stream that does not wait for the default one.
    pub fn new(context: &Arc<Context>) -> Result<Self> {
        context.bind()?;
        let answer = result::stream::create(result::stream::StreamKind::NonBlocking);
        let handle = call(OP, "cuStreamCreate", answer)?;
        Ok(Self { context: Arc::clone(context), handle, is_owned: true })
    }

    /// A stream that others own.
    ///
    /// # Safety
    ///
    /// The stream belongs to the context and outlives the result.
    pub unsafe fn foreign(context: &Arc<Context>, handle: sys::CUstream) -> Self {
        Self { context: Arc::clone(context), handle, is_owned: false }
    }

    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    pub fn handle(&self) -> sys::CUstream {
        self.handle
    }

    /// Waits for what was enqueued.
    pub fn synchronize(&self, op: &'static str) -> Result<()> {
        self.context.bind()?;
        // SAFETY: the stream is live.
        call(op, "cuStreamSynchronize", unsafe { result::stream::synchronize(self.handle) })
    }

    /// Has later work wait for `event`, of whatever stream.
    pub fn wait_for(&self, event: &CudaEvent) -> Result<()> {
        self.context.bind()?;
        let flags = sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
        // SAFETY: stream and event are live.
        let answer = unsafe { result::stream::wait_event(self.handle, event.handle(), flags) };
        call(OP, "cuStreamWaitEvent", answer)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.is_owned && self.context.bind().is_ok() {
            // SAFETY: created by `new`. A failure has nobody to go to.
            let _ = unsafe { result::stream::destroy(self.handle) };
        }
    }
}
