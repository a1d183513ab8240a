//! Streams: operations in order, run by a thread of their own.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::capture::CaptureLink;
use crate::context::{Shared, lock};
use crate::failure::{Failure, Result};
use crate::handles::Handle;
use crate::operation::Operation;
use crate::status::Status;

/// How a stream stands to the default stream of its context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It is the default stream: ordered with all blocking ones.
    Null,
    /// Ordered with the default stream.
    Blocking,
    /// `CU_STREAM_NON_BLOCKING`.
    NonBlocking,
}

/// A stream.
pub struct Stream {
    /// Number for `cuStreamGetId`.
    pub id: Handle,
    /// Handle of its context.
    pub context: Handle,
    /// The device.
    pub device: usize,
    /// How it stands to the default stream.
    pub kind: Kind,
    /// As the caller wished; without effect.
    pub priority: i32,
    /// What the context's streams share.
    pub shared: Arc<Shared>,
    /// The capture that it is in.
    pub capture: CaptureLink,
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    tasks: VecDeque<Task>,
    num_submitted: u64,
    num_completed: u64,
    has_worker: bool,
    is_closed: bool,
}

struct Task {
    operation: Operation,
    /// Points of other streams that it comes after.
    after: Vec<Marker>,
}

/// A point in a stream's order.
#[derive(Clone)]
pub struct Marker {
    stream: Arc<Stream>,
    position: u64,
}

impl Marker {
    /// Waits until the stream gets there.
    pub fn wait(&self) {
        let mut queue = lock(&self.stream.queue);
        while queue.num_completed < self.position {
            queue = self.stream.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The stream has got there.
    pub fn is_past(&self) -> bool {
        lock(&self.stream.queue).num_completed >= self.position
    }
}

impl Stream {
    /// A stream without work.
    pub fn new(
        context: Handle,
        device: usize,
        kind: Kind,
        priority: i32,
        shared: Arc<Shared>,
    ) -> Arc<Self> {
        let stream = Arc::new(Stream {
            id: crate::handles::next_handle(),
            context,
            device,
            kind,
            priority,
            shared,
            capture: CaptureLink::default(),
            queue: Mutex::default(),
            changed: Condvar::new(),
        });
        stream.shared.join(&stream);
        stream
    }

    /// The end of what has been enqueued so far.
    pub fn marker(self: &Arc<Self>) -> Marker {
        Marker { stream: self.clone(), position: lock(&self.queue).num_submitted }
    }

    /// Enqueues an operation, or adds it to the capture that the stream is in.
    ///
    /// # Errors
    ///
    /// The capture's, a kernel's fault.
    pub fn enqueue(self: &Arc<Self>, operation: Operation) -> Result<()> {
        if self.capture.record(operation.clone())? {
            return Ok(());
        }
        self.submit(operation, Vec::new()).map(drop)
    }

    /// Enqueues an operation after points of other streams.
    ///
    /// # Errors
    ///
    /// A kernel's fault; `STREAM_CAPTURE_IMPLICIT` on the default stream while a stream that is
    /// ordered with it is captured.
    pub fn submit(self: &Arc<Self>, operation: Operation, after: Vec<Marker>) -> Result<Marker> {
        self.shared.check()?;
        let mut after = after;
        after.extend(self.implied()?);
        after.retain(|marker| !marker.is_past());
        let mut queue = lock(&self.queue);
        if queue.is_closed {
            return Err(Failure::new(Status::INVALID_HANDLE, "the stream was destroyed"));
        }
        queue.tasks.push_back(Task { operation, after });
        queue.num_submitted += 1;
        let marker = Marker { stream: self.clone(), position: queue.num_submitted };
        if !queue.has_worker {
            queue.has_worker = true;
            let stream = self.clone();
            let worker = std::thread::Builder::new().name("vgpu stream".to_owned());
            worker.spawn(move || stream.work()).map_err(|error| {
                queue.has_worker = false;
                queue.num_submitted -= 1;
                queue.tasks.pop_back();
                Failure::new(Status::OPERATING_SYSTEM, format!("no thread for a stream: {error}"))
            })?;
        }
        drop(queue);
        self.changed.notify_all();
        Ok(marker)
    }

    /// Points that come before because of the default stream.
    fn implied(&self) -> Result<Vec<Marker>> {
        let counterpart = match self.kind {
            Kind::NonBlocking => return Ok(Vec::new()),
            Kind::Null => Kind::Blocking,
            Kind::Blocking => Kind::Null,
        };
        let streams = self.shared.streams();
        let others = streams.iter().filter(|it| it.kind == counterpart);
        if self.kind == Kind::Null && others.clone().any(|it| it.capture.is_active()) {
            let reason = "a stream that the default stream waits for is being captured";
            return Err(Failure::new(Status::STREAM_CAPTURE_IMPLICIT, reason));
        }
        Ok(others.map(|it| it.marker()).collect())
    }

    /// Where the stream will be past its work and, on the default stream, that of the others.
    ///
    /// # Errors
    ///
    /// As [`Stream::submit`].
    pub fn end(self: &Arc<Self>) -> Result<Marker> {
        match self.kind {
            Kind::Null => self.submit(Operation::Nothing, Vec::new()),
            _ => {
                self.shared.check()?;
                Ok(self.marker())
            }
        }
    }

    /// Enqueues an operation outside of any capture and waits for it.
    ///
    /// # Errors
    ///
    /// A kernel's fault, also that of an earlier kernel.
    pub fn run(self: &Arc<Self>, operation: Operation) -> Result<()> {
        self.submit(operation, Vec::new())?.wait();
        self.shared.flush();
        self.shared.check()
    }

    /// No work is left.
    pub fn is_idle(&self) -> bool {
        let queue = lock(&self.queue);
        queue.num_completed == queue.num_submitted
    }

    /// Takes no more work; the thread ends when the present work is done.
    pub fn close(&self) {
        lock(&self.queue).is_closed = true;
        self.changed.notify_all();
    }

    /// The worker.
    fn work(self: Arc<Self>) {
        loop {
            let mut queue = lock(&self.queue);
            let task = loop {
                if let Some(task) = queue.tasks.pop_front() {
                    break task;
                }
                if queue.is_closed {
                    queue.has_worker = false;
                    return;
                }
                queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
            };
            drop(queue);
            task.after.iter().for_each(Marker::wait);
            task.operation.run_or_fail(&self.shared);
            // What an operation holds on to is gone before anyone learns of its end.
            drop(task);
            let mut queue = lock(&self.queue);
            queue.num_completed += 1;
            drop(queue);
            self.changed.notify_all();
        }
    }
}
