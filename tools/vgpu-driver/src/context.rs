//! Contexts: what belongs together and fails together, and which one a thread uses.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use crate::driver::driver;
use crate::failure::{Failure, Result};
use crate::handles::{Handle, next_handle};
use crate::settings::settings;
use crate::status::Status;
use crate::stream::{Kind, Marker, Stream};

/// A context.
pub struct Context {
    /// Its handle.
    pub handle: Handle,
    /// The device.
    pub device: usize,
    /// `cuDevicePrimaryCtxRetain` made it.
    pub is_primary: bool,
    /// What its streams share.
    pub shared: Arc<Shared>,
    /// The default stream.
    pub null: Arc<Stream>,
    /// Flags and limits by number, and contexts whose memory it may use.
    pub options: Mutex<Options>,
}

/// What a context was told.
#[derive(Default)]
pub struct Options {
    /// `CUctx_flags`.
    pub flags: u32,
    /// By `CUlimit`.
    pub limits: BTreeMap<u32, usize>,
    /// Contexts with peer access.
    pub peers: BTreeSet<Handle>,
}

/// What the streams of a context share.
#[derive(Default)]
pub struct Shared {
    /// The fault that ended the context's work.
    failure: OnceLock<Failure>,
    /// What kernels printed and nobody has seen yet.
    output: Mutex<String>,
    /// All streams.
    streams: Mutex<Vec<Weak<Stream>>>,
}

impl Shared {
    /// Everything fails from now on. The first fault is shown to the user.
    pub fn fail(&self, failure: Failure) {
        if self.failure.set(failure.clone()).is_err() {
            return;
        }
        let text = format!("vgpu: {}: {}\n", failure.status.name(), failure.reason);
        eprint!("{text}");
        if let Some(path) = &settings().fault_file {
            let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
            if let Err(error) = file.and_then(|mut file| file.write_all(text.as_bytes())) {
                eprintln!("vgpu: VGPU_FAULT_FILE {}: {error}", path.display());
            }
        }
    }

    /// Fails if a kernel has failed.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn check(&self) -> Result<()> {
        self.failure.get().map_or(Ok(()), |failure| Err(failure.clone()))
    }

    /// Keeps what a kernel printed until somebody waits for it.
    pub fn print(&self, text: &str) {
        lock(&self.output).push_str(text);
    }

    /// Shows what kernels have printed.
    pub fn flush(&self) {
        let output = std::mem::take(&mut *lock(&self.output));
        if !output.is_empty() {
            let mut stdout = std::io::stdout().lock();
            // A closed standard output is nobody's fault.
            let _ = stdout.write_all(output.as_bytes()).and_then(|()| stdout.flush());
        }
    }

    /// Streams that are alive.
    pub fn streams(&self) -> Vec<Arc<Stream>> {
        let mut streams = lock(&self.streams);
        streams.retain(|stream| stream.strong_count() > 0);
        streams.iter().filter_map(Weak::upgrade).collect()
    }

    /// A new stream joins.
    pub fn join(&self, stream: &Arc<Stream>) {
        lock(&self.streams).push(Arc::downgrade(stream));
    }
}

/// Takes a lock; what a panic left behind is used as it is.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Context {
    /// A context with its default stream, known by its handle.
    ///
    /// # Errors
    ///
    /// `NOT_INITIALIZED`.
    pub fn create(device: usize, is_primary: bool, flags: u32) -> Result<Arc<Self>> {
        let handle = next_handle();
        let shared = Arc::<Shared>::default();
        let null = Stream::new(handle, device, Kind::Null, 0, shared.clone());
        let options = Options { flags, ..Options::default() };
        let context =
            Context { handle, device, is_primary, shared, null, options: Mutex::new(options) };
        let context = Arc::new(context);
        driver()?.contexts.insert(handle, context.clone());
        Ok(context)
    }

    /// Waits for all that has been enqueued, and shows what was printed.
    ///
    /// # Errors
    ///
    /// A kernel's fault.
    pub fn synchronize(&self) -> Result<()> {
        let markers: Vec<Marker> = self.shared.streams().iter().map(|it| it.marker()).collect();
        markers.iter().for_each(Marker::wait);
        self.shared.flush();
        self.shared.check()
    }

    /// Ends the context with all that belongs to it.
    ///
    /// # Errors
    ///
    /// `INVALID_HANDLE` if it has ended already.
    pub fn destroy(&self) -> Result<()> {
        let driver = driver()?;
        driver.contexts.remove(self.handle)?;
        // A fault is of no interest any more.
        let _ = self.synchronize();
        let is_mine = |handle: Handle| handle == self.handle;
        driver.streams.remove_if(|it| is_mine(it.context));
        self.shared.streams().iter().for_each(|stream| stream.close());
        driver.events.remove_if(|it| is_mine(it.context));
        driver.functions.remove_if(|it| is_mine(it.module.context));
        driver.modules.remove_if(|it| is_mine(it.context));
        driver.heap.release(self.handle);
        Ok(())
    }
}

thread_local! {
    static CURRENT: RefCell<Vec<Handle>> = const { RefCell::new(Vec::new()) };
    /// The per-thread default streams, by context.
    static OWN_STREAMS: RefCell<HashMap<Handle, Arc<Stream>>> = RefCell::default();
}

/// The context on top of this thread's stack; 0 for none.
pub fn current_handle() -> Handle {
    CURRENT.with_borrow(|stack| stack.last().copied().unwrap_or(0))
}

/// Replaces the top of this thread's stack; 0 takes it away.
pub fn set_current(handle: Handle) {
    CURRENT.with_borrow_mut(|stack| {
        stack.pop();
        if handle != 0 {
            stack.push(handle);
        }
    });
}

/// Puts a context on this thread's stack.
pub fn push_current(handle: Handle) {
    CURRENT.with_borrow_mut(|stack| stack.push(handle));
}

/// Takes the top from this thread's stack.
pub fn pop_current() -> Option<Handle> {
    CURRENT.with_borrow_mut(Vec::pop)
}

/// This thread's context.
///
/// # Errors
///
/// `INVALID_CONTEXT` if there is none, `CONTEXT_IS_DESTROYED`.
pub fn current() -> Result<Arc<Context>> {
    let driver = driver()?;
    match current_handle() {
        0 => Err(Failure::new(Status::INVALID_CONTEXT, "this thread has no context")),
        handle => driver.contexts.get(handle).map_err(|failure| Failure {
            status: Status::CONTEXT_IS_DESTROYED,
            reason: failure.reason,
        }),
    }
}

/// This thread's context, unless a kernel of it has failed.
///
/// # Errors
///
/// As [`current`], and the kernel's fault.
pub fn usable() -> Result<Arc<Context>> {
    let context = current()?;
    context.shared.check()?;
    Ok(context)
}

/// `CU_STREAM_LEGACY` and `CU_STREAM_PER_THREAD`.
const LEGACY: Handle = 1;
const PER_THREAD: Handle = 2;

/// The stream of a handle; its context need not be current.
///
/// # Errors
///
/// `INVALID_HANDLE`, and those of [`current`].
pub fn stream_of(handle: Handle) -> Result<Arc<Stream>> {
    match handle {
        0 | LEGACY => Ok(current()?.null.clone()),
        PER_THREAD => {
            let context = current()?;
            Ok(OWN_STREAMS.with_borrow_mut(|own| {
                let new = || {
                    let shared = context.shared.clone();
                    Stream::new(context.handle, context.device, Kind::Blocking, 0, shared)
                };
                own.entry(context.handle).or_insert_with(new).clone()
            }))
        }
        _ => driver()?.streams.get(handle),
    }
}
