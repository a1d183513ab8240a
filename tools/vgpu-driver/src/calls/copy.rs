//! Copies and fills.

use std::ffi::{c_uchar, c_uint, c_ushort, c_void};
use std::slice::from_raw_parts;
use std::sync::Arc;

use crate::abi::{Memcpy2D, MemcpySide};
use crate::capture::refuse_in_capture;
use crate::context::{Context, stream_of, usable};
use crate::driver::driver;
use crate::entry::{api, get, lacking};
use crate::failure::{Failure, Result};
use crate::handles::Handle;
use crate::operation::{Copy, Fill, HostAddress, Operation, Side, Start};
use crate::stream::Stream;

/// Copies of host memory that is not page-locked are staged up to this size, else waited for.
const MAX_STAGED_BYTES: u64 = 64 * 1024;

api! {
    /// Copies between any two addresses.
    fn cuMemcpy(dst: u64, src: u64, bytes: usize) {
        let context = usable()?;
        Transfer::new(any(dst), any(src), bytes).now(&context)?;
    }

    /// Copies between any two addresses, in a stream's order.
    fn cuMemcpyAsync(dst: u64, src: u64, bytes: usize, stream: Handle) {
        usable()?;
        Transfer::new(any(dst), any(src), bytes).enqueue(&stream_of(stream)?)?;
    }

    /// Copies from the host.
    fn cuMemcpyHtoD_v2(dst: u64, src: *const c_void, bytes: usize) {
        let context = usable()?;
        Transfer::new(device(dst), any(src as u64), bytes).now(&context)?;
    }

    /// Copies from the host in a stream's order.
    fn cuMemcpyHtoDAsync_v2(dst: u64, src: *const c_void, bytes: usize, stream: Handle) {
        usable()?;
        Transfer::new(device(dst), any(src as u64), bytes).enqueue(&stream_of(stream)?)?;
    }

    /// Copies to the host.
    fn cuMemcpyDtoH_v2(dst: *mut c_void, src: u64, bytes: usize) {
        let context = usable()?;
        Transfer::new(any(dst as u64), device(src), bytes).now(&context)?;
    }

    /// Copies to the host in a stream's order.
    fn cuMemcpyDtoHAsync_v2(dst: *mut c_void, src: u64, bytes: usize, stream: Handle) {
        usable()?;
        Transfer::new(any(dst as u64), device(src), bytes).enqueue(&stream_of(stream)?)?;
    }

    /// Copies on a device.
    fn cuMemcpyDtoD_v2(dst: u64, src: u64, bytes: usize) {
        let context = usable()?;
        Transfer::new(device(dst), device(src), bytes).now(&context)?;
    }

    /// Copies on a device in a stream's order.
    fn cuMemcpyDtoDAsync_v2(dst: u64, src: u64, bytes: usize, stream: Handle) {
        usable()?;
        Transfer::new(device(dst), device(src), bytes).enqueue(&stream_of(stream)?)?;
    }

    /// Copies from one context's device to another's.
    fn cuMemcpyPeer(dst: u64, dst_context: Handle, src: u64, src_context: Handle, bytes: usize) {
        let context = usable()?;
        driver()?.contexts.get(dst_context)?;
        driver()?.contexts.get(src_context)?;
        Transfer::new(device(dst), device(src), bytes).now(&context)?;
    }

    /// Copies from one context's device to another's, in a stream's order.
    fn cuMemcpyPeerAsync(
        dst: u64,
        dst_context: Handle,
        src: u64,
        src_context: Handle,
        bytes: usize,
        stream: Handle,
    ) {
        usable()?;
        driver()?.contexts.get(dst_context)?;
        driver()?.contexts.get(src_context)?;
        Transfer::new(device(dst), device(src), bytes).enqueue(&stream_of(stream)?)?;
    }

    /// Copies rows.
    fn cuMemcpy2D_v2(copy: *const Memcpy2D) {
        let context = usable()?;
        // SAFETY: the caller's structure of numbers and pointers.
        Transfer::of_rows(&unsafe { get(copy, "pCopy") }?)?.now(&context)?;
    }

    /// Copies rows, whose pitches may be any.
    fn cuMemcpy2DUnaligned_v2(copy: *const Memcpy2D) {
        let context = usable()?;
        // SAFETY: as above.
        Transfer::of_rows(&unsafe { get(copy, "pCopy") }?)?.now(&context)?;
    }

    /// Copies rows in a stream's order.
    fn cuMemcpy2DAsync_v2(copy: *const Memcpy2D, stream: Handle) {
        usable()?;
        // SAFETY: as above.
        Transfer::of_rows(&unsafe { get(copy, "pCopy") }?)?.enqueue(&stream_of(stream)?)?;
    }

    /// Sets bytes.
    fn cuMemsetD8_v2(address: u64, value: c_uchar, count: usize) {
        fill(address, value.into(), 1, [count, 1, 0], None)?;
    }

    /// Sets 16-bit values.
    fn cuMemsetD16_v2(address: u64, value: c_ushort, count: usize) {
        fill(address, value.into(), 2, [count, 1, 0], None)?;
    }

    /// Sets 32-bit values.
    fn cuMemsetD32_v2(address: u64, value: c_uint, count: usize) {
        fill(address, value, 4, [count, 1, 0], None)?;
    }

    /// Sets bytes in a stream's order.
    fn cuMemsetD8Async(address: u64, value: c_uchar, count: usize, stream: Handle) {
        fill(address, value.into(), 1, [count, 1, 0], Some(stream))?;
    }

    /// Sets 16-bit values in a stream's order.
    fn cuMemsetD16Async(address: u64, value: c_ushort, count: usize, stream: Handle) {
        fill(address, value.into(), 2, [count, 1, 0], Some(stream))?;
    }

    /// Sets 32-bit values in a stream's order.
    fn cuMemsetD32Async(address: u64, value: c_uint, count: usize, stream: Handle) {
        fill(address, value, 4, [count, 1, 0], Some(stream))?;
    }

    /// Sets rows of bytes.
    fn cuMemsetD2D8_v2(address: u64, pitch: usize, value: c_uchar, width: usize, height: usize) {
        fill(address, value.into(), 1, [width, height, pitch], None)?;
    }

    /// Sets rows of 16-bit values.
    fn cuMemsetD2D16_v2(address: u64, pitch: usize, value: c_ushort, width: usize, height: usize) {
        fill(address, value.into(), 2, [width, height, pitch], None)?;
    }

    /// Sets rows of 32-bit values.
    fn cuMemsetD2D32_v2(address: u64, pitch: usize, value: c_uint, width: usize, height: usize) {
        fill(address, value, 4, [width, height, pitch], None)?;
    }

    /// Sets rows of bytes in a stream's order.
    fn cuMemsetD2D8Async(
        address: u64,
        pitch: usize,
        value: c_uchar,
        width: usize,
        height: usize,
        stream: Handle,
    ) {
        fill(address, value.into(), 1, [width, height, pitch], Some(stream))?;
    }

    /// Sets rows of 16-bit values in a stream's order.
    fn cuMemsetD2D16Async(
        address: u64,
        pitch: usize,
        value: c_ushort,
        width: usize,
        height: usize,
        stream: Handle,
    ) {
        fill(address, value.into(), 2, [width, height, pitch], Some(stream))?;
    }

    /// Sets rows of 32-bit values in a stream's order.
    fn cuMemsetD2D32Async(
        address: u64,
        pitch: usize,
        value: c_uint,
        width: usize,
        height: usize,
        stream: Handle,
    ) {
        fill(address, value, 4, [width, height, pitch], Some(stream))?;
    }
}

/// A copy before its addresses are looked up.
struct Transfer {
    dst: Place,
    src: Place,
    width: u64,
    height: u64,
}

/// An address as the caller gave it.
#[derive(Clone, Copy)]
struct Place {
    address: u64,
    pitch: u64,
    /// It must be memory that devices see.
    is_device: bool,
}

fn any(address: u64) -> Place {
    Place { address, pitch: 0, is_device: false }
}

fn device(address: u64) -> Place {
    Place { address, pitch: 0, is_device: true }
}

impl Transfer {
    fn new(dst: Place, src: Place, bytes: usize) -> Self {
        Transfer { dst, src, width: bytes as u64, height: 1 }
    }

    fn of_rows(copy: &Memcpy2D) -> Result<Self> {
        let place = |side: &MemcpySide, arg: &str| {
            let offset = side.y.wrapping_mul(side.pitch).wrapping_add(side.x_in_bytes) as u64;
            let (address, is_device) = match side.memory_type {
                1 => (side.host as u64, false),
                2 => (side.device, true),
                4 => (side.device, false),
                3 => return Err(lacking("copies of arrays")),
                other => return Err(Failure::argument(arg, "a CUmemorytype", other)),
            };
            if copy.height > 1 && side.pitch < copy.width_in_bytes {
                return Err(Failure::argument("pitch", "at least WidthInBytes", side.pitch));
            }
            Ok(Place { address: address.wrapping_add(offset), pitch: side.pitch as u64, is_device })
        };
        let dst = place(&copy.dst, "dstMemoryType")?;
        let src = place(&copy.src, "srcMemoryType")?;
        Ok(Transfer { dst, src, width: copy.width_in_bytes as u64, height: copy.height as u64 })
    }

    /// From the first byte to the last.
    fn extent(&self, place: Place) -> u64 {
        match self.width * self.height {
            0 => 0,
            _ => (self.height - 1).saturating_mul(place.pitch).saturating_add(self.width),
        }
    }

    /// Looks an address up.
    fn side(&self, place: Place, arg: &str) -> Result<Side> {
        let extent = self.extent(place);
        let Place { address, pitch, is_device } = place;
        let start = match driver()?.check_span(address, extent) {
            Ok(()) => Start::Device(address),
            Err(error) if is_device || driver()?.memory.allocation(address).is_some() => {
                return Err(Failure::argument(arg, "an address in device memory", error));
            }
            Err(_) if address == 0 => return Err(Failure::argument(arg, "an address", "null")),
            Err(_) => Start::Host(HostAddress(address as *mut u8)),
        };
        Ok(Side { start, pitch })
    }

    fn copy(&self) -> Result<Copy> {
        let (dst, src) = (self.side(self.dst, "dst")?, self.side(self.src, "src")?);
        Ok(Copy { dst, src, width: self.width, height: self.height })
    }

    /// Copies after the work of the default stream, and waits.
    fn now(&self, context: &Context) -> Result<()> {
        let copy = self.copy()?;
        refuse_in_capture()?;
        if self.width * self.height == 0 {
            return Ok(());
        }
        context.null.run(Operation::Copy(copy))
    }

    /// Enqueues the copy. Host memory that is not page-locked is read before the call returns, and
    /// written before it returns.
    fn enqueue(&self, stream: &Arc<Stream>) -> Result<()> {
        let mut copy = self.copy()?;
        if stream.capture.is_active() {
            return stream.enqueue(Operation::Copy(copy));
        }
        let writes_host = matches!(copy.dst.start, Start::Host(_));
        let mut must_wait = writes_host;
        if let Start::Host(HostAddress(start)) = copy.src.start {
            let extent = self.extent(self.src);
            if !writes_host && extent <= MAX_STAGED_BYTES {
                // SAFETY: the caller's memory of this length.
                let bytes = unsafe { from_raw_parts(start, extent as usize) };
                copy.src.start = Start::Staged(bytes.into());
            } else {
                must_wait = true;
            }
        }
        match must_wait {
            true => stream.run(Operation::Copy(copy)),
            false => stream.enqueue(Operation::Copy(copy)),
        }
    }
}

/// Sets `[width, height, pitch]` of elements.
fn fill(
    address: u64,
    value: u32,
    element_bytes: u64,
    [width, height, pitch]: [usize; 3],
    stream: Option<Handle>,
) -> Result<()> {
    let context = usable()?;
    let [width, height, pitch] = [width, height, pitch].map(|it| it as u64);
    let row = width.saturating_mul(element_bytes);
    if !address.is_multiple_of(element_bytes) {
        let expected = format!("a multiple of {element_bytes}");
        return Err(Failure::argument("dstDevice", expected, format!("{address:#x}")));
    }
    if height > 1 && (pitch < row || !pitch.is_multiple_of(element_bytes)) {
        return Err(Failure::argument("dstPitch", "whole elements, at least a row", pitch));
    }
    let stream = match stream {
        Some(handle) => Some(stream_of(handle)?),
        None => {
            refuse_in_capture()?;
            None
        }
    };
    if row == 0 || height == 0 {
        return Ok(());
    }
    let extent = (height - 1).saturating_mul(pitch).saturating_add(row);
    if let Err(error) = driver()?.check_span(address, extent) {
        return Err(Failure::argument("dstDevice", "device memory", error));
    }
    let fill = Operation::Fill(Fill { address, value, element_bytes, width, height, pitch });
    match stream {
        Some(stream) => stream.enqueue(fill),
        None => context.null.run(fill),
    }
}
