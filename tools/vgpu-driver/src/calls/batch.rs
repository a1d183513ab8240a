//! Waits for values in memory and writes of them, one by one and in batches.

use std::ffi::c_uint;

use crate::context::{stream_of, usable};
use crate::entry::{api, lacking};
use crate::failure::{Failure, Result};
use crate::handles::Handle;
use crate::operation::Operation;
use crate::value::{Until, Value};

/// `CU_STREAM_WAIT_VALUE_FLUSH`: nothing needs to be flushed here.
const FLUSH: u32 = 1 << 30;
/// `CU_STREAM_WRITE_VALUE_NO_MEMORY_BARRIER`: there always is one.
const NO_BARRIER: u32 = 1;

/// `CUstreamBatchMemOpParams`: operation, address, value, flags, alias.
type Params = [u64; 6];

api! {
    /// Waits until a number of 4 bytes is as it should be.
    fn cuStreamWaitValue32_v2(stream: Handle, address: u64, value: u32, flags: c_uint) {
        wait(stream, Value { address, is_wide: false, value: value.into() }, flags)?;
    }

    /// Waits until a number of 4 bytes is as it should be.
    fn cuStreamWaitValue32(stream: Handle, address: u64, value: u32, flags: c_uint) {
        wait(stream, Value { address, is_wide: false, value: value.into() }, flags)?;
    }

    /// Waits until a number of 8 bytes is as it should be.
    fn cuStreamWaitValue64_v2(stream: Handle, address: u64, value: u64, flags: c_uint) {
        wait(stream, Value { address, is_wide: true, value }, flags)?;
    }

    /// Waits until a number of 8 bytes is as it should be.
    fn cuStreamWaitValue64(stream: Handle, address: u64, value: u64, flags: c_uint) {
        wait(stream, Value { address, is_wide: true, value }, flags)?;
    }

    /// Writes a number of 4 bytes.
    fn cuStreamWriteValue32_v2(stream: Handle, address: u64, value: u32, flags: c_uint) {
        write(stream, Value { address, is_wide: false, value: value.into() }, flags)?;
    }

    /// Writes a number of 4 bytes.
    fn cuStreamWriteValue32(stream: Handle, address: u64, value: u32, flags: c_uint) {
        write(stream, Value { address, is_wide: false, value: value.into() }, flags)?;
    }

    /// Writes a number of 8 bytes.
    fn cuStreamWriteValue64_v2(stream: Handle, address: u64, value: u64, flags: c_uint) {
        write(stream, Value { address, is_wide: true, value }, flags)?;
    }

    /// Writes a number of 8 bytes.
    fn cuStreamWriteValue64(stream: Handle, address: u64, value: u64, flags: c_uint) {
        write(stream, Value { address, is_wide: true, value }, flags)?;
    }

    /// Several of these, in order.
    fn cuStreamBatchMemOp_v2(stream: Handle, count: c_uint, params: *const Params, flags: c_uint) {
        // SAFETY: the caller's array.
        unsafe { batch(stream, count, params, flags) }?;
    }

    /// Several of these, in order.
    fn cuStreamBatchMemOp(stream: Handle, count: c_uint, params: *const Params, flags: c_uint) {
        // SAFETY: the caller's array.
        unsafe { batch(stream, count, params, flags) }?;
    }
}

fn until(flags: u32) -> Result<Until> {
    let refuse = || Failure::argument("flags", "a CUstreamWaitValue_flags", flags);
    Until::from_number(flags & !FLUSH).ok_or_else(refuse)
}

fn checked(value: Value) -> Result<Value> {
    let bytes = if value.is_wide { 8 } else { 4 };
    match value.address.is_multiple_of(bytes) && value.address != 0 {
        true => Ok(value),
        false => {
            let got = format!("{:#x}", value.address);
            Err(Failure::argument("addr", format!("a multiple of {bytes}"), got))
        }
    }
}

fn wait(stream: Handle, value: Value, flags: u32) -> Result<()> {
    usable()?;
    let operation = Operation::Await(checked(value)?, until(flags)?);
    stream_of(stream)?.enqueue(operation)
}

fn write(stream: Handle, value: Value, flags: u32) -> Result<()> {
    usable()?;
    if flags & !NO_BARRIER != 0 {
        return Err(Failure::argument("flags", "a CUstreamWriteValue_flags", flags));
    }
    stream_of(stream)?.enqueue(Operation::Write(checked(value)?))
}

/// # Safety
///
/// `params` is null or has `count` entries.
unsafe fn batch(stream: Handle, count: u32, params: *const Params, flags: u32) -> Result<()> {
    usable()?;
    if flags != 0 || params.is_null() && count > 0 {
        return Err(Failure::argument("paramArray", "an array, with no flags", "something else"));
    }
    // All are looked at before the first is enqueued.
    let mut operations = Vec::with_capacity(count as usize);
    for index in 0..count as usize {
        // SAFETY: the caller's array.
        let [operation, address, value, flags, ..] = unsafe { params.add(index).read_unaligned() };
        let (operation, flags) = (operation as u32, flags as u32);
        let narrow = Value { address, is_wide: false, value: value & 0xffff_ffff };
        let wide = Value { address, is_wide: true, value };
        operations.push(match operation {
            1 => Operation::Await(checked(narrow)?, until(flags)?),
            4 => Operation::Await(checked(wide)?, until(flags)?),
            2 => Operation::Write(checked(narrow)?),
            5 => Operation::Write(checked(wide)?),
            // A flush of remote writes, a barrier: memory is always in order here.
            3 | 6 => Operation::Nothing,
            other => return Err(lacking(&format!("stream memory operation {other}"))),
        });
    }
    let stream = stream_of(stream)?;
    operations.into_iter().try_for_each(|operation| stream.enqueue(operation))
}
