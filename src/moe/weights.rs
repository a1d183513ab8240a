//! The weights of one MoE layer, as one rank holds them.

use super::OP;
use super::gate::GateConfig;
use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::num::{bf16, ceil_div};
use crate::tensor::{QuantTensor, Tensor, check};

/// The shape of an MoE layer; DeepSeek-V3's names are in parentheses.
///
/// # Examples
///
/// ```
/// use moekit::moe::gate::{GateConfig, Scoring};
/// use moekit::moe::weights::MoeConfig;
/// let tiny = MoeConfig {
///     hidden: 256,
///     intermediate_hidden: 128,
///     num_shared_experts: 1,
///     swiglu_limit: None,
///     gate: GateConfig {
///         num_experts: 16,
///         num_topk: 4,
///         scoring: Scoring::Sigmoid,
///         num_expert_groups: 4,
///         num_topk_groups: 2,
///         renormalize: true,
///         routed_scaling_factor: 2.5,
///     },
/// };
/// tiny.check()?;
/// # Ok::<(), moekit::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct MoeConfig {
    /// Elements of a token (`hidden_size`); a multiple of 16.
    pub hidden: usize,
    /// Width of one expert (`moe_intermediate_size`); a multiple of 16.
    pub intermediate_hidden: usize,
    /// Shared experts, held as one of `num_shared_experts * intermediate_hidden` (`n_shared_experts`).
    pub num_shared_experts: usize,
    /// Clamp of SwiGLU's inputs (`swiglu_limit`); `None` = no clamp.
    pub swiglu_limit: Option<f32>,
    /// The router.
    pub gate: GateConfig,
}

impl MoeConfig {
    /// Checks the extents.
    ///
    /// # Errors
    ///
    /// Those of [`GateConfig::check`]; [`Error::Alignment`] unless both widths are multiples of 16;
    /// [`Error::Value`] if one is 0 or the limit is not positive.
    pub fn check(&self) -> Result<()> {
        self.gate.check()?;
        for (arg, width) in
            [("hidden", self.hidden), ("intermediate_hidden", self.intermediate_hidden)]
        {
            check::multiple(OP, arg, 16, width)?;
            if width == 0 {
                return Err(Error::value(OP, arg, "at least 16", 0));
            }
        }
        if self.swiglu_limit.is_some_and(|limit| !limit.is_finite() || limit <= 0.0) {
            let got = self.swiglu_limit.unwrap_or_default();
            return Err(Error::value(OP, "swiglu_limit", "a positive number", got));
        }
        Ok(())
    }

    /// Width of the shared expert; 0 = none.
    pub fn shared_intermediate_hidden(&self) -> usize {
        self.num_shared_experts * self.intermediate_hidden
    }
}

/// One matrix for each expert, all of one number format.
#[derive(Debug)]
pub enum ExpertMatrices<B: Backend> {
    /// E4M3 `[num_experts, n, k]`, FP32 scales `[num_experts, ceil_div(n, 128), ceil_div(k, 128)]`.
    Fp8(QuantTensor<B, 3>),
    /// BF16 `[num_experts, n, k]`.
    Bf16(Tensor<B, bf16, 3>),
}

impl<B: Backend> ExpertMatrices<B> {
    /// Shape `[num_experts, n, k]`.
    pub fn shape(&self) -> [usize; 3] {
        match self {
            Self::Fp8(matrices) => matrices.values.shape(),
            Self::Bf16(matrices) => matrices.shape(),
        }
    }

    /// Bytes of values and scales.
    pub fn num_bytes(&self) -> usize {
        let num_elements: usize = self.shape().iter().product();
        match self {
            Self::Fp8(matrices) => {
                num_elements + matrices.scales.shape().iter().product::<usize>() * size_of::<f32>()
            }
            Self::Bf16(_) => num_elements * size_of::<bf16>(),
        }
    }

    fn check(&self, arg: &'static str, expected: [usize; 3]) -> Result<()> {
        check::shape(OP, arg, &expected, &self.shape())?;
        if let Self::Fp8(matrices) = self {
            let [num_experts, n, k] = expected;
            let scales = [num_experts, ceil_div(n, 128), ceil_div(k, 128)];
            check::shape(OP, arg, &scales, &matrices.scales.shape())?;
        }
        Ok(())
    }
}

/// The feed-forward weights of some experts: `down(silu(gate x) * up x)`.
#[derive(Debug)]
pub struct ExpertWeights<B: Backend> {
    /// `[num_experts, 2 * width, hidden]`: rows of `gate_proj`, then of `up_proj`.
    pub gate_up: ExpertMatrices<B>,
    /// `[num_experts, hidden, width]`: `down_proj`.
    pub down: ExpertMatrices<B>,
}

impl<B: Backend> ExpertWeights<B> {
    /// Bytes of all matrices.
    pub fn num_bytes(&self) -> usize {
        self.gate_up.num_bytes() + self.down.num_bytes()
    }

    fn check(&self, num_experts: usize, width: usize, hidden: usize) -> Result<()> {
        self.gate_up.check("gate_up", [num_experts, 2 * width, hidden])?;
        self.down.check("down", [num_experts, hidden, width])
    }
}

/// One rank's weights of one layer.
#[derive(Debug)]
pub struct MoeWeights<B: Backend> {
    /// BF16 `[num_logical_experts, hidden]`: `gate.weight`.
    pub gate: Tensor<B, bf16, 2>,
    /// FP32 `[num_logical_experts]`: `gate.e_score_correction_bias`.
    pub gate_bias: Option<Tensor<B, f32, 1>>,
    /// This rank's physical experts.
    pub routed: ExpertWeights<B>,
    /// The shared expert, on every rank.
    pub shared: Option<ExpertWeights<B>>,
}

impl<B: Backend> MoeWeights<B> {
    /// Bytes of all tensors.
    pub fn num_bytes(&self) -> usize {
        let gate: usize = self.gate.shape().iter().product::<usize>() * size_of::<bf16>();
        let bias = self.gate_bias.as_ref().map_or(0, |bias| bias.shape()[0] * size_of::<f32>());
        let shared = self.shared.as_ref().map_or(0, ExpertWeights::num_bytes);
        gate + bias + self.routed.num_bytes() + shared
    }

    /// Checks every tensor against the configuration.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] naming the tensor; [`Error::Value`] if the shared expert is given and not
    /// wanted, or wanted and not given.
    pub fn check(&self, config: &MoeConfig, num_local_experts: usize) -> Result<()> {
        let num_experts = config.gate.num_experts;
        check::shape(OP, "gate", &[num_experts, config.hidden], &self.gate.shape())?;
        if let Some(bias) = &self.gate_bias {
            check::shape(OP, "gate_bias", &[num_experts], &bias.shape())?;
        }
        self.routed.check(num_local_experts, config.intermediate_hidden, config.hidden)?;
        match (&self.shared, config.shared_intermediate_hidden()) {
            (None, 0) => Ok(()),
            (Some(shared), width) if width > 0 => shared.check(1, width, config.hidden),
            (given, width) => {
                let given = if given.is_some() { "given" } else { "not given" };
                Err(Error::value(OP, "shared", format!("a shared expert {width} wide"), given))
            }
        }
    }
}
