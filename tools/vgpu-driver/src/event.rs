//! Events: points in a stream's order, with their time.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use crate::capture::Capture;
use crate::context::{Shared, lock};
use crate::failure::{Failure, Result};
use crate::handles::Handle;
use crate::remote::Remote;
use crate::status::Status;
use crate::stream::Marker;

/// An event.
pub struct Event {
    /// Handle of its context.
    pub context: Handle,
    /// What the context's streams share.
    pub shared: Arc<Shared>,
    /// It keeps the time.
    pub has_time: bool,
    /// What other processes see of it.
    pub remote: Option<Arc<Remote>>,
    /// Where it was recorded last.
    recorded: Mutex<Recorded>,
}

/// Where an event was recorded.
#[derive(Clone, Default)]
pub enum Recorded {
    /// Nowhere: it counts as past.
    #[default]
    Never,
    /// In a stream.
    Point {
        /// Past when the stream gets there.
        marker: Marker,
        /// When it did.
        time: Arc<OnceLock<Instant>>,
    },
    /// In a capture, after these nodes.
    Captured(Arc<Capture>, Vec<usize>),
}

impl Event {
    /// An event that is past.
    pub fn new(context: Handle, shared: Arc<Shared>, has_time: bool) -> Self {
        Event { context, shared, has_time, remote: None, recorded: Mutex::default() }
    }

    /// An event that other processes see, as they see it now.
    pub fn of_processes(context: Handle, shared: Arc<Shared>, remote: Remote) -> Self {
        Event { remote: Some(Arc::new(remote)), ..Event::new(context, shared, false) }
    }

    /// Where it was recorded last.
    pub fn recorded(&self) -> Recorded {
        lock(&self.recorded).clone()
    }

    /// Records it anew.
    pub fn set(&self, recorded: Recorded) {
        *lock(&self.recorded) = recorded;
    }

    /// Its point and time; `None` if it was never recorded.
    ///
    /// # Errors
    ///
    /// `CAPTURED_EVENT` in a capture.
    pub fn point(&self) -> Result<Option<(Marker, Arc<OnceLock<Instant>>)>> {
        match self.recorded() {
            Recorded::Never => Ok(None),
            Recorded::Point { marker, time } => Ok(Some((marker, time))),
            Recorded::Captured(..) => {
                Err(Failure::new(Status::CAPTURED_EVENT, "the event was recorded in a capture"))
            }
        }
    }

    /// When it passed.
    ///
    /// # Errors
    ///
    /// `INVALID_HANDLE` if it keeps no time or was never recorded; `NOT_READY`.
    pub fn time(&self) -> Result<Instant> {
        let refuse = |reason| Err(Failure::new(Status::INVALID_HANDLE, reason));
        if !self.has_time {
            return refuse("the event was created without a time");
        }
        let Some((_, time)) = self.point()? else {
            return refuse("the event was never recorded");
        };
        time.get().copied().ok_or_else(|| Status::NOT_READY.into())
    }
}
