//! Streams: operations in order, run by a thread of their own.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use vgpu::{Asynchrony, Dependents, GridEnd};

use crate::capture::CaptureLink;
use crate::context::{Shared, lock};
use crate::failure::{Failure, Result};
use crate::handles::Handle;
use crate::operation::{KernelLaunch, Operation, run_overlapping};
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
            self.perform(task, None);
        }
    }

    /// Runs a task; `front` is the end of the launch in front if the task overlaps it.
    fn perform(self: &Arc<Self>, task: Task, front: Option<GridEnd>) {
        task.after.iter().for_each(Marker::wait);
        match &task.operation {
            Operation::Launch(kernel) if overlaps_take_place() => {
                let kernel = kernel.clone();
                drop(task);
                self.launch(kernel, front);
            }
            operation => {
                operation.run_or_fail(&self.shared);
                // What an operation holds on to is gone before anyone learns of its end.
                drop(task);
                self.complete();
            }
        }
    }

    fn complete(&self) {
        lock(&self.queue).num_completed += 1;
        self.changed.notify_all();
    }

    /// Runs a launch and, before it ends if the kernel says so, the overlapping one behind it.
    fn launch(self: &Arc<Self>, kernel: Arc<KernelLaunch>, front: Option<GridEnd>) {
        let end = GridEnd::default();
        let behind: Arc<Mutex<Option<JoinHandle<()>>>> = Arc::default();
        let dependents = {
            let (stream, end, behind) = (self.clone(), end.clone(), behind.clone());
            Dependents::new(move || {
                let (stream, end, limit) = (stream.clone(), end.clone(), stream.patience());
                let begin = {
                    let end = end.clone();
                    move || stream.run_behind(&end)
                };
                let thread = std::thread::Builder::new().name("vgpu overlap".to_owned());
                // Without a thread the launch behind begins at the end, as it may.
                *lock(&behind) = thread.spawn(begin).ok();
                end.wait_until_awaited(limit);
            })
        };
        run_overlapping(&kernel, front.clone(), dependents, &self.shared);
        if let Some(front) = front {
            // The launch in front completes first, even if this one did not wait for it.
            front.set_awaited();
            front.wait();
        }
        drop(kernel);
        self.complete();
        end.set();
        self.changed.notify_all();
        let behind = lock(&behind).take();
        if let Some(behind) = behind {
            // A panic of the machine has been told on stderr.
            let _ = behind.join();
        }
    }

    /// How long a launch lets the one behind it run ahead.
    fn patience(&self) -> Duration {
        let queue = lock(&self.queue);
        let is_there = queue.tasks.front().is_some_and(Task::overlaps);
        if is_there { LONGEST_LEAD } else { ENQUEUING_TIME }
    }

    /// Runs the task behind a launch that has not ended, if it overlaps.
    fn run_behind(self: Arc<Self>, end: &GridEnd) {
        let mut queue = lock(&self.queue);
        while queue.tasks.is_empty() && !end.has_come() {
            let waited = self.changed.wait_timeout(queue, ENQUEUING_TIME);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let task = match queue.tasks.front() {
            Some(task) if task.overlaps() && !end.has_come() => queue.tasks.pop_front(),
            _ => None,
        };
        drop(queue);
        match task {
            Some(task) => self.perform(task, Some(end.clone())),
            None => end.set_awaited(),
        }
    }
}

impl Task {
    /// It may begin before the launch in front has ended.
    fn overlaps(&self) -> bool {
        let is_free = self.after.iter().all(Marker::is_past);
        matches!(&self.operation, Operation::Launch(kernel) if kernel.overlaps && is_free)
    }
}

/// Launches overlap where that finds mistakes; by default they run one after the other.
fn overlaps_take_place() -> bool {
    !matches!(Asynchrony::from_env(), Ok(Asynchrony::Earliest))
}

/// How long the host may take to enqueue the launch behind.
const ENQUEUING_TIME: Duration = Duration::from_millis(2);
/// How long a launch lets the one behind it run, until that waits.
const LONGEST_LEAD: Duration = Duration::from_secs(1);
