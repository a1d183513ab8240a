//! Frames between processes, by MPI's two-sided calls; no call here blocks.

use std::collections::VecDeque;
use std::mem::MaybeUninit;
use std::os::raw::c_int;
use std::ptr;
use std::time::{Duration, Instant};

use mpi::environment::{self, Threading, Universe};
use mpi::ffi::{self, MPI_Comm, MPI_Request, MPI_Status};

use super::{Arrival, FramePool, Transport};
use crate::error::{Error, Result};

const OP: &str = "World::mpi";
/// Arbitrary; the communicator is this transport's own.
const TAG: c_int = 77;
/// Frames that are received at the same time; enough to keep a pair of ranks busy.
const MAX_RECEIVING: usize = 16;

/// A frame that MPI reads or writes; it stays where it is until `request` is complete.
struct InFlight {
    peer: usize,
    frame: Vec<u8>,
    num_bytes: usize,
    request: MPI_Request,
}

pub(in crate::comm) struct MpiTransport {
    comm: MPI_Comm,
    pub rank_idx: usize,
    pub num_ranks: usize,
    /// `None` if the application initialised MPI itself, and so finalises it.
    universe: Option<Universe>,
    /// By destination, in order.
    sending: Vec<VecDeque<InFlight>>,
    num_outstanding: Vec<usize>,
    /// In the order in which the frames were matched.
    receiving: VecDeque<InFlight>,
    /// Whether each rank still answers, and which losses were not told yet.
    is_lost: Vec<bool>,
    untold_losses: Vec<usize>,
    /// With a failed process in the communicator, probing for any source fails.
    probes_each: bool,
    pool: FramePool,
    is_finished: bool,
}

// SAFETY: the communicator and the requests are MPI's handles, which no thread owns; MPI was
// initialised for calls from several threads, and `&mut self` makes them one at a time.
unsafe impl Send for MpiTransport {}

impl MpiTransport {
    /// Initialises MPI where the application has not, and takes a communicator of its own.
    pub(in crate::comm) fn new(timeout: Duration) -> Result<Self> {
        if environment::is_finalized() {
            return Err(unavailable("MPI was finalised in this process, and cannot start again"));
        }
        let (universe, threading) =
            match environment::initialize_with_threading(Threading::Multiple) {
                Some((universe, threading)) => (Some(universe), threading),
                None => (None, environment::threading_support()),
            };
        if !matches!(threading, Threading::Serialized | Threading::Multiple) {
            return Err(unavailable(format!("it grants threads {threading:?} only")));
        }
        // SAFETY: MPI is initialised; the two are constants of the library.
        let world = unsafe {
            check(ffi::MPI_Comm_set_errhandler(ffi::RSMPI_COMM_WORLD, ffi::RSMPI_ERRORS_RETURN))?;
            ffi::RSMPI_COMM_WORLD
        };
        let comm = duplicate(world, timeout)?;
        let (mut rank_idx, mut num_ranks) = (0, 0);
        // SAFETY: `comm` is a live communicator, and the out-pointers are to locals.
        unsafe {
            check(ffi::MPI_Comm_set_errhandler(comm, ffi::RSMPI_ERRORS_RETURN))?;
            check(ffi::MPI_Comm_rank(comm, &raw mut rank_idx))?;
            check(ffi::MPI_Comm_size(comm, &raw mut num_ranks))?;
        }
        let num_ranks = num_ranks as usize;
        Ok(Self {
            comm,
            rank_idx: rank_idx as usize,
            num_ranks,
            universe,
            sending: (0..num_ranks).map(|_| VecDeque::new()).collect(),
            num_outstanding: vec![0; num_ranks],
            receiving: VecDeque::new(),
            is_lost: vec![false; num_ranks],
            untold_losses: Vec::new(),
            probes_each: false,
            pool: FramePool::default(),
            is_finished: false,
        })
    }

    /// Takes back the frames to `dst` that have left.
    fn collect_sent(&mut self, dst: usize) {
        while let Some(front) = self.sending[dst].front_mut() {
            match test(&mut front.request) {
                Ok(false) => break,
                Ok(true) => {
                    if let Some(sent) = self.sending[dst].pop_front() {
                        self.num_outstanding[dst] -= sent.num_bytes;
                        self.pool.put_back(sent.frame);
                    }
                }
                Err(error) => return self.lose(dst, &error),
            }
        }
    }

    /// Gives up on a rank to which MPI has no connection any more.
    fn lose(&mut self, peer: usize, error: &Error) {
        if !std::mem::replace(&mut self.is_lost[peer], true) {
            tracing::debug!(peer, %error, "MPI lost a rank");
            self.untold_losses.push(peer);
        }
        // MPI may not be done with these frames: leak them.
        self.num_outstanding[peer] = 0;
        self.sending[peer].drain(..).for_each(std::mem::forget);
        let (lost, kept) = self.receiving.drain(..).partition(|frame| frame.peer == peer);
        self.receiving = kept;
        VecDeque::into_iter(lost).for_each(std::mem::forget);
    }

    /// Starts receiving frames that have arrived; returns whether there were any.
    fn match_arrived(&mut self) -> bool {
        if !self.probes_each {
            // SAFETY: a constant of the library.
            let any_source = unsafe { ffi::RSMPI_ANY_SOURCE };
            match self.match_from(any_source) {
                Ok(is_there) => return is_there,
                Err(error) => tracing::debug!(%error, "from now on each rank is probed"),
            }
            self.probes_each = true;
        }
        let mut is_there = false;
        for src in 0..self.num_ranks {
            if !self.is_lost[src] {
                match self.match_from(src as c_int) {
                    Ok(is_from_src) => is_there |= is_from_src,
                    Err(error) => self.lose(src, &error),
                }
            }
        }
        is_there
    }

    /// Starts receiving a frame that has arrived from `source`; returns whether there was one.
    fn match_from(&mut self, source: c_int) -> Result<bool> {
        let mut is_there = 0;
        let mut message = MaybeUninit::uninit();
        let mut status = MaybeUninit::<MPI_Status>::uninit();
        // SAFETY: the communicator is live, and the out-pointers are to locals.
        check(unsafe {
            ffi::MPI_Improbe(
                source,
                TAG,
                self.comm,
                &raw mut is_there,
                message.as_mut_ptr(),
                status.as_mut_ptr(),
            )
        })?;
        if is_there == 0 {
            return Ok(false);
        }
        let mut num_bytes = 0;
        // SAFETY: a successful probe has set the status.
        let peer = unsafe {
            check(ffi::MPI_Get_count(status.as_ptr(), ffi::RSMPI_UINT8_T, &raw mut num_bytes))?;
            status.assume_init().MPI_SOURCE as usize
        };
        let mut frame = self.pool.take();
        frame.reserve(num_bytes as usize);
        let mut request = MaybeUninit::uninit();
        // SAFETY: the frame has room for `num_bytes`; its heap memory neither moves nor goes until
        // the request is complete, because `receiving` keeps it, and `lose` and `finish` leak what is
        // left.
        let request = unsafe {
            check(ffi::MPI_Imrecv(
                frame.as_mut_ptr().cast(),
                num_bytes,
                ffi::RSMPI_UINT8_T,
                message.as_mut_ptr(),
                request.as_mut_ptr(),
            ))?;
            request.assume_init()
        };
        self.receiving.push_back(InFlight { peer, frame, num_bytes: num_bytes as usize, request });
        Ok(true)
    }

    fn start_sending(&self, dst: usize, frame: Vec<u8>) -> Result<InFlight> {
        let num_bytes = frame.len();
        let mut request = MaybeUninit::uninit();
        // SAFETY: the frame has `num_bytes` bytes (far fewer than a c_int counts), and its heap
        // memory neither moves nor goes until the request is complete: `sending` keeps it, and
        // `lose` and `finish` leak what is left.
        let request = unsafe {
            check(ffi::MPI_Isend(
                frame.as_ptr().cast(),
                num_bytes as c_int,
                ffi::RSMPI_UINT8_T,
                dst as c_int,
                TAG,
                self.comm,
                request.as_mut_ptr(),
            ))?;
            request.assume_init()
        };
        Ok(InFlight { peer: dst, frame, num_bytes, request })
    }

    fn has_outstanding(&mut self) -> bool {
        (0..self.num_ranks).any(|dst| self.num_outstanding_bytes(dst) > 0)
    }
}

impl Transport for MpiTransport {
    fn send(&mut self, dst: usize, frame: Vec<u8>) {
        if self.is_finished || self.is_lost[dst] {
            return;
        }
        self.collect_sent(dst);
        match self.start_sending(dst, frame) {
            Ok(in_flight) => {
                self.num_outstanding[dst] += in_flight.num_bytes;
                self.sending[dst].push_back(in_flight);
            }
            Err(error) => self.lose(dst, &error),
        }
    }

    fn receive(&mut self) -> Option<Arrival> {
        if self.is_finished {
            return None;
        }
        while self.receiving.len() < MAX_RECEIVING && self.match_arrived() {}
        let mut idx = 0;
        while let Some(receiving) = self.receiving.get(idx) {
            let peer = receiving.peer;
            // Frames of one rank are handed out in order.
            let is_next = self.receiving.iter().take(idx).all(|earlier| earlier.peer != peer);
            match is_next.then(|| test(&mut self.receiving[idx].request)) {
                Some(Err(error)) => {
                    self.lose(peer, &error);
                    idx = 0;
                    continue;
                }
                Some(Ok(true)) => {
                    let Some(mut done) = self.receiving.remove(idx) else { break };
                    // SAFETY: MPI has written `num_bytes` bytes into the reserved room.
                    unsafe { done.frame.set_len(done.num_bytes) };
                    return Some(Arrival::Frame { src: peer, frame: done.frame });
                }
                Some(Ok(false)) | None => idx += 1,
            }
        }
        self.untold_losses.pop().map(|src| Arrival::Lost { src })
    }

    fn num_outstanding_bytes(&mut self, dst: usize) -> usize {
        if !self.is_finished {
            self.collect_sent(dst);
        }
        self.num_outstanding[dst]
    }

    fn pool(&mut self) -> &mut FramePool {
        &mut self.pool
    }

    fn flush(&mut self, limit: Duration) {
        let started = Instant::now();
        while !self.is_finished && self.has_outstanding() && started.elapsed() < limit {
            std::thread::yield_now();
        }
    }

    fn finish(&mut self, clean: bool) {
        if clean {
            self.flush(Duration::from_secs(1));
        }
        let can_finalize = clean
            && !self.is_lost.contains(&true)
            && !self.has_outstanding()
            && self.receiving.is_empty();
        self.is_finished = true;
        let universe = self.universe.take();
        if can_finalize {
            drop(universe);
            return;
        }
        // MPI_Finalize would wait for ranks that may be gone, and MPI may still read and write the
        // frames in flight: leave both to the end of the process.
        std::mem::forget(universe);
        std::mem::forget(std::mem::take(&mut self.sending));
        std::mem::forget(std::mem::take(&mut self.receiving));
    }
}

impl Drop for MpiTransport {
    fn drop(&mut self) {
        if !self.is_finished {
            self.finish(false);
        }
    }
}

/// Duplicates a communicator with all its ranks, or gives up after `timeout`.
fn duplicate(comm: MPI_Comm, timeout: Duration) -> Result<MPI_Comm> {
    // On the heap and leaked on failure: MPI may write it as long as the request is not complete.
    let copy = Box::leak(Box::new(MaybeUninit::<MPI_Comm>::uninit()));
    let mut request = MaybeUninit::uninit();
    // SAFETY: `comm` is live, and `copy` is never freed before the request is complete.
    let mut request = unsafe {
        check(ffi::MPI_Comm_idup(comm, copy.as_mut_ptr(), request.as_mut_ptr()))?;
        request.assume_init()
    };
    let started = Instant::now();
    while !test(&mut request)? {
        if started.elapsed() > timeout {
            return Err(unavailable(format!("a rank did not start within {timeout:?}")));
        }
        std::thread::yield_now();
    }
    // SAFETY: the request is complete, so MPI has written `copy` and lets go of it; it came from
    // the `Box` above.
    Ok(unsafe { *Box::from_raw(ptr::from_mut(copy)).assume_init() })
}

/// Whether the operation behind `request` is complete; the request is freed then.
fn test(request: &mut MPI_Request) -> Result<bool> {
    let mut is_done = 0;
    // SAFETY: the request is live or null, and the out-pointer is to a local.
    check(unsafe {
        ffi::MPI_Test(ptr::from_mut(request), &raw mut is_done, ffi::RSMPI_STATUS_IGNORE)
    })?;
    Ok(is_done != 0)
}

fn check(code: c_int) -> Result<()> {
    if code == ffi::MPI_SUCCESS as c_int {
        return Ok(());
    }
    let mut text = [0u8; ffi::MPI_MAX_ERROR_STRING as usize];
    let mut num_bytes = 0;
    // SAFETY: `text` has the room that MPI asks for, and both pointers are to locals.
    let explained =
        unsafe { ffi::MPI_Error_string(code, text.as_mut_ptr().cast(), &raw mut num_bytes) };
    let known = explained == ffi::MPI_SUCCESS as c_int;
    let reason =
        if known { String::from_utf8_lossy(&text[..num_bytes as usize]) } else { "".into() };
    Err(unavailable(format!("call failed with code {code}: {reason}")))
}

fn unavailable(reason: impl Into<String>) -> Error {
    Error::Unavailable { op: OP, what: "MPI", reason: reason.into() }
}
