//! Gate: which experts serve each token, and with what weight.

use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::tensor::{TensorMut, TensorRef, check};

const OP: &str = "gate";

/// How a logit becomes a score.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scoring {
    /// Softmax over all experts.
    Softmax,
    /// Sigmoid of each, as DeepSeek-V3.
    Sigmoid,
}

/// The router's constants.
///
/// # Examples
///
/// ```
/// use moekit::moe::gate::{GateConfig, Scoring};
/// let v3 = GateConfig {
///     num_experts: 256,
///     num_topk: 8,
///     scoring: Scoring::Sigmoid,
///     num_expert_groups: 8,
///     num_topk_groups: 4,
///     renormalize: true,
///     routed_scaling_factor: 2.5,
/// };
/// v3.check()?;
/// # Ok::<(), moekit::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GateConfig {
    /// Logical experts.
    pub num_experts: usize,
    /// Experts per token.
    pub num_topk: usize,
    /// How a logit becomes a score.
    pub scoring: Scoring,
    /// Equal groups that the experts fall into; 1 = no groups.
    pub num_expert_groups: usize,
    /// Groups that a token may choose from.
    pub num_topk_groups: usize,
    /// Whether the weights of a token are divided by their sum.
    pub renormalize: bool,
    /// Multiplies every weight.
    pub routed_scaling_factor: f32,
}

impl GateConfig {
    /// Checks the constants against each other.
    ///
    /// # Errors
    ///
    /// [`Error::Value`] unless `1 <= num_topk <= num_topk_groups * num_experts / num_expert_groups`
    /// and `1 <= num_topk_groups <= num_expert_groups`; [`Error::Alignment`] unless
    /// `num_experts % num_expert_groups == 0`.
    pub fn check(&self) -> Result<()> {
        if self.num_expert_groups == 0 {
            return Err(Error::value(OP, "num_expert_groups", "at least 1", 0));
        }
        check::multiple(OP, "num_experts", self.num_expert_groups, self.num_experts)?;
        if !(1..=self.num_expert_groups).contains(&self.num_topk_groups) {
            let expected = format!("1 to {} (num_expert_groups)", self.num_expert_groups);
            return Err(Error::value(OP, "num_topk_groups", expected, self.num_topk_groups));
        }
        let num_eligible = self.num_experts / self.num_expert_groups * self.num_topk_groups;
        if !(1..=num_eligible).contains(&self.num_topk) {
            let expected = format!("1 to {num_eligible} (experts of the chosen groups)");
            return Err(Error::value(OP, "num_topk", expected, self.num_topk));
        }
        Ok(())
    }
}

/// Arguments of [`Backend::gate`].
///
/// `score = softmax(logits)` or `sigmoid(logits)`; `biased = score + bias`. A group's score is the
/// sum of its two largest biased scores; experts outside the `num_topk_groups` best groups are out. The
/// `num_topk` experts of largest biased score are chosen, in descending order. Their weight is the
/// *unbiased* score, divided by `(sum + 1e-20)` if `renormalize`, times `routed_scaling_factor`.
///
/// # Shapes
///
/// | name | dtype | shape | layout |
/// | --- | --- | --- | --- |
/// | `logits` | FP32 | `[num_tokens, num_experts]` | rows contiguous |
/// | `bias` | FP32 | `[num_experts]` | contiguous |
/// | `topk_idx` | INT32 | `[num_tokens, num_topk]` | row-major, overwritten |
/// | `topk_weights` | FP32 | `[num_tokens, num_topk]` | row-major, overwritten |
///
/// # Numerics
///
/// The same bits on every backend: [`crate::num::exp`], IEEE division, sums in ascending index.
/// Ties go to the lower index, of experts and of groups.
///
/// # Errors
///
/// By [`GateArgs::new`]; at [`Backend::check`]: [`Error::Value`] if a logit or a biased score is NaN
/// (by the bias, or because softmax met an infinity). Such an expert ranks below every number and has
/// score 0; the experts of a token are distinct also then.
///
/// # Source
///
/// DeepSeek-V3, section 2.1.2 and `modeling_deepseek.py` (`noaux_tc`). Differs: masked groups are
/// -inf, not 0, so that a negative bias cannot bring them back.
#[derive(Debug)]
pub struct GateArgs<'a, B> {
    pub(crate) logits: TensorRef<'a, B, f32, 2>,
    pub(crate) bias: Option<TensorRef<'a, B, f32, 1>>,
    pub(crate) config: GateConfig,
    pub(crate) topk_idx: TensorMut<'a, B, i32, 2>,
    pub(crate) topk_weights: TensorMut<'a, B, f32, 2>,
}

impl<'a, B: Backend> GateArgs<'a, B> {
    /// Checks the metadata.
    ///
    /// # Errors
    ///
    /// Those of [`GateConfig::check`]; [`Error::Shape`], [`Error::Stride`] unless every tensor is as
    /// stated.
    pub fn new(
        logits: TensorRef<'a, B, f32, 2>,
        bias: Option<TensorRef<'a, B, f32, 1>>,
        config: GateConfig,
        topk_idx: TensorMut<'a, B, i32, 2>,
        topk_weights: TensorMut<'a, B, f32, 2>,
    ) -> Result<Self> {
        config.check()?;
        let num_tokens = logits.shape()[0];
        check::shape(OP, "logits", &[num_tokens, config.num_experts], &logits.shape())?;
        check::contiguous_rows(OP, "logits", logits.layout())?;
        if let Some(bias) = bias {
            check::shape(OP, "bias", &[config.num_experts], &bias.shape())?;
            check::contiguous(OP, "bias", bias.layout())?;
        }
        let chosen = [num_tokens, config.num_topk];
        check::shape(OP, "topk_idx", &chosen, &topk_idx.shape())?;
        check::contiguous(OP, "topk_idx", topk_idx.layout())?;
        check::shape(OP, "topk_weights", &chosen, &topk_weights.shape())?;
        check::contiguous(OP, "topk_weights", topk_weights.layout())?;
        Ok(Self { logits, bias, config, topk_idx, topk_weights })
    }
}
