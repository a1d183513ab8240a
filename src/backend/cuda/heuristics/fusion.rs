//! Whether the experts' first product should take its activation along.

use serde::Serialize;

use super::choose::{ChooseOptions, choose};
use crate::cost::DeviceSpec;
use crate::error::Result;
use crate::gemm::{GemmOutFormat, GemmShape};

/// Of the device's bandwidth what `swiglu_quantize` reaches, and its start and end. Measured on an H200.
const SWIGLU_BANDWIDTH: f64 = 0.5;
const SWIGLU_LAUNCH_US: f64 = 3.5;

/// Estimated times of a product with its activation, in one stage and in two.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SwigluFusion {
    /// One stage.
    pub fused_us: f64,
    /// The product alone, into BF16.
    pub product_us: f64,
    /// Activation and quantisation of that.
    pub swiglu_us: f64,
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
    /// let one = GemmShape::new(GemmKind::Contiguous, 8192, 4096, 7168);
    /// let shape = GemmShape { num_groups: 4, ..one };
    /// let device = DeviceSpec::H200;
    /// assert!(SwigluFusion::new(&shape, &device, &ChooseOptions::default())?.pays());
    /// # Ok::<(), moekit::Error>(())
    /// ```
    pub fn new(shape: &GemmShape, device: &DeviceSpec, options: &ChooseOptions) -> Result<Self> {
        let time_us = |out| {
            choose(&GemmShape { out, ..*shape }, device, options).map(|it| it.estimate.time_us)
        };
        let row_bytes = GemmOutFormat::Bf16.traffic_bytes(shape.n)
            + GemmOutFormat::SwigluFp8.traffic_bytes(shape.n);
        let num_bytes = (shape.num_groups * shape.m * row_bytes) as f64;
        let swiglu_us = num_bytes / (device.hbm_gb_per_s * SWIGLU_BANDWIDTH * 1e3);
        Ok(Self {
            fused_us: time_us(GemmOutFormat::SwigluFp8)?,
            product_us: time_us(GemmOutFormat::Bf16)?,
            swiglu_us: SWIGLU_LAUNCH_US + swiglu_us,
        })
    }

    /// Both stages.
    pub fn two_stages_us(&self) -> f64 {
        self.product_us + self.swiglu_us
    }

    /// Whether one stage takes less time.
    pub fn pays(&self) -> bool {
        self.fused_us < self.two_stages_us()
    }
}
