//! Waits for values in memory, and writes of them, in a stream's order.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread::sleep;
use std::time::Duration;

use crate::driver::driver;
use crate::failure::{Failure, Result};
use crate::status::Status;

/// How often a waiting thread looks.
const INTERVAL: Duration = Duration::from_micros(20);

/// When a wait ends: `CUstreamWaitValue_flags` without the flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Until {
    /// `(signed) (*address - value) >= 0`.
    AtLeast = 0,
    /// `*address == value`.
    Equal = 1,
    /// `*address & value != 0`.
    And = 2,
    /// `~(*address | value) != 0`.
    Nor = 3,
}

impl Until {
    /// By the driver's number.
    pub fn from_number(number: u32) -> Option<Self> {
        let all = [Until::AtLeast, Until::Equal, Until::And, Until::Nor];
        all.get(number as usize).copied()
    }

    fn holds(self, found: u64, value: u64, is_wide: bool) -> bool {
        let bits = if is_wide { 64 } else { 32 };
        // The highest bit that counts comes to the top, where it is a sign.
        let top = |x: u64| (x << (64 - bits)) as i64;
        match self {
            Until::AtLeast => top(found.wrapping_sub(value)) >= 0,
            Until::Equal => top(found) == top(value),
            Until::And => top(found & value) != 0,
            Until::Nor => top(!(found | value)) != 0,
        }
    }
}

/// A number of 4 or 8 bytes in memory.
#[derive(Clone, Copy, Debug)]
pub struct Value {
    /// Its address.
    pub address: u64,
    /// It has 8 bytes.
    pub is_wide: bool,
    /// To compare with, or to write.
    pub value: u64,
}

impl Value {
    /// Runs `access` on the memory.
    fn access<T>(&self, access: impl FnOnce(*mut u8) -> T) -> Result<T> {
        let bytes = if self.is_wide { 8 } else { 4 };
        let (span, length) = driver()?.memory.span_from(self.address, bytes)?;
        if length < bytes || !self.address.is_multiple_of(bytes) {
            let reason = format!("{bytes} bytes at {:#x} for a value", self.address);
            return Err(Failure::new(Status::ILLEGAL_ADDRESS, reason));
        }
        // It is written here, or by somebody who is waited for.
        driver()?.memory.initialise(self.address, bytes)?;
        Ok(access(span.as_mut_ptr()))
    }

    /// Waits.
    ///
    /// # Errors
    ///
    /// `ILLEGAL_ADDRESS`, `INVALID_VALUE` if the memory is not there.
    pub fn wait(&self, until: Until) -> Result<()> {
        let load = |at: *mut u8| {
            // SAFETY: `access` found the bytes, aligned.
            unsafe {
                match self.is_wide {
                    true => AtomicU64::from_ptr(at.cast()).load(Ordering::Acquire),
                    false => AtomicU32::from_ptr(at.cast()).load(Ordering::Acquire).into(),
                }
            }
        };
        while !until.holds(self.access(load)?, self.value, self.is_wide) {
            sleep(INTERVAL);
        }
        Ok(())
    }

    /// Writes.
    ///
    /// # Errors
    ///
    /// As [`Value::wait`].
    pub fn write(&self) -> Result<()> {
        // SAFETY: `access` found the bytes, aligned.
        self.access(|at| unsafe {
            match self.is_wide {
                true => AtomicU64::from_ptr(at.cast()).store(self.value, Ordering::Release),
                false => AtomicU32::from_ptr(at.cast()).store(self.value as u32, Ordering::Release),
            }
        })?;
        let bytes = if self.is_wide { 8 } else { 4 };
        Ok(driver()?.memory.initialise(self.address, bytes)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_those_of_the_width() {
        assert!(Until::AtLeast.holds(0x1_0000_0000, 0xffff_ffff, true));
        assert!(Until::AtLeast.holds(3, 0xffff_fff0, false), "numbers go round");
        assert!(!Until::AtLeast.holds(3, 4, false));
        assert!(Until::Equal.holds(7, 0x5_0000_0007, false));
        assert!(!Until::Equal.holds(7, 0x5_0000_0007, true));
        assert!(!Until::And.holds(4, 3, true) && Until::And.holds(4, 6, true));
        assert!(!Until::Nor.holds(0xffff_0000, 0xffff, false));
        assert!(Until::Nor.holds(0xffff_0000, 0xffff, true));
    }
}
