//! Streams.

use std::ffi::{c_int, c_uint};

use crate::capture::{Mode, exchange_thread_mode, refuse_in_capture};
use crate::context::{current, stream_of, usable};
use crate::driver::driver;
use crate::entry::{api, get, put};
use crate::event::Recorded;
use crate::failure::{Failure, Result};
use crate::handles::{Handle, next_handle};
use crate::operation::Operation;
use crate::status::Status;
use crate::stream::{Kind, Stream};

/// `CU_STREAM_NON_BLOCKING`.
const NON_BLOCKING: u32 = 1;
/// `CU_EVENT_WAIT_EXTERNAL`.
const WAIT_EXTERNAL: u32 = 1;

api! {
    /// A stream.
    fn cuStreamCreate(stream: *mut Handle, flags: c_uint) {
        // SAFETY: the caller's pointer.
        unsafe { create(stream, flags, 0) }?;
    }

    /// A stream with a priority, which has no effect.
    fn cuStreamCreateWithPriority(stream: *mut Handle, flags: c_uint, priority: c_int) {
        // SAFETY: the caller's pointer.
        unsafe { create(stream, flags, priority) }?;
    }

    /// Ends a stream when its work is done; does not wait.
    fn cuStreamDestroy_v2(handle: Handle) {
        driver()?.streams.remove(handle)?.close();
    }

    /// Waits for a stream's work.
    fn cuStreamSynchronize(handle: Handle) {
        current()?;
        let stream = stream_of(handle)?;
        stream.capture.refuse("a stream cannot be waited for while it is captured")?;
        refuse_in_capture()?;
        stream.end()?.wait();
        stream.shared.flush();
        stream.shared.check()?;
    }

    /// Whether a stream's work is done.
    fn cuStreamQuery(handle: Handle) {
        current()?;
        let stream = stream_of(handle)?;
        stream.capture.refuse("a stream cannot be asked while it is captured")?;
        refuse_in_capture()?;
        stream.shared.check()?;
        if !stream.is_idle() {
            return Err(Status::NOT_READY.into());
        }
        stream.shared.flush();
    }

    /// Lets a stream wait for an event.
    fn cuStreamWaitEvent(stream: Handle, event: Handle, flags: c_uint) {
        usable()?;
        if flags & WAIT_EXTERNAL != 0 {
            return Err(crate::entry::lacking("CU_EVENT_WAIT_EXTERNAL"));
        }
        let stream = stream_of(stream)?;
        let event = driver()?.events.get(event)?;
        if let Some(remote) = &event.remote {
            stream.capture.isolate()?;
            let latest = remote.latest();
            if !remote.is_past(latest) {
                stream.submit(Operation::AwaitEvent(remote.clone(), latest), Vec::new())?;
            }
            return Ok(());
        }
        match event.recorded() {
            Recorded::Never => {}
            Recorded::Captured(capture, nodes) => stream.join_capture(&capture, &nodes)?,
            Recorded::Point { marker, .. } => {
                stream.capture.isolate()?;
                if !marker.is_past() {
                    stream.submit(Operation::Nothing, vec![marker])?;
                }
            }
        }
    }

    /// The stream's flags.
    fn cuStreamGetFlags(handle: Handle, flags: *mut c_uint) {
        let value = u32::from(stream_of(handle)?.kind == Kind::NonBlocking);
        // SAFETY: the caller's pointer.
        unsafe { put(flags, "flags", value) }?;
    }

    /// The stream's priority.
    fn cuStreamGetPriority(handle: Handle, priority: *mut c_int) {
        let value = stream_of(handle)?.priority;
        // SAFETY: the caller's pointer.
        unsafe { put(priority, "priority", value) }?;
    }

    /// A number that no other stream has.
    fn cuStreamGetId(handle: Handle, id: *mut u64) {
        let value = stream_of(handle)?.id as u64;
        // SAFETY: the caller's pointer.
        unsafe { put(id, "streamId", value) }?;
    }

    /// The stream's context.
    fn cuStreamGetCtx(handle: Handle, context: *mut Handle) {
        let value = stream_of(handle)?.context;
        // SAFETY: the caller's pointer.
        unsafe { put(context, "pctx", value) }?;
    }

    /// The stream's device.
    fn cuStreamGetDevice(handle: Handle, device: *mut c_int) {
        let value = stream_of(handle)?.device as c_int;
        // SAFETY: the caller's pointer.
        unsafe { put(device, "device", value) }?;
    }

    /// Begins a capture.
    fn cuStreamBeginCapture_v2(handle: Handle, mode: c_uint) {
        usable()?;
        let mode = capture_mode(mode)?;
        let stream = stream_of(handle)?;
        if stream.kind == Kind::Null {
            let reason = "the default stream cannot be captured";
            return Err(Failure::new(Status::STREAM_CAPTURE_UNSUPPORTED, reason));
        }
        stream.begin_capture(mode)?;
    }

    /// Ends a capture.
    fn cuStreamEndCapture(handle: Handle, graph: *mut Handle) {
        current()?;
        if graph.is_null() {
            return Err(Failure::argument("phGraph", "an address", "null"));
        }
        let captured = stream_of(handle)?.end_capture();
        if captured.is_err() {
            // SAFETY: the caller's pointer.
            unsafe { put(graph, "phGraph", 0) }?;
        }
        let captured = driver()?.graphs.add(captured?);
        // SAFETY: the caller's pointer.
        unsafe { put(graph, "phGraph", captured) }?;
    }

    /// Whether a stream is captured.
    fn cuStreamIsCapturing(handle: Handle, status: *mut c_uint) {
        let value = capture_status(&*stream_of(handle)?).0;
        // SAFETY: the caller's pointer.
        unsafe { put(status, "captureStatus", value) }?;
    }

    /// Whether and which capture a stream is in; its graph and nodes cannot be asked for.
    fn cuStreamGetCaptureInfo_v3(
        handle: Handle,
        status: *mut c_uint,
        id: *mut u64,
        graph: *mut Handle,
        nodes: *mut *const Handle,
        edges: *mut *const u64,
        num_nodes: *mut usize,
    ) {
        let (value, number) = capture_status(&*stream_of(handle)?);
        let wants_more = [graph.is_null(), nodes.is_null(), edges.is_null(), num_nodes.is_null()];
        if value != 0 && wants_more.contains(&false) {
            return Err(crate::entry::lacking("the graph of a capture in progress"));
        }
        // SAFETY: the caller's pointer.
        unsafe { put(status, "captureStatus_out", value) }?;
        if !id.is_null() {
            // SAFETY: the caller's pointer.
            unsafe { put(id, "id_out", number) }?;
        }
    }

    /// Exchanges the thread's rule for calls that cannot be captured.
    fn cuThreadExchangeStreamCaptureMode(mode: *mut c_uint) {
        // SAFETY: the caller's pointer.
        let new = capture_mode(unsafe { get(mode, "mode") }?)?;
        // SAFETY: as above.
        unsafe { put(mode, "mode", exchange_thread_mode(new) as u32) }?;
    }
}

/// # Safety
///
/// The pointer is null or valid.
unsafe fn create(stream: *mut Handle, flags: u32, priority: c_int) -> Result<()> {
    let context = usable()?;
    if flags & !NON_BLOCKING != 0 {
        return Err(Failure::argument("Flags", "0 or CU_STREAM_NON_BLOCKING", flags));
    }
    if stream.is_null() {
        return Err(Failure::argument("phStream", "an address", "null"));
    }
    let kind = if flags == NON_BLOCKING { Kind::NonBlocking } else { Kind::Blocking };
    let shared = context.shared.clone();
    let new = Stream::new(context.handle, context.device, kind, priority.clamp(-5, 0), shared);
    let handle = next_handle();
    driver()?.streams.insert(handle, new);
    // SAFETY: the caller's.
    unsafe { put(stream, "phStream", handle) }
}

fn capture_mode(mode: u32) -> Result<Mode> {
    let refuse = || Failure::argument("mode", "a CUstreamCaptureMode", mode);
    Mode::from_number(mode).ok_or_else(refuse)
}

/// `CUstreamCaptureStatus` and the capture's number.
fn capture_status(stream: &Stream) -> (u32, u64) {
    match stream.capture.status() {
        None => (0, 0),
        Some((id, is_invalid)) => (1 + u32::from(is_invalid), id as u64),
    }
}
