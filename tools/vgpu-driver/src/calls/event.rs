//! Events.

use std::ffi::c_uint;
use std::sync::{Arc, OnceLock};

use crate::capture::refuse_in_capture;
use crate::context::{current, stream_of, usable};
use crate::driver::driver;
use crate::entry::{api, lacking, put};
use crate::event::{Event, Recorded};
use crate::failure::{Failure, Result};
use crate::handles::Handle;
use crate::operation::Operation;
use crate::remote::Remote;
use crate::status::Status;

/// `CU_EVENT_DISABLE_TIMING` and `CU_EVENT_INTERPROCESS`; 1 asks for waiting without spinning.
const DISABLE_TIMING: u32 = 2;
const INTERPROCESS: u32 = 4;
/// `CU_EVENT_RECORD_EXTERNAL`.
const RECORD_EXTERNAL: u32 = 1;

api! {
    /// An event.
    fn cuEventCreate(event: *mut Handle, flags: c_uint) {
        let context = usable()?;
        if flags > 7 {
            return Err(Failure::argument("Flags", "flags of CUevent_flags", flags));
        }
        if flags & INTERPROCESS != 0 && flags & DISABLE_TIMING == 0 {
            let expected = "CU_EVENT_DISABLE_TIMING with CU_EVENT_INTERPROCESS";
            return Err(Failure::argument("Flags", expected, flags));
        }
        if event.is_null() {
            return Err(Failure::argument("phEvent", "an address", "null"));
        }
        let (shared, has_time) = (context.shared.clone(), flags & DISABLE_TIMING == 0);
        let new = match flags & INTERPROCESS {
            0 => Event::new(context.handle, shared, has_time),
            _ => Event::of_processes(context.handle, shared, Remote::new()?),
        };
        // SAFETY: the caller's pointer.
        unsafe { put(event, "phEvent", driver()?.events.add(new)) }?;
    }

    /// Ends an event. What waits for it goes on to do so.
    fn cuEventDestroy_v2(event: Handle) {
        driver()?.events.remove(event)?;
    }

    /// Marks the present end of a stream.
    fn cuEventRecord(event: Handle, stream: Handle) {
        record(event, stream, 0)?;
    }

    /// Marks the present end of a stream.
    fn cuEventRecordWithFlags(event: Handle, stream: Handle, flags: c_uint) {
        record(event, stream, flags)?;
    }

    /// Whether an event has passed.
    fn cuEventQuery(event: Handle) {
        refuse_in_capture()?;
        let event = driver()?.events.get(event)?;
        event.shared.check()?;
        let is_ready = match &event.remote {
            Some(remote) => remote.is_past(remote.latest()),
            None => event.point()?.is_none_or(|(marker, _)| marker.is_past()),
        };
        if !is_ready {
            return Err(Status::NOT_READY.into());
        }
        event.shared.flush();
    }

    /// Waits until an event has passed.
    fn cuEventSynchronize(event: Handle) {
        let event = driver()?.events.get(event)?;
        let point = event.point()?;
        refuse_in_capture()?;
        match (&event.remote, point) {
            (Some(remote), _) => remote.wait(remote.latest()),
            (None, Some((marker, _))) => marker.wait(),
            (None, None) => {}
        }
        event.shared.flush();
        event.shared.check()?;
    }

    /// Milliseconds from one event to another.
    fn cuEventElapsedTime_v2(milliseconds: *mut f32, start: Handle, end: Handle) {
        // SAFETY: the caller's pointer.
        unsafe { elapsed(milliseconds, start, end) }?;
    }

    /// Milliseconds from one event to another.
    fn cuEventElapsedTime(milliseconds: *mut f32, start: Handle, end: Handle) {
        // SAFETY: the caller's pointer.
        unsafe { elapsed(milliseconds, start, end) }?;
    }
}

fn record(event: Handle, stream: Handle, flags: u32) -> Result<()> {
    current()?;
    if flags & !RECORD_EXTERNAL != 0 {
        return Err(Failure::argument("flags", "0 or CU_EVENT_RECORD_EXTERNAL", flags));
    }
    let (event, stream) = (driver()?.events.get(event)?, stream_of(stream)?);
    if event.context != stream.context {
        let reason = "the event and the stream belong to different contexts";
        return Err(Failure::new(Status::INVALID_HANDLE, reason));
    }
    if let Some((capture, tail)) = stream.capture.position()? {
        if flags == RECORD_EXTERNAL {
            return Err(lacking("CU_EVENT_RECORD_EXTERNAL in a capture"));
        }
        if event.remote.is_some() {
            return Err(lacking("an event of several processes in a capture"));
        }
        event.set(Recorded::Captured(capture, tail));
        return Ok(());
    }
    if let Some(remote) = &event.remote {
        let number = remote.record();
        let passed = stream.submit(Operation::Pass(remote.clone(), number), Vec::new());
        if passed.is_err() {
            // Nobody shall wait for what will not happen.
            remote.pass(number);
        }
        return passed.map(drop);
    }
    let time = Arc::<OnceLock<_>>::default();
    let marker = stream.submit(Operation::Stamp(time.clone()), Vec::new())?;
    event.set(Recorded::Point { marker, time });
    Ok(())
}

/// # Safety
///
/// The pointer is null or valid.
unsafe fn elapsed(milliseconds: *mut f32, start: Handle, end: Handle) -> Result<()> {
    let driver = driver()?;
    let (start, end) = (driver.events.get(start)?, driver.events.get(end)?);
    let (from, to) = (start.time()?, end.time()?);
    let forward = to.saturating_duration_since(from).as_secs_f64();
    let backward = from.saturating_duration_since(to).as_secs_f64();
    // SAFETY: the caller's.
    unsafe { put(milliseconds, "pMilliseconds", ((forward - backward) * 1e3) as f32) }
}
