//! Whether the experts' first product takes its activation along.

use super::OP;
use super::ep_config::WireFormat;
use super::quant::GRAN_K;
use crate::error::{Error, Result};
use crate::tensor::check;

/// Whether the routed experts' first product, their activation and its quantisation run as one stage
/// ([`gemm::SwigluOut`](crate::gemm::SwigluOut)). The bits are the same on each backend; it is for FP8 weights and an
/// `intermediate_hidden` that is a multiple of 128.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fusion {
    /// Two stages.
    #[default]
    Off,
    /// One stage where it is possible and the backend expects it to take less time; memory for both.
    WherePays,
    /// One stage always. The tensor between the stages, the largest of the layer, is not allocated.
    On,
}

impl Fusion {
    /// Refuses a layer whose experts cannot be fused and must be.
    pub(super) fn check(self, wire: WireFormat, intermediate_hidden: usize) -> Result<()> {
        if self != Self::On {
            return Ok(());
        }
        if wire != WireFormat::Fp8 {
            return Err(Error::value(OP, "weights", "FP8 where `fusion` is on", "BF16"));
        }
        check::multiple(OP, "intermediate_hidden", GRAN_K, intermediate_hidden)
    }
}
