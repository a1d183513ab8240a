//! Whether the experts' first product should take its activation along.

use serde::Serialize;

use super::choose::{ChooseOptions, choose};
use crate::cost::DeviceSpec;
use crate::error::Result;
use crate::gemm::{GemmOutFormat, GemmShape};

/// Of the device's bandwidth what `swiglu_quantize` reaches, and its start and end. Measured on an H200.
const SWIGLU_BANDWIDTH: f64 = 0.55;
const SWIGLU_LAUNCH_US: f64 = 3.5;
/// Where one stage was measured to take less time, on an H200: in few waves, or in any number if memory is the limit by
/// far. Beyond, the activations held up the products.
const MAX_WAVES: f64 = 4.0;
const MAX_CTAS_OVER_MEMORY: f64 = 0.8;

/// Estimated times of a product with its activation, in one stage and in two.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SwigluFusion {
    /// One stage.
    pub fused_us: f64,
    /// The product alone, into BF16.
    pub product_us: f64,
    /// Activation and quantisation of that.
    pub swiglu_us: f64,
    /// Rounds of tiles of the one stage, on average.
    pub num_waves: f64,
    /// Time of its CTAs over that of device memory.
    pub ctas_over_memory: f64,
}

impl SwigluFusion {
    /// Estimates both for a shape, whatever its format of D says.
    ///
    /// # Errors
    ///
    /// Those of [`choose`].
    ///
    /// # Examples
    ///
    /// ```
    /// use moekit::backend::cuda::heuristics::{ChooseOptions, SwigluFusion};
    /// use moekit::cost::DeviceSpec;
    /// use moekit::gemm::{GemmKind, GemmShape};
    ///
    /// let pays = |kind, num_groups, m| -> moekit::Result<bool> {
    ///     let shape = GemmShape { num_groups, ..GemmShape::new(kind, m, 4096, 7168) };
    ///     Ok(SwigluFusion::new(&shape, &DeviceSpec::H200, &ChooseOptions::default())?.pays())
    /// };
    /// assert!(pays(GemmKind::Masked, 32, 16)?);
    /// assert!(!pays(GemmKind::Contiguous, 4, 8192)?);
    /// # Ok::<(), moekit::Error>(())
    /// ```
    pub fn new(shape: &GemmShape, device: &DeviceSpec, options: &ChooseOptions) -> Result<Self> {
        let estimate =
            |out| choose(&GemmShape { out, ..*shape }, device, options).map(|it| it.estimate);
        let fused = estimate(GemmOutFormat::SwigluFp8)?;
        let row_bytes = GemmOutFormat::Bf16.traffic_bytes(shape.n)
            + GemmOutFormat::SwigluFp8.traffic_bytes(shape.n);
        let num_bytes = (shape.num_groups * shape.m * row_bytes) as f64;
        let swiglu_us = num_bytes / (device.hbm_gb_per_s * SWIGLU_BANDWIDTH * 1e3);
        Ok(Self {
            fused_us: fused.time_us,
            product_us: estimate(GemmOutFormat::Bf16)?.time_us,
            swiglu_us: SWIGLU_LAUNCH_US + swiglu_us,
            num_waves: fused.num_waves,
            ctas_over_memory: fused.cta_us / fused.hbm_us,
        })
    }

    /// Both stages.
    pub fn two_stages_us(&self) -> f64 {
        self.product_us + self.swiglu_us
    }

    /// Whether one stage takes less time: by the estimates, and only where it was measured to.
    pub fn pays(&self) -> bool {
        let was_measured =
            self.num_waves <= MAX_WAVES || self.ctas_over_memory <= MAX_CTAS_OVER_MEMORY;
        was_measured && self.fused_us < self.two_stages_us()
    }
}
