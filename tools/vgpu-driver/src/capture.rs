//! Captures: streams that write down what they are given instead of doing it.

use std::cell::Cell;
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};

use crate::context::lock;
use crate::failure::{Failure, Result};
use crate::graph::{Graph, Node};
use crate::handles::{Handle, next_handle};
use crate::operation::Operation;
use crate::status::Status;
use crate::stream::Stream;

/// Which calls are refused while a capture goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Mode {
    /// Unsafe calls of any thread.
    Global = 0,
    /// Unsafe calls of the thread that began the capture.
    ThreadLocal = 1,
    /// None.
    Relaxed = 2,
}

impl Mode {
    /// By the driver's number.
    pub fn from_number(number: u32) -> Option<Self> {
        [Mode::Global, Mode::ThreadLocal, Mode::Relaxed].get(number as usize).copied()
    }
}

/// A capture in progress.
pub struct Capture {
    /// For `cuStreamGetCaptureInfo`.
    pub id: Handle,
    mode: Mode,
    thread: ThreadId,
    /// `Stream::id` of the stream it was begun on.
    origin: Handle,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    nodes: Vec<Node>,
    streams: Vec<Arc<Stream>>,
    is_invalid: bool,
    has_ended: bool,
}

/// A stream's part in a capture.
#[derive(Default)]
pub struct CaptureLink(Mutex<Option<Link>>);

struct Link {
    capture: Arc<Capture>,
    /// Nodes that the stream's next one comes after.
    tail: Vec<usize>,
}

/// Captures that have not ended.
static ACTIVE: Mutex<Vec<Arc<Capture>>> = Mutex::new(Vec::new());

thread_local! {
    static THREAD_MODE: Cell<Mode> = const { Cell::new(Mode::Global) };
}

/// Replaces this thread's mode and returns the old one.
pub fn exchange_thread_mode(mode: Mode) -> Mode {
    THREAD_MODE.replace(mode)
}

/// Refuses a call that cannot be captured while this thread, or in global mode any thread, captures.
/// The captures concerned become invalid.
///
/// # Errors
///
/// `STREAM_CAPTURE_UNSUPPORTED`.
pub fn refuse_in_capture() -> Result<()> {
    let thread_mode = THREAD_MODE.get();
    if thread_mode == Mode::Relaxed {
        return Ok(());
    }
    let mut is_refused = false;
    for capture in lock(&ACTIVE).iter() {
        let is_own = capture.thread == thread::current().id() && capture.mode != Mode::Relaxed;
        let is_global = capture.mode == Mode::Global && thread_mode == Mode::Global;
        if is_own || is_global {
            lock(&capture.state).is_invalid = true;
            is_refused = true;
        }
    }
    match is_refused {
        true => Err(Failure::new(
            Status::STREAM_CAPTURE_UNSUPPORTED,
            "the call cannot be captured; the capture is invalid now",
        )),
        false => Ok(()),
    }
}

impl Capture {
    fn fail(&self, status: Status, reason: &str) -> Failure {
        lock(&self.state).is_invalid = true;
        Failure::new(status, reason)
    }

    fn check(&self) -> Result<()> {
        match lock(&self.state).is_invalid {
            true => Err(Status::STREAM_CAPTURE_INVALIDATED.into()),
            false => Ok(()),
        }
    }

    /// Adds a node.
    fn push(&self, operation: Operation, after: Vec<usize>) -> usize {
        let mut state = lock(&self.state);
        state.nodes.push(Node { operation, after });
        state.nodes.len() - 1
    }

    /// It goes on.
    pub fn is_active(&self) -> bool {
        !lock(&self.state).has_ended
    }
}

impl CaptureLink {
    /// The stream is being captured.
    pub fn is_active(&self) -> bool {
        lock(&self.0).is_some()
    }

    /// The capture's number, and whether it has become invalid.
    pub fn status(&self) -> Option<(Handle, bool)> {
        let link = lock(&self.0);
        link.as_ref().map(|link| (link.capture.id, link.capture.check().is_err()))
    }

    /// Adds an operation if the stream is being captured.
    ///
    /// # Errors
    ///
    /// `STREAM_CAPTURE_INVALIDATED`.
    pub fn record(&self, operation: Operation) -> Result<bool> {
        let mut link = lock(&self.0);
        let Some(link) = link.as_mut() else { return Ok(false) };
        link.capture.check()?;
        let node = link.capture.push(operation, std::mem::take(&mut link.tail));
        link.tail = vec![node];
        Ok(true)
    }

    /// The capture and the nodes that the next one comes after.
    ///
    /// # Errors
    ///
    /// `STREAM_CAPTURE_INVALIDATED`.
    pub fn position(&self) -> Result<Option<(Arc<Capture>, Vec<usize>)>> {
        let link = lock(&self.0);
        let Some(link) = link.as_ref() else { return Ok(None) };
        link.capture.check()?;
        Ok(Some((link.capture.clone(), link.tail.clone())))
    }

    /// Refuses a call on this stream that cannot be captured.
    ///
    /// # Errors
    ///
    /// `STREAM_CAPTURE_UNSUPPORTED`.
    pub fn refuse(&self, reason: &str) -> Result<()> {
        let link = lock(&self.0);
        link.as_ref().map_or(Ok(()), |link| {
            Err(link.capture.fail(Status::STREAM_CAPTURE_UNSUPPORTED, reason))
        })
    }

    /// The capture would depend on work outside of it.
    ///
    /// # Errors
    ///
    /// `STREAM_CAPTURE_ISOLATION`.
    pub fn isolate(&self) -> Result<()> {
        let link = lock(&self.0);
        let reason = "the event was recorded outside of the capture";
        link.as_ref()
            .map_or(Ok(()), |link| Err(link.capture.fail(Status::STREAM_CAPTURE_ISOLATION, reason)))
    }
}

impl Stream {
    /// Begins a capture on this stream.
    ///
    /// # Errors
    ///
    /// `ILLEGAL_STATE` if it is being captured.
    pub fn begin_capture(self: &Arc<Self>, mode: Mode) -> Result<()> {
        let mut link = lock(&self.capture.0);
        if link.is_some() {
            return Err(Failure::new(Status::ILLEGAL_STATE, "the stream is being captured"));
        }
        let state = State { streams: vec![self.clone()], ..State::default() };
        let capture = Arc::new(Capture {
            id: next_handle(),
            mode,
            thread: thread::current().id(),
            origin: self.id,
            state: Mutex::new(state),
        });
        lock(&ACTIVE).push(capture.clone());
        *link = Some(Link { capture, tail: Vec::new() });
        Ok(())
    }

    /// Comes after nodes of a capture, and joins it if need be.
    ///
    /// # Errors
    ///
    /// `STREAM_CAPTURE_MERGE`, `CAPTURED_EVENT` if the capture has ended.
    pub fn join_capture(self: &Arc<Self>, capture: &Arc<Capture>, nodes: &[usize]) -> Result<()> {
        if !capture.is_active() {
            let reason = "the event was recorded in a capture that has ended";
            return Err(Failure::new(Status::CAPTURED_EVENT, reason));
        }
        capture.check()?;
        let mut link = lock(&self.capture.0);
        match link.as_mut() {
            None => {
                lock(&capture.state).streams.push(self.clone());
                *link = Some(Link { capture: capture.clone(), tail: nodes.to_vec() });
            }
            Some(link) if Arc::ptr_eq(&link.capture, capture) => {
                link.tail.extend(nodes);
                link.tail.sort_unstable();
                link.tail.dedup();
            }
            Some(link) => {
                let reason = "the event belongs to another capture";
                capture.fail(Status::STREAM_CAPTURE_MERGE, reason);
                return Err(link.capture.fail(Status::STREAM_CAPTURE_MERGE, reason));
            }
        }
        Ok(())
    }

    /// Ends the capture that was begun on this stream.
    ///
    /// # Errors
    ///
    /// `ILLEGAL_STATE` without a capture; `STREAM_CAPTURE_UNMATCHED`, `_WRONG_THREAD`,
    /// `_INVALIDATED`, `_UNJOINED`.
    pub fn end_capture(&self) -> Result<Graph> {
        let Some((capture, tail)) = ({
            let link = lock(&self.capture.0);
            link.as_ref().map(|link| (link.capture.clone(), link.tail.clone()))
        }) else {
            return Err(Failure::new(Status::ILLEGAL_STATE, "the stream is not being captured"));
        };
        if capture.origin != self.id {
            let reason = "the capture was begun on another stream";
            return Err(capture.fail(Status::STREAM_CAPTURE_UNMATCHED, reason));
        }
        if capture.mode != Mode::Relaxed && capture.thread != thread::current().id() {
            let reason = "the capture was begun by another thread";
            return Err(Failure::new(Status::STREAM_CAPTURE_WRONG_THREAD, reason));
        }
        lock(&ACTIVE).retain(|other| !Arc::ptr_eq(other, &capture));
        let state = {
            let mut state = lock(&capture.state);
            std::mem::replace(&mut *state, State { has_ended: true, ..State::default() })
        };
        for stream in &state.streams {
            *lock(&stream.capture.0) = None;
        }
        if state.is_invalid {
            return Err(Status::STREAM_CAPTURE_INVALIDATED.into());
        }
        let graph = Graph::new(state.nodes);
        if !graph.all_come_before(&tail) {
            let reason = "another stream's work does not come back to the stream of the capture";
            return Err(Failure::new(Status::STREAM_CAPTURE_UNJOINED, reason));
        }
        Ok(graph)
    }
}
