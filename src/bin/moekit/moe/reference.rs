//! The f64 reference, token by token.

use moekit::moe::gate::Scoring;
use moekit::moe::quant::ScaleFormat;
use moekit::moe::weights::{ExpertMatrices, ExpertWeights, MoeWeights};
use moekit::moe::{Weighting, WireFormat};
use moekit::num::bf16;
use moekit::{Backend, Cpu, Result};
use moekit_testkit::matrix::Matrix;
use moekit_testkit::moe::{Expert, Layer, Rounding, Tokens, Weight, emulated, exact};
use moekit_testkit::quant::{self, Quantised};
use moekit_testkit::{bf16 as tk_bf16, gate};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::args::MoeArgs;
use super::model::Model;

/// A decision that FP32 may take otherwise than f64.
const UNDECIDED: f64 = 1e-6;

/// Squared errors of one rank's share of the checked tokens; sums, so that ranks add up.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Errors {
    /// Tokens compared.
    pub num_tokens: usize,
    /// Tokens left out: two experts are so close that FP32 may choose the other.
    pub num_undecided: usize,
    /// Against the reference that quantises where the layer does.
    pub quantized: Squares,
    /// Against the reference that does not quantise activations.
    pub unquantized: Squares,
}

/// `|d - ref|^2` and `|ref|^2`.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Squares {
    pub difference: f64,
    pub reference: f64,
}

impl Errors {
    /// The sums over ranks.
    pub fn merge(self, other: Self) -> Self {
        Self {
            num_tokens: self.num_tokens + other.num_tokens,
            num_undecided: self.num_undecided + other.num_undecided,
            quantized: self.quantized.merge(other.quantized),
            unquantized: self.unquantized.merge(other.unquantized),
        }
    }
}

impl Squares {
    fn new(got: &[bf16], want: &[f64]) -> Self {
        got.iter().zip(want).fold(Self::default(), |sums, (got, want)| Self {
            difference: sums.difference + (got.to_f64() - want).powi(2),
            reference: sums.reference + want.powi(2),
        })
    }

    fn merge(self, other: Self) -> Self {
        Self {
            difference: self.difference + other.difference,
            reference: self.reference + other.reference,
        }
    }

    /// `|d - ref|_F / |ref|_F`; NaN if nothing was compared.
    pub fn relative_error(self) -> f64 {
        (self.difference / self.reference).sqrt()
    }
}

/// What the reference is computed from.
pub struct Reference<'a> {
    pub args: &'a MoeArgs,
    pub model: &'a Model,
    pub backend: &'a Cpu,
    pub format: WireFormat,
}

/// The gate's weights.
struct Router {
    /// `[num_experts, hidden]`.
    weight: Vec<bf16>,
    /// `[num_experts]`.
    bias: Vec<f32>,
}

impl Reference<'_> {
    /// Checks this rank's share of the tokens, `--check-tokens` of all, evenly spread; `None` if none are
    /// to be checked.
    pub fn errors(&self, first_token_idx: usize, out: &[bf16]) -> Result<Option<Errors>> {
        let (num_tokens, num_checked) = (self.args.num_tokens, self.args.check_tokens);
        if num_checked == 0 {
            return Ok(None);
        }
        let hidden = self.model.config.hidden;
        let own = first_token_idx..first_token_idx + out.len() / hidden;
        let num_checked = num_checked.min(num_tokens);
        let chosen: Vec<usize> = (0..num_checked)
            .map(|idx| idx * num_tokens / num_checked)
            .filter(|token_idx| own.contains(token_idx))
            .collect();
        if chosen.is_empty() {
            return Ok(Some(Errors::default()));
        }
        let router = self.router()?;
        let errors: Vec<Errors> = chosen
            .into_par_iter()
            .map(|token_idx| {
                let mut x = vec![bf16::ZERO; hidden];
                self.model.tokens.hidden_states(token_idx, hidden, &mut x);
                self.token(&router, &x, &out[(token_idx - own.start) * hidden..][..hidden])
            })
            .collect::<Result<_>>()?;
        Ok(Some(errors.into_iter().fold(Errors::default(), Errors::merge)))
    }

    fn token(&self, router: &Router, x: &[bf16], got: &[bf16]) -> Result<Errors> {
        let x: Vec<f32> = x.iter().map(|x| x.to_f32()).collect();
        let routing = self.route(router, &x);
        if !routing.is_decided(0, UNDECIDED) {
            return Ok(Errors { num_undecided: 1, ..Errors::default() });
        }
        // Only the chosen experts are loaded, in the order of the slots.
        let weights = self.load(&routing.topk_idx)?;
        let slots: Vec<i32> = (0..routing.topk_idx.len() as i32).collect();
        let tokens = Tokens {
            x: &x,
            hidden: x.len(),
            num_topk: slots.len(),
            topk_idx: &slots,
            topk_weights: &routing.topk_weights_f32(),
        };
        let (quantized, unquantized) = match self.format {
            WireFormat::Fp8 => {
                let layer = self.layer(&weights, quantised)?;
                let rounding = Rounding {
                    scale_format: match self.model.checkpoint.config().scale_format() {
                        ScaleFormat::Fp32 => quant::ScaleFormat::F32,
                        ScaleFormat::Ue8m0 => quant::ScaleFormat::Ue8m0,
                    },
                    gate_up_in_bf16: true,
                    shared_in_bf16: true,
                    weighs_rows: self.args.weighting() == Weighting::Down,
                };
                let emulated = emulated(&layer, &tokens, &rounding).into_iter();
                let emulated = emulated.map(|y| f64::from(tk_bf16::widen(y))).collect();
                (emulated, exact(&layer, &tokens).values)
            }
            WireFormat::Bf16 => {
                let exact = exact(&self.layer(&weights, dense)?, &tokens).values;
                (exact.clone(), exact)
            }
        };
        Ok(Errors {
            num_tokens: 1,
            num_undecided: 0,
            quantized: Squares::new(got, &quantized),
            unquantized: Squares::new(got, &unquantized),
        })
    }

    fn router(&self) -> Result<Router> {
        let weights = self.load(&[])?;
        let bias = match &weights.gate_bias {
            Some(bias) => bias.to_host(self.backend)?,
            None => vec![0.0; self.model.config.gate.num_experts],
        };
        Ok(Router { weight: weights.gate.to_host(self.backend)?, bias })
    }

    /// Routes in f64.
    fn route(&self, router: &Router, x: &[f32]) -> gate::Routing {
        let logit = |row: &[bf16]| {
            let products = row.iter().zip(x).map(|(w, &x)| w.to_f64() * f64::from(x));
            products.sum::<f64>() as f32
        };
        let logits: Vec<f32> = router.weight.chunks_exact(x.len()).map(logit).collect();
        let config = self.model.config.gate;
        let limit = gate::GroupLimit {
            num_expert_groups: config.num_expert_groups,
            num_topk_groups: config.num_topk_groups,
        };
        let route = match config.scoring {
            Scoring::Sigmoid => gate::deepseek_v3,
            Scoring::Softmax => gate::group_limited_softmax,
        };
        let config = gate::GateConfig {
            num_experts: config.num_experts,
            num_topk: config.num_topk,
            renormalise: config.renormalize,
            routed_scaling_factor: f64::from(config.routed_scaling_factor),
        };
        route(&logits, &router.bias, &config, limit)
    }

    fn load(&self, experts: &[i32]) -> Result<MoeWeights<Cpu>> {
        let Model { checkpoint, layer_idx, .. } = self.model;
        let weights = checkpoint.load_moe_layer(self.backend, *layer_idx, experts)?;
        let scale_format = checkpoint.config().scale_format();
        weights.into_format(self.backend, &self.backend.stream()?, self.format, scale_format)
    }

    fn layer<W: Weight>(
        &self,
        weights: &MoeWeights<Cpu>,
        matrices: impl Fn(&Cpu, &ExpertMatrices<Cpu>) -> Result<Vec<W>>,
    ) -> Result<Layer<W>> {
        let experts = |experts: &ExpertWeights<Cpu>| -> Result<Vec<Expert<W>>> {
            let gate_up = matrices(self.backend, &experts.gate_up)?;
            let down = matrices(self.backend, &experts.down)?;
            Ok(gate_up
                .into_iter()
                .zip(down)
                .map(|(gate_up, down)| Expert { gate_up, down })
                .collect())
        };
        let shared = weights.shared.as_ref().map(experts).transpose()?;
        Ok(Layer {
            experts: experts(&weights.routed)?,
            shared: shared.and_then(|shared| shared.into_iter().next()),
            swiglu_limit: self.model.config.swiglu_limit.map(f64::from),
        })
    }
}

fn quantised(backend: &Cpu, matrices: &ExpertMatrices<Cpu>) -> Result<Vec<Quantised>> {
    let ExpertMatrices::Fp8(matrices) = matrices else { return Ok(Vec::new()) };
    let [num_experts, n, k] = matrices.values.shape();
    let codes: Vec<u8> = matrices.values.to_host(backend)?.into_iter().map(|code| code.0).collect();
    let scales = matrices.scales.to_host(backend)?;
    let num_scales = scales.len() / num_experts.max(1);
    let matrix = |idx: usize| {
        let codes = codes[idx * n * k..][..n * k].to_vec();
        let scales = scales[idx * num_scales..][..num_scales].to_vec();
        Quantised::new(codes, scales, [n, k], [128, 128])
    };
    Ok((0..num_experts).map(matrix).collect())
}

fn dense(backend: &Cpu, matrices: &ExpertMatrices<Cpu>) -> Result<Vec<Matrix>> {
    let ExpertMatrices::Bf16(matrices) = matrices else { return Ok(Vec::new()) };
    let [_, n, k] = matrices.shape();
    let values: Vec<f32> = matrices.to_host(backend)?.into_iter().map(bf16::to_f32).collect();
    Ok(values.chunks_exact(n * k).map(|values| Matrix::new(values, [n, k])).collect())
}
