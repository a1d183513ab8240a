//! Multicast objects: addresses at which `multimem` instructions see the memory of several devices.

use std::collections::BTreeSet;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex};

use vgpu::{HostBytes, Replicas};

use crate::context::lock;
use crate::failure::{Failure, Result};
use crate::status::Status;
use crate::vmm::{GRANULARITY, Physical};

/// A multicast object.
pub struct Multicast {
    num_devices: usize,
    bytes: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    devices: BTreeSet<usize>,
    bindings: Vec<Binding>,
}

/// A device's memory in a part of the object.
struct Binding {
    device: usize,
    offset: u64,
    bytes: u64,
    physical: Arc<Physical>,
    /// First byte in the physical memory.
    at: u64,
}

/// A part of a physical memory.
pub struct Part {
    /// The memory.
    pub physical: Arc<Physical>,
    /// First byte.
    pub at: u64,
    /// How many.
    pub bytes: u64,
}

impl Multicast {
    /// An object for so many devices.
    ///
    /// # Errors
    ///
    /// `INVALID_VALUE`.
    pub fn new(num_devices: usize, bytes: u64, present: usize) -> Result<Self> {
        if num_devices == 0 || num_devices > present {
            let expected = format!("1 to {present} devices");
            return Err(Failure::argument("numDevices", expected, num_devices));
        }
        if bytes == 0 || !bytes.is_multiple_of(GRANULARITY) {
            return Err(Failure::argument("size", "a multiple of 2 MiB", bytes));
        }
        Ok(Multicast { num_devices, bytes, state: Mutex::default() })
    }

    /// Its addresses' length.
    pub fn len(&self) -> u64 {
        self.bytes
    }

    /// Adds a device.
    ///
    /// # Errors
    ///
    /// `INVALID_VALUE` if it is there already, or all are.
    pub fn add_device(&self, device: usize) -> Result<()> {
        let devices = &mut lock(&self.state).devices;
        if devices.len() == self.num_devices || !devices.insert(device) {
            let expected = format!("one more of {} devices", self.num_devices);
            return Err(Failure::argument("dev", expected, device));
        }
        Ok(())
    }

    /// Binds memory of its device.
    ///
    /// # Errors
    ///
    /// `ILLEGAL_STATE` before all devices were added; `INVALID_VALUE` if the device is none of them, the
    /// part does not fit, or something is bound there.
    pub fn bind(&self, offset: u64, part: Part) -> Result<()> {
        let mut state = lock(&self.state);
        if state.devices.len() < self.num_devices {
            let reason =
                format!("{} of {} devices were added", state.devices.len(), self.num_devices);
            return Err(Failure::new(Status::ILLEGAL_STATE, reason));
        }
        let Part { physical, at, bytes } = part;
        let device = physical.device;
        let fits = |start: u64, length: u64| {
            start.checked_add(bytes).is_some_and(|end| end <= length)
                && start.is_multiple_of(GRANULARITY)
        };
        let is_whole = bytes > 0 && bytes.is_multiple_of(GRANULARITY);
        if !is_whole || !fits(offset, self.bytes) || !fits(at, physical.len()) {
            let got = format!("{bytes} bytes from {at} on, at {offset}");
            return Err(Failure::argument("size", "parts in multiples of 2 MiB", got));
        }
        let overlaps = |it: &Binding| {
            it.device == device && it.offset < offset + bytes && offset < it.offset + it.bytes
        };
        if !state.devices.contains(&device) || state.bindings.iter().any(overlaps) {
            return Err(Failure::argument("memHandle", "an added device, once", device));
        }
        state.bindings.push(Binding { device, offset, bytes, physical, at });
        state.bindings.sort_by_key(|it| (it.device, it.offset));
        Ok(())
    }

    /// Ends a device's bindings in a range.
    ///
    /// # Errors
    ///
    /// `INVALID_VALUE` unless the range is made of whole ones.
    pub fn unbind(&self, device: usize, offset: u64, bytes: u64) -> Result<()> {
        let mut state = lock(&self.state);
        let end = offset.saturating_add(bytes);
        let is_inside = |it: &Binding| {
            it.device == device && it.offset >= offset && it.offset + it.bytes <= end
        };
        let covered: u64 =
            state.bindings.iter().filter(|it| is_inside(it)).map(|it| it.bytes).sum();
        if bytes == 0 || covered != bytes {
            let got = format!("{bytes} bytes at {offset}");
            return Err(Failure::argument("size", "whole bindings", got));
        }
        state.bindings.retain(|it| !is_inside(it));
        Ok(())
    }
}

/// An object that stays as long as it is mapped.
pub struct Mapped(pub Arc<Multicast>);

// SAFETY: bound memory stays while it is bound, and a kernel that uses what was unbound meanwhile breaks
// the driver's rules; `bind` checked that parts lie in their memory, which begins at a page.
unsafe impl Replicas for Mapped {
    fn bytes(&self) -> u64 {
        self.0.bytes
    }

    fn copies(&self, offset: u64, bytes: u64) -> Option<Vec<NonNull<u8>>> {
        let state = lock(&self.0.state);
        let inside = |it: &&Binding| {
            it.offset <= offset && offset.saturating_add(bytes) <= it.offset + it.bytes
        };
        let place = |it: &Binding| {
            let at = it.at + (offset - it.offset);
            // SAFETY: inside of the physical memory.
            unsafe { it.physical.start().add(at as usize) }
        };
        let copies: Vec<_> = state.bindings.iter().filter(inside).map(place).collect();
        (copies.len() == self.0.num_devices).then_some(copies)
    }
}

impl Physical {
    fn start(&self) -> NonNull<u8> {
        self.host_bytes().start()
    }
}
