//! The whole layer on one rank, as the sum of its stages.
//!
//! `y[t] = sum over slots of w[t, s] * expert(topk_idx[t, s])(x[t]) + shared(x[t])`, with
//! `expert(x) = down · swiglu(gate_up · x)`.
//!
//! Two fidelities. [`exact`] answers how good a result is: f64 throughout, on dequantised weights.
//! [`emulated`] answers whether it is right: it rounds where the layer rounds, so that what is left
//! is the order of summation.

use std::borrow::Cow;

use half::bf16;

use crate::bf16::{round_f32s, widen};
use crate::combine::{Returned, by_slot};
use crate::gemm;
use crate::matrix::Matrix;
use crate::quant::{Quantised, ScaleFormat, per_token};
use crate::swiglu;

/// A weight matrix that can be multiplied out in f64, exactly.
pub trait Weight {
    /// The matrix.
    fn matrix(&self) -> Cow<'_, Matrix>;
}

impl Weight for Quantised {
    fn matrix(&self) -> Cow<'_, Matrix> {
        Cow::Owned(self.dequantise())
    }
}

impl Weight for Matrix {
    fn matrix(&self) -> Cow<'_, Matrix> {
        Cow::Borrowed(self)
    }
}

/// The weights of one expert, quantised or plain.
#[derive(Debug, Clone, PartialEq)]
pub struct Expert<W = Quantised> {
    /// `[2 * intermediate_hidden, hidden]`: the gate's rows, then the up-projection's.
    pub gate_up: W,
    /// `[hidden, intermediate_hidden]`.
    pub down: W,
}

/// The weights of a layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer<W = Quantised> {
    /// `[num_experts]`.
    pub experts: Vec<Expert<W>>,
    /// Sees every token, with weight 1.
    pub shared: Option<Expert<W>>,
    /// SwiGLU's clamp.
    pub swiglu_limit: Option<f64>,
}

/// The tokens and where they go.
#[derive(Debug, Clone, Copy)]
pub struct Tokens<'a> {
    /// `[num_tokens, hidden]`.
    pub x: &'a [f32],
    /// Row length.
    pub hidden: usize,
    /// Slots per token.
    pub num_topk: usize,
    /// INT32 `[num_tokens, num_topk]`, -1 = not selected.
    pub topk_idx: &'a [i32],
    /// FP32 `[num_tokens, num_topk]`.
    pub topk_weights: &'a [f32],
}

/// Where a layer rounds, beyond quantising the activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rounding {
    /// Scales of the activations.
    pub scale_format: ScaleFormat,
    /// Whether SwiGLU reads BF16, or the FP32 accumulators of the first product.
    pub gate_up_in_bf16: bool,
    /// Whether the shared expert's output is rounded to BF16 before it is added.
    pub shared_in_bf16: bool,
    /// Whether experts' outputs are multiplied by their routing weights before they are rounded, not when they are
    /// added.
    pub weighs_rows: bool,
}

/// Computes the layer in f64 on the dequantised weights and the activations as they are:
/// `[num_tokens, hidden]`.
///
/// # Panics
///
/// When shapes contradict each other or an expert is out of range.
#[track_caller]
pub fn exact<W: Weight>(layer: &Layer<W>, tokens: &Tokens<'_>) -> Matrix {
    let x = token_matrix(tokens);
    let mut y = Matrix::zeros([x.rows, x.cols]);
    for_each_expert(layer, tokens, |expert, slots| {
        let rows = slots.iter().map(|slot| slot / tokens.num_topk);
        let out = exact_expert(expert, &x.select_rows(rows), layer.swiglu_limit);
        for (row, &slot) in slots.iter().enumerate() {
            let weight = f64::from(tokens.topk_weights[slot]);
            let target = y.row_mut(slot / tokens.num_topk);
            target.iter_mut().zip(out.row(row)).for_each(|(y, out)| *y += weight * out);
        }
    });
    match &layer.shared {
        Some(shared) => gemm::accumulate(&y, &exact_expert(shared, &x, layer.swiglu_limit)),
        None => y,
    }
}

/// Computes the layer with its roundings: BF16 `[num_tokens, hidden]`.
///
/// ```text
/// x  -> E4M3 per token × 128
/// h  = swiglu(x · gate_upᵀ)    f64 product, rounded as `rounding` says; h -> f32 -> E4M3 per row
/// y  = h · downᵀ               f64 product -> f32, weighted if rows are -> BF16, one row per (token, slot)
/// combine by slot, the shared expert as addend
/// ```
///
/// # Panics
///
/// As [`exact`].
#[track_caller]
pub fn emulated<W: Weight>(
    layer: &Layer<W>,
    tokens: &Tokens<'_>,
    rounding: &Rounding,
) -> Vec<bf16> {
    let num_tokens = token_matrix(tokens).rows;
    let shape = [num_tokens, tokens.hidden];
    let x = per_token(tokens.x, shape, rounding.scale_format).dequantise();
    let mut rows = vec![bf16::from_bits(0); tokens.topk_idx.len() * tokens.hidden];
    for_each_expert(layer, tokens, |expert, slots| {
        let selected = x.select_rows(slots.iter().map(|slot| slot / tokens.num_topk));
        let out = emulated_expert(expert, &selected, layer.swiglu_limit, rounding);
        for (row, &slot) in slots.iter().enumerate() {
            let weight = if rounding.weighs_rows { tokens.topk_weights[slot] } else { 1.0 };
            let target = &mut rows[slot * tokens.hidden..][..tokens.hidden];
            let row = &out[row * tokens.hidden..][..tokens.hidden];
            target
                .copy_from_slice(&round_f32s(&row.iter().map(|y| weight * y).collect::<Vec<_>>()));
        }
    });
    let shared: Option<Vec<f32>> = layer.shared.as_ref().map(|shared| {
        let out = emulated_expert(shared, &x, layer.swiglu_limit, rounding);
        if rounding.shared_in_bf16 { through_bf16(&out) } else { out }
    });
    let ones = vec![1.0; tokens.topk_weights.len()];
    let returned = Returned {
        hidden: tokens.hidden,
        num_topk: tokens.num_topk,
        topk_idx: tokens.topk_idx,
        topk_weights: if rounding.weighs_rows { &ones } else { tokens.topk_weights },
        rows: &rows,
    };
    let addends: Vec<&[f32]> = shared.iter().map(Vec::as_slice).collect();
    by_slot(&returned, &addends)
}

fn exact_expert<W: Weight>(expert: &Expert<W>, x: &Matrix, limit: Option<f64>) -> Matrix {
    let gate_up = gemm::nt(x, &expert.gate_up.matrix());
    gemm::nt(&swiglu::forward(&gate_up, None, limit), &expert.down.matrix())
}

fn emulated_expert<W: Weight>(
    expert: &Expert<W>,
    x: &Matrix,
    limit: Option<f64>,
    rounding: &Rounding,
) -> Vec<f32> {
    let weight = expert.gate_up.matrix();
    let mut gate_up = gemm::nt(x, &weight).to_f32();
    if rounding.gate_up_in_bf16 {
        gate_up = through_bf16(&gate_up);
    }
    let gate_up = Matrix::new(&gate_up, [x.rows, weight.rows]);
    let h = swiglu::forward_quantised(&gate_up, None, limit, rounding.scale_format);
    gemm::nt(&h.dequantise(), &expert.down.matrix()).to_f32()
}

fn through_bf16(values: &[f32]) -> Vec<f32> {
    round_f32s(values).into_iter().map(widen).collect()
}

#[track_caller]
fn token_matrix(tokens: &Tokens<'_>) -> Matrix {
    let num_tokens = tokens.topk_idx.len() / tokens.num_topk;
    assert_eq!(tokens.topk_idx.len(), tokens.topk_weights.len(), "moe: topk_idx, topk_weights");
    Matrix::new(tokens.x, [num_tokens, tokens.hidden])
}

/// Calls `body` with every expert that has tokens and the flat (token, slot) indices that chose it.
fn for_each_expert<W>(
    layer: &Layer<W>,
    tokens: &Tokens<'_>,
    mut body: impl FnMut(&Expert<W>, &[usize]),
) {
    let mut slots_of = vec![vec![]; layer.experts.len()];
    for (slot, &expert_idx) in tokens.topk_idx.iter().enumerate() {
        if expert_idx != -1 {
            slots_of[expert_idx as usize].push(slot);
        }
    }
    for (expert, slots) in layer.experts.iter().zip(&slots_of) {
        if !slots.is_empty() {
            body(expert, slots);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inputs::{self, Skew};
    use crate::measure::relative_error;
    use crate::quant::per_block;
    use crate::rng::Rng;

    fn expert(rng: &mut Rng, hidden: usize, intermediate_hidden: usize) -> Expert {
        let mut quantised =
            |shape: [usize; 2]| per_block(&inputs::weights(rng, shape), shape, ScaleFormat::F32);
        Expert {
            gate_up: quantised([2 * intermediate_hidden, hidden]),
            down: quantised([hidden, intermediate_hidden]),
        }
    }

    fn constant_expert(gate: f32, up: f32, down: f32) -> Expert {
        Expert {
            gate_up: per_block(&[gate, up], [2, 1], ScaleFormat::F32),
            down: per_block(&[down], [1, 1], ScaleFormat::F32),
        }
    }

    const ROUNDING: Rounding = Rounding {
        scale_format: ScaleFormat::F32,
        gate_up_in_bf16: true,
        shared_in_bf16: true,
        weighs_rows: false,
    };

    #[test]
    fn a_layer_of_width_one_by_hand() {
        // Expert e has gate = up = 64 (its block scale 64/448 makes that exact), down = e + 1.
        // silu(64) = 64 in f64 to 2e-26, so expert e maps 1 to 4096 * (e + 1).
        let scaled = |down: f32| {
            let mut expert = constant_expert(448.0, 448.0, 448.0);
            expert.gate_up.scales[0] = 64.0 / 448.0;
            expert.down.scales[0] = down / 448.0;
            expert
        };
        let layer = Layer {
            experts: vec![scaled(1.0), scaled(2.0)],
            shared: Some(scaled(4.0)),
            swiglu_limit: None,
        };
        let tokens = Tokens {
            x: &[1.0, 0.0, 1.0],
            hidden: 1,
            num_topk: 2,
            topk_idx: &[1, 0, 0, 1, -1, 1],
            topk_weights: &[0.25, 0.75, 1.0, 1.0, f32::NAN, 0.5],
        };
        let want = [4096.0 * (0.25 * 2.0 + 0.75 + 4.0), 0.0, 4096.0 * (0.5 * 2.0 + 4.0)];
        let got = exact(&layer, &tokens);
        assert!(relative_error(&got.values, &want) < 1e-6, "{:?}", got.values);
        for weighs_rows in [false, true] {
            let emulated = emulated(&layer, &tokens, &Rounding { weighs_rows, ..ROUNDING });
            assert!(relative_error(&emulated, &want) < 4e-3, "{emulated:?}");
            assert_eq!(emulated[1].to_bits(), 0);
        }
    }

    #[test]
    fn emulated_differs_from_exact_by_the_quantisation_alone() {
        let (num_tokens, hidden, intermediate_hidden, num_experts, num_topk) = (24, 272, 144, 4, 2);
        let rng = &mut Rng::new(21);
        let layer = Layer {
            experts: (0..num_experts).map(|_| expert(rng, hidden, intermediate_hidden)).collect(),
            shared: Some(expert(rng, hidden, intermediate_hidden)),
            swiglu_limit: Some(10.0),
        };
        let x = inputs::normal(rng, num_tokens * hidden, 1.0);
        let mut topk_idx = inputs::topk_idx(rng, num_tokens, num_experts, num_topk, Skew::Uniform);
        inputs::unselect(rng, &mut topk_idx, 0.2);
        let topk_weights = inputs::topk_weights(rng, num_tokens, num_topk);
        let tokens =
            Tokens { x: &x, hidden, num_topk, topk_idx: &topk_idx, topk_weights: &topk_weights };
        let want = exact(&layer, &tokens);
        for scale_format in [ScaleFormat::F32, ScaleFormat::Ue8m0] {
            let got = emulated(&layer, &tokens, &Rounding { scale_format, ..ROUNDING });
            let error = relative_error(&got, &want.values);
            // E4M3 keeps four bits: 2.6% per quantised operand on normal data, two of them in a
            // row.
            assert!((0.01..0.08).contains(&error), "{scale_format:?}: {error}");
        }
    }

    #[test]
    fn a_token_without_experts_gets_the_shared_expert_alone() {
        let rng = &mut Rng::new(22);
        let layer = Layer {
            experts: vec![expert(rng, 16, 16)],
            shared: Some(expert(rng, 16, 16)),
            swiglu_limit: None,
        };
        let x = inputs::normal(rng, 16, 1.0);
        let tokens =
            |topk_idx| Tokens { x: &x, hidden: 16, num_topk: 1, topk_idx, topk_weights: &[1.0] };
        let none = exact(&layer, &tokens(&[-1]));
        let alone = Layer {
            experts: vec![layer.shared.clone().expect("set above")],
            shared: None,
            ..layer
        };
        assert_eq!(none, exact(&alone, &tokens(&[0])));
    }
}
