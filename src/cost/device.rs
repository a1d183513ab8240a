//! What a device can do at its best, in figures.

use serde::Serialize;

use crate::error::{Error, Result};

/// A GPU in figures; the maker's, not measured ones.
///
/// # Examples
///
/// ```
/// use moekit::cost::DeviceSpec;
///
/// let h800 = DeviceSpec::named("h800")?;
/// assert_eq!(h800.num_sms, DeviceSpec::H100_SXM.num_sms);
/// assert_eq!(h800.link_gb_per_s, 200.0);
/// # Ok::<(), moekit::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct DeviceSpec {
    /// What [`DeviceSpec::named`] finds it by.
    pub name: &'static str,
    /// Streaming multiprocessors.
    pub num_sms: usize,
    /// Highest clock of the SMs, GHz: the one that `fp8_tflops` refers to.
    pub clock_ghz: f64,
    /// Shared memory that one CTA can have, bytes.
    pub max_smem_bytes: usize,
    /// L2 cache, bytes.
    pub l2_bytes: usize,
    /// Device memory's bandwidth, 10^9 bytes per second, reads and writes together.
    pub hbm_gb_per_s: f64,
    /// Bandwidth to other GPUs of the node, 10^9 bytes per second, one direction.
    pub link_gb_per_s: f64,
    /// 10^12 FP8 operations per second, dense, a multiply-add counted as two.
    pub fp8_tflops: f64,
    /// 10^12 BF16 operations per second, dense.
    pub bf16_tflops: f64,
}

impl DeviceSpec {
    /// H100 SXM5, 80 GB.
    ///
    /// # Source
    ///
    /// NVIDIA H100 data sheet (rates, half of those with sparsity; bandwidths) and the Hopper architecture
    /// white paper (132 SMs, 50 MB of L2; the rates are those at 1830 MHz); CUDA programming guide, compute capability 9.0 (227 KiB
    /// of shared memory per block).
    pub const H100_SXM: Self = Self {
        name: "h100",
        num_sms: 132,
        clock_ghz: 1.83,
        max_smem_bytes: 227 * 1024,
        l2_bytes: 50 << 20,
        hbm_gb_per_s: 3350.0,
        link_gb_per_s: 450.0,
        fp8_tflops: 1979.0,
        bf16_tflops: 989.5,
    };

    /// H800 SXM5, 80 GB: an H100 with less NVLink, 400 GB/s in both directions together.
    ///
    /// # Source
    ///
    /// As for the H100; DeepSeek-V3 technical report, section 3.1 ("NVLink offers a bandwidth of 160 GB/s" is what
    /// they reach of 200).
    pub const H800: Self = Self { name: "h800", link_gb_per_s: 200.0, ..Self::H100_SXM };

    /// H200 SXM, 141 GB: an H100 with faster memory.
    ///
    /// # Source
    ///
    /// NVIDIA H200 data sheet.
    pub const H200: Self = Self { name: "h200", hbm_gb_per_s: 4800.0, ..Self::H100_SXM };

    /// Every device that has a name here.
    pub const ALL: [Self; 3] = [Self::H100_SXM, Self::H800, Self::H200];

    /// Finds a device by its name.
    ///
    /// # Errors
    ///
    /// [`Error::Value`] for any other name.
    pub fn named(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|device| device.name == name).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|device| device.name).collect();
            Error::value("device", "name", format!("one of {}", names.join(", ")), name)
        })
    }

    /// FP8 operations of one SM in one cycle.
    pub(crate) fn fp8_flops_per_cycle(&self) -> f64 {
        self.fp8_tflops * 1e3 / (self.num_sms as f64 * self.clock_ghz)
    }

    /// BF16 operations of one SM in one cycle.
    pub(crate) fn bf16_flops_per_cycle(&self) -> f64 {
        self.bf16_tflops * 1e3 / (self.num_sms as f64 * self.clock_ghz)
    }
}
