//! SwiGLU in f64, forward and backward.
//!
//! `gate_up` is `[rows, 2 * intermediate_hidden]`: the gate's columns, then the up-projection's.
//! With a limit, as newer DeepSeek models have it, the gate is cut off above and the up-projection
//! on both sides:
//!
//! ```text
//! g = min(gate, limit)      u = max(-limit, min(up, limit))
//! h = g * sigmoid(g) * u    out = weight * h
//! ```
//!
//! # Source
//!
//! Shazeer, "GLU Variants Improve Transformer" (2020); the clamp and the routed weight as in
//! DeepGEMM's `swiglu_apply_weight_to_fp8` (`third-party/tilelang_ops`).

use crate::matrix::Matrix;
use crate::quant::{Quantised, ScaleFormat, per_token};

/// Returns `weight * silu(gate) * up`, `[rows, intermediate_hidden]`.
///
/// # Shapes
///
/// `row_weights` `[rows]` are the routed weights; `None` = 1.
///
/// # Panics
///
/// When `gate_up` has an odd number of columns, or `row_weights` another length.
#[track_caller]
pub fn forward(gate_up: &Matrix, row_weights: Option<&[f64]>, limit: Option<f64>) -> Matrix {
    let half = half_columns(gate_up, row_weights);
    let mut out = Matrix::zeros([gate_up.rows, half]);
    for row in 0..gate_up.rows {
        let weight = row_weights.map_or(1.0, |weights| weights[row]);
        for col in 0..half {
            let (gate, up) = clamped(gate_up, row, col, limit);
            out.row_mut(row)[col] = weight * silu(gate) * up;
        }
    }
    out
}

/// Returns [`forward`], rounded to f32 and quantised per row × 128.
///
/// A stage that computes in f32 rounds a little differently; compare codes with
/// [`crate::compare::assert_codes_near`].
#[track_caller]
pub fn forward_quantised(
    gate_up: &Matrix,
    row_weights: Option<&[f64]>,
    limit: Option<f64>,
    format: ScaleFormat,
) -> Quantised {
    let out = forward(gate_up, row_weights, limit);
    per_token(&out.to_f32(), [out.rows, out.cols], format)
}

/// Gradients of a loss with respect to SwiGLU's inputs.
#[derive(Debug, Clone, PartialEq)]
pub struct Gradients {
    /// `[rows, 2 * intermediate_hidden]`, laid out as `gate_up`.
    pub gate_up: Matrix,
    /// `[rows]`, of the routed weights.
    pub row_weights: Vec<f64>,
}

/// Returns the gradients for `grad_out` `[rows, intermediate_hidden]`, the loss's gradient of
/// [`forward`].
///
/// ```text
/// d_gate   = d_out * weight * u * s * (1 + g * (1 - s))    s = sigmoid(g), 0 where gate > limit
/// d_up     = d_out * weight * g * s                        0 where |up| > limit
/// d_weight = sum over the row of d_out * h
/// ```
///
/// # Panics
///
/// When the shapes contradict each other.
#[track_caller]
pub fn backward(
    gate_up: &Matrix,
    row_weights: Option<&[f64]>,
    limit: Option<f64>,
    grad_out: &Matrix,
) -> Gradients {
    let half = half_columns(gate_up, row_weights);
    assert_eq!((grad_out.rows, grad_out.cols), (gate_up.rows, half), "swiglu: shape of grad_out");
    let mut grad_gate_up = Matrix::zeros([gate_up.rows, gate_up.cols]);
    let mut grad_weights = vec![0.0; gate_up.rows];
    let limit_or_inf = limit.unwrap_or(f64::INFINITY);
    for row in 0..gate_up.rows {
        let weight = row_weights.map_or(1.0, |weights| weights[row]);
        for col in 0..half {
            let (gate, up) = clamped(gate_up, row, col, limit);
            let gate_passes = gate_up.row(row)[col] <= limit_or_inf;
            let up_passes = gate_up.row(row)[half + col].abs() <= limit_or_inf;
            let grad = grad_out.row(row)[col];
            let s = sigmoid(gate);
            let grads = grad_gate_up.row_mut(row);
            if gate_passes {
                grads[col] = grad * weight * up * s * (1.0 + gate * (1.0 - s));
            }
            if up_passes {
                grads[half + col] = grad * weight * gate * s;
            }
            grad_weights[row] += grad * gate * s * up;
        }
    }
    Gradients { gate_up: grad_gate_up, row_weights: grad_weights }
}

#[track_caller]
fn half_columns(gate_up: &Matrix, row_weights: Option<&[f64]>) -> usize {
    assert!(gate_up.cols.is_multiple_of(2), "swiglu: gate and up have equal widths");
    if let Some(weights) = row_weights {
        assert_eq!(weights.len(), gate_up.rows, "swiglu: one weight per row");
    }
    gate_up.cols / 2
}

fn clamped(gate_up: &Matrix, row: usize, col: usize, limit: Option<f64>) -> (f64, f64) {
    let (gate, up) = (gate_up.row(row)[col], gate_up.row(row)[gate_up.cols / 2 + col]);
    match limit {
        None => (gate, up),
        Some(limit) => (cut_above(gate, limit), -cut_above(-cut_above(up, limit), limit)),
    }
}

/// `min`, but NaN stays NaN.
fn cut_above(x: f64, limit: f64) -> f64 {
    if x > limit { limit } else { x }
}

fn silu(x: f64) -> f64 {
    x * sigmoid(x)
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + libm::exp(-x))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inputs::normal;
    use crate::rng::Rng;

    #[test]
    fn values_by_hand() {
        // silu(ln 3) = ln 3 * 3/4; silu(-ln 3) = -ln 3 / 4.
        let ln3 = 3f64.ln();
        let gate_up = Matrix::new(&[0.0, ln3, -ln3, 5.0, 4.0, 8.0], [1, 6]);
        let out = forward(&gate_up, Some(&[0.5]), None);
        for (got, want) in out.values.iter().zip([0.0, 1.5 * ln3, -ln3]) {
            assert!((got - want).abs() < 1e-15, "got {got}, want {want}");
        }
    }

    #[test]
    fn a_limit_cuts_the_gate_above_and_up_on_both_sides() {
        let gate_up = Matrix::new(&[20.0, -20.0, 1.0, 1.0, 1.0, 1.0, 30.0, -30.0], [1, 8]);
        let limited = forward(&gate_up, None, Some(10.0));
        let by_hand = Matrix::new(&[10.0, -20.0, 1.0, 1.0, 1.0, 1.0, 10.0, -10.0], [1, 8]);
        assert_eq!(limited, forward(&by_hand, None, None));
        let nan = Matrix::new(&[f64::NAN, 1.0], [1, 2]);
        assert!(forward(&nan, None, Some(10.0)).values[0].is_nan());
    }

    #[test]
    fn gradients_agree_with_finite_differences() {
        let (rows, half) = (3, 4);
        let mut rng = Rng::new(11);
        let mut draw = |len, shape| Matrix::new(&normal(&mut rng, len, 2.0), shape);
        let gate_up = draw(rows * 2 * half, [rows, 2 * half]);
        let grad_out = draw(rows * half, [rows, half]);
        let weights = draw(rows, [rows, 1]).values;
        for limit in [None, Some(1.5)] {
            let loss = |gate_up: &Matrix, weights: &[f64]| -> f64 {
                let out = forward(gate_up, Some(weights), limit);
                out.values.iter().zip(&grad_out.values).map(|(out, grad)| out * grad).sum()
            };
            let got = backward(&gate_up, Some(&weights), limit, &grad_out);
            let step = 1e-6;
            let agree = |got: f64, up: f64, down: f64, what: &str| {
                let want = (up - down) / (2.0 * step);
                assert!((got - want).abs() < 1e-7, "{what}, {limit:?}: got {got}, want {want}");
            };
            for i in 0..gate_up.values.len() {
                let moved = |by: f64| {
                    let mut moved = gate_up.clone();
                    moved.values[i] += by;
                    loss(&moved, &weights)
                };
                agree(got.gate_up.values[i], moved(step), moved(-step), &format!("gate_up {i}"));
            }
            for i in 0..rows {
                let moved = |by: f64| {
                    let mut moved = weights.clone();
                    moved[i] += by;
                    loss(&gate_up, &moved)
                };
                agree(got.row_weights[i], moved(step), moved(-step), &format!("weight {i}"));
            }
        }
    }

    #[test]
    fn clamped_inputs_have_no_gradient() {
        let gate_up = Matrix::new(&[20.0, 1.0, 1.0, -20.0], [1, 4]);
        let grads = backward(&gate_up, None, Some(10.0), &Matrix::new(&[1.0, 1.0], [1, 2]));
        assert_eq!((grads.gate_up.values[0], grads.gate_up.values[3]), (0.0, 0.0));
        assert!(grads.gate_up.values[1] != 0.0 && grads.gate_up.values[2] != 0.0);
    }

    #[test]
    fn the_quantised_form_scales_each_row() {
        let mut gate_up = Matrix::zeros([2, 4]);
        gate_up.row_mut(0).copy_from_slice(&[100.0, 50.0, 4.48, 4.48]);
        let q = forward_quantised(&gate_up, None, None, ScaleFormat::F32);
        assert_eq!(q.scales[0], 1.0);
        assert_eq!(q.codes, [0x7e, 0x76, 0, 0]);
    }
}
