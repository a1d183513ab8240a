//! `config.json`: the shape of the model, with DeepSeek-V3's names.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::moe::gate::{GateConfig, Scoring};
use crate::moe::quant::ScaleFormat;
use crate::moe::weights::MoeConfig;
use crate::read_file::read_file;

pub(super) const FILE_NAME: &str = "config.json";
const OP: &str = "model configuration";
/// Bound of every extent, so that products of three fit 64 bits.
const MAX_EXTENT: usize = 1 << 20;

/// What `config.json` says about the MoE layers; other keys are left out.
///
/// # Source
///
/// `config.json` and `configuration_deepseek.py` of DeepSeek-V3.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// Elements of a token.
    pub hidden_size: usize,
    /// Width of one expert.
    pub moe_intermediate_size: usize,
    /// Experts that the router knows.
    pub n_routed_experts: usize,
    /// Shared experts, stored as one that is as wide as all; `None` = none.
    pub n_shared_experts: Option<usize>,
    /// Experts per token.
    pub num_experts_per_tok: usize,
    /// Groups that the experts fall into; `None` = one.
    pub n_group: Option<usize>,
    /// Groups that a token may choose from; `None` = one.
    pub topk_group: Option<usize>,
    /// "noaux_tc" (DeepSeek-V3's, with a correction bias) or "greedy" (without groups); `None` = the bias
    /// decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topk_method: Option<String>,
    /// How a logit becomes a score.
    pub scoring_func: ScoringFunc,
    /// Whether the weights of a token are divided by their sum.
    pub norm_topk_prob: bool,
    /// Multiplies every weight.
    pub routed_scaling_factor: f32,
    /// Layers before this one have no experts.
    #[serde(default)]
    pub first_k_dense_replace: usize,
    /// Layers of the model.
    pub num_hidden_layers: usize,
    /// Layers for multi-token prediction, stored after the model's; they have experts too.
    #[serde(default)]
    pub num_nextn_predict_layers: usize,
    /// Clamp of SwiGLU's inputs; `None` = no clamp.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swiglu_limit: Option<f32>,
    /// How weights are quantised; `None` = not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantization_config: Option<QuantizationConfig>,
}

/// How a logit becomes a score, by its name in `config.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScoringFunc {
    /// [`Scoring::Sigmoid`].
    Sigmoid,
    /// [`Scoring::Softmax`].
    Softmax,
}

/// How the weights are quantised.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QuantizationConfig {
    /// "fp8".
    pub quant_method: String,
    /// Rows and columns of a block with one scale: 128 and 128.
    pub weight_block_size: [usize; 2],
    /// "ue8m0" if scales are powers of two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_fmt: Option<String>,
}

impl ModelConfig {
    /// Reads and checks `config.json`.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = read_file(super::OP, path, super::MAX_JSON_BYTES)?;
        let config: Self =
            serde_json::from_slice(&text).map_err(|error| malformed(path, &error))?;
        config.check().map_err(|error| malformed(path, &error))?;
        Ok(config)
    }

    /// Checks the values against each other.
    ///
    /// # Errors
    ///
    /// [`Error::Value`] or [`Error::Alignment`] if the layers have an extent that the crate cannot
    /// compute, a routing method that it does not have, or blocks other than 128 x 128.
    pub fn check(&self) -> Result<()> {
        for (arg, extent) in self.extents() {
            if extent > MAX_EXTENT {
                return Err(Error::value(OP, arg, format!("at most {MAX_EXTENT}"), extent));
            }
        }
        let shared = self.to_moe_config().shared_intermediate_hidden();
        if shared > MAX_EXTENT {
            let expected = format!("a shared expert at most {MAX_EXTENT} wide");
            return Err(Error::value(OP, "n_shared_experts", expected, format!("{shared} wide")));
        }
        self.check_method()?;
        if let Some(quantization) = &self.quantization_config {
            quantization.check()?;
        }
        if !self.routed_scaling_factor.is_finite() {
            let got = self.routed_scaling_factor;
            return Err(Error::value(OP, "routed_scaling_factor", "a finite number", got));
        }
        self.to_moe_config().check()
    }

    fn extents(&self) -> [(&'static str, usize); 10] {
        [
            ("hidden_size", self.hidden_size),
            ("moe_intermediate_size", self.moe_intermediate_size),
            ("n_routed_experts", self.n_routed_experts),
            ("n_shared_experts", self.n_shared_experts.unwrap_or(0)),
            ("num_experts_per_tok", self.num_experts_per_tok),
            ("n_group", self.n_group.unwrap_or(1)),
            ("topk_group", self.topk_group.unwrap_or(1)),
            ("first_k_dense_replace", self.first_k_dense_replace),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_nextn_predict_layers", self.num_nextn_predict_layers),
        ]
    }

    fn check_method(&self) -> Result<()> {
        let method = self.topk_method.as_deref();
        let has_groups = self.n_group.unwrap_or(1) > 1;
        // NOTE: DeepSeek-V2's "group_limited_greedy" scores a group by its best expert, V3 by its best two.
        if matches!(method, None | Some("noaux_tc")) || (!has_groups && method == Some("greedy")) {
            return Ok(());
        }
        let expected = "noaux_tc, or greedy with one group";
        Err(Error::value(OP, "topk_method", expected, method.unwrap_or_default()))
    }

    /// Whether layer `layer_idx` has experts.
    pub fn is_moe_layer(&self, layer_idx: usize) -> bool {
        self.moe_layers().contains(&layer_idx)
    }

    /// The layers that have experts, those for multi-token prediction included.
    pub fn moe_layers(&self) -> std::ops::Range<usize> {
        self.first_k_dense_replace..self.num_hidden_layers + self.num_nextn_predict_layers
    }

    /// Whether routing needs `gate.e_score_correction_bias`.
    pub(super) fn needs_gate_bias(&self) -> bool {
        match self.topk_method.as_deref() {
            Some(method) => method == "noaux_tc",
            None => self.scoring_func == ScoringFunc::Sigmoid,
        }
    }

    /// Form of the weights' scales.
    pub fn scale_format(&self) -> ScaleFormat {
        let format = self.quantization_config.as_ref().and_then(|q| q.scale_fmt.as_deref());
        if format == Some("ue8m0") { ScaleFormat::Ue8m0 } else { ScaleFormat::Fp32 }
    }

    /// The layers' shape, with the crate's names.
    pub fn to_moe_config(&self) -> MoeConfig {
        MoeConfig {
            hidden: self.hidden_size,
            intermediate_hidden: self.moe_intermediate_size,
            num_shared_experts: self.n_shared_experts.unwrap_or(0),
            swiglu_limit: self.swiglu_limit,
            gate: GateConfig {
                num_experts: self.n_routed_experts,
                num_topk: self.num_experts_per_tok,
                scoring: match self.scoring_func {
                    ScoringFunc::Sigmoid => Scoring::Sigmoid,
                    ScoringFunc::Softmax => Scoring::Softmax,
                },
                num_expert_groups: self.n_group.unwrap_or(1),
                num_topk_groups: self.topk_group.unwrap_or(1),
                renormalize: self.norm_topk_prob,
                routed_scaling_factor: self.routed_scaling_factor,
            },
        }
    }
}

impl QuantizationConfig {
    /// DeepSeek-V3's: E4M3 in blocks of 128 x 128.
    pub(super) fn fp8(scales: ScaleFormat) -> Self {
        Self {
            quant_method: "fp8".to_owned(),
            weight_block_size: [128, 128],
            scale_fmt: (scales == ScaleFormat::Ue8m0).then(|| "ue8m0".to_owned()),
        }
    }

    fn check(&self) -> Result<()> {
        if self.quant_method != "fp8" {
            return Err(Error::value(OP, "quant_method", "fp8", &self.quant_method));
        }
        if self.weight_block_size != [128, 128] {
            let got = format!("{:?}", self.weight_block_size);
            return Err(Error::value(OP, "weight_block_size", "[128, 128]", got));
        }
        Ok(())
    }
}

fn malformed(path: &Path, problem: &dyn std::fmt::Display) -> Error {
    Error::Format {
        path: path.to_owned(),
        format: "model configuration (JSON)",
        problem: problem.to_string(),
    }
}
