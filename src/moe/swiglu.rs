//! SwiGLU, the activation between an expert's two products, and its gradient.
//!
//! Of a row of `gate_up`, the first half is the gate, the second half the up-projection. Everything
//! is FP32, operation by operation as written, `exp` being [`num::exp`](crate::num::exp) and `/`
//! IEEE division, so that the bits are the same on every backend:
//!
//! ```text
//! g = gate > limit ? limit : gate      u = up > limit ? limit : up < -limit ? -limit : up
//! e = exp(-g)
//! act = ((g / (1 + e)) * u) * weight
//! ```
//!
//! A NaN passes the comparisons and stays NaN. Nothing is rounded to BF16 between the product and
//! the quantisation, which is a little more exact than two stages with a BF16 tensor between them.

mod backward;
mod forward;

pub use backward::SwigluBackwardArgs;
pub use forward::{SwigluArgs, SwigluQuantizeArgs};

use super::Rows;
use super::stack::with_matrix;
use crate::error::{Error, Result};
use crate::moe::Activation;
use crate::moe::stack::stacked_ref;
use crate::tensor::{TensorRef, check};

/// What SwiGLU takes: its input and how to read it.
///
/// # Shapes
///
/// `R` is 2 for a matrix, 3 for a stack (the masked layout), whose rows are then counted through.
///
/// | name | dtype | shape | layout |
/// | --- | --- | --- | --- |
/// | `gate_up` | BF16 or FP32 | `[num_groups, m, 2 * intermediate_hidden]` | rows contiguous; gate, then up |
/// | `rows` | INT32 | see [`Rows`] | padding rows are not read |
/// | `limit` | FP32 | | cuts the gate above and up on both sides; at least 0, infinity = none |
/// | `row_weights` | FP32 | `[num_groups * m]` | routed weights, contiguous; none where combine applies them |
///
/// # Source
///
/// Shazeer, "GLU Variants Improve Transformer" (2020); clamp and row weights as in DeepGEMM
/// `swiglu_apply_weight_to_fp8` and its `activation_clamp`, TileKernels `swiglu_forward`. Differs
/// from DeepGEMM's fused kernel: gate and up are not rounded to BF16 first.
#[derive(Debug)]
pub struct SwigluInput<'a, B, T: Activation, const R: usize> {
    /// BF16 or FP32 `[.., m, 2 * intermediate_hidden]`.
    pub gate_up: TensorRef<'a, B, T, R>,
    /// Which rows hold tokens.
    pub rows: Rows<'a, B>,
    /// Clamp of gate and up; `f32::INFINITY` for none.
    pub limit: f32,
    /// FP32, one weight per row; `None` = 1.
    pub row_weights: Option<TensorRef<'a, B, f32, 1>>,
}

impl<'a, B, T: Activation, const R: usize> SwigluInput<'a, B, T, R> {
    /// All rows, no clamp, no weights.
    pub const fn new(gate_up: TensorRef<'a, B, T, R>) -> Self {
        Self { gate_up, rows: Rows::All, limit: f32::INFINITY, row_weights: None }
    }

    /// The shape of the activations.
    fn out_shape(&self) -> [usize; R] {
        let shape = self.gate_up.shape();
        with_matrix(shape, [shape[R - 2], shape[R - 1] / 2])
    }

    fn check(self, op: &'static str) -> Result<CheckedInput<'a, B, T>> {
        let shape = self.gate_up.shape();
        check::multiple(op, "gate_up columns", 2, shape[R - 1])?;
        check::contiguous_rows(op, "gate_up", self.gate_up.layout())?;
        check_limit(op, self.limit)?;
        let gate_up = stacked_ref(self.gate_up);
        let [num_groups, m, _] = gate_up.shape();
        self.rows.check(op, [num_groups, m])?;
        if let Some(row_weights) = self.row_weights {
            check::shape(op, "row_weights", &[num_groups * m], &row_weights.shape())?;
            check::contiguous(op, "row_weights", row_weights.layout())?;
        }
        let Self { rows, limit, row_weights, .. } = self;
        Ok(CheckedInput { gate_up, rows, limit, row_weights })
    }
}

/// A clamp is at least 0; infinity is none.
pub(crate) fn check_limit(op: &'static str, limit: f32) -> Result<()> {
    if limit.is_nan() || limit < 0.0 {
        return Err(Error::value(op, "limit", "at least 0", limit));
    }
    Ok(())
}

/// A [`SwigluInput`] after its checks, as a stack.
#[derive(Debug)]
pub(crate) struct CheckedInput<'a, B, T: Activation> {
    pub gate_up: TensorRef<'a, B, T, 3>,
    pub rows: Rows<'a, B>,
    pub limit: f32,
    pub row_weights: Option<TensorRef<'a, B, f32, 1>>,
}
