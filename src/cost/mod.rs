//! What a call cannot do without: arithmetic and traffic of every operation, and the least time that a
//! device needs for it.

mod device;
mod stages;
#[cfg(test)]
mod tests;

use std::iter::Sum;
use std::ops::Add;

use serde::Serialize;

pub use device::DeviceSpec;

/// Arithmetic and traffic of a call.
///
/// # Examples
///
/// ```
/// use moekit::cost::{Cost, DeviceSpec};
///
/// let cost = Cost { fp8_flops: 1_979_000_000, hbm_bytes: 6_700_000, ..Cost::default() };
/// let floor = cost.floor(&DeviceSpec::H100_SXM);
/// assert_eq!((floor.tensor_us, floor.hbm_us), (1.0, 2.0));
/// assert_eq!(floor.time_us(), 2.0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Cost {
    /// Operations of the FP8 matrix products; a multiply-add is two.
    pub fp8_flops: u64,
    /// Operations of the BF16 matrix products.
    pub bf16_flops: u64,
    /// Bytes of memory read + written, each input and output once.
    pub hbm_bytes: u64,
    /// Bytes that go to other ranks.
    pub link_bytes: u64,
}

/// The least time that each part of a device needs for a call; parts work at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Floor {
    /// Matrix products on the tensor cores.
    pub tensor_us: f64,
    /// Device memory.
    pub hbm_us: f64,
    /// Links to other GPUs, one direction.
    pub link_us: f64,
}

impl Cost {
    /// Operations of all matrix products.
    pub const fn flops(&self) -> u64 {
        self.fp8_flops + self.bf16_flops
    }

    /// The least time that `device` needs.
    pub fn floor(&self, device: &DeviceSpec) -> Floor {
        // 10^12 per second are 10^6 per microsecond.
        let tensor_us = self.fp8_flops as f64 / (device.fp8_tflops * 1e6)
            + self.bf16_flops as f64 / (device.bf16_tflops * 1e6);
        Floor {
            tensor_us,
            hbm_us: self.hbm_bytes as f64 / (device.hbm_gb_per_s * 1e3),
            link_us: self.link_bytes as f64 / (device.link_gb_per_s * 1e3),
        }
    }
}

impl Floor {
    /// The slowest part's time.
    pub fn time_us(&self) -> f64 {
        self.tensor_us.max(self.hbm_us).max(self.link_us)
    }
}

impl Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            fp8_flops: self.fp8_flops + other.fp8_flops,
            bf16_flops: self.bf16_flops + other.bf16_flops,
            hbm_bytes: self.hbm_bytes + other.hbm_bytes,
            link_bytes: self.link_bytes + other.link_bytes,
        }
    }
}

impl Sum for Cost {
    fn sum<I: Iterator<Item = Self>>(costs: I) -> Self {
        costs.fold(Self::default(), Add::add)
    }
}
