//! Arguments of the gradient.

use super::{CheckedInput, SwigluInput};
use crate::error::Result;
use crate::moe::Activation;
use crate::moe::stack::{stacked_mut, stacked_ref};
use crate::tensor::{TensorMut, TensorRef, check};

/// Arguments of [`Backend::swiglu_backward`](crate::Backend::swiglu_backward): the gradients of the
/// inputs from that of the activation.
///
/// With `g`, `u` and `e` as in [`moe::swiglu`](crate::moe::swiglu):
///
/// ```text
/// s         = 1 / (1 + e)
/// d         = (grad_out * weight) * s
/// grad_gate = gate > limit ? 0 : (d * u) * fma(g, 1 - s, 1)
/// grad_up   = |up| > limit ? 0 : d * g
/// grad_row_weight = sum over the row of grad_out * ((g / (1 + e)) * u)
/// ```
///
/// The down-projection is linear in the weights, so with `grad_out` not yet multiplied by them,
/// `grad_row_weight` is the routed weights' gradient also where combine applies them.
///
/// # Shapes
///
/// | name | dtype | shape | layout |
/// | --- | --- | --- | --- |
/// | `input` | | | see [`SwigluInput`] |
/// | `grad_out` | BF16 or FP32 | `[num_groups, m, intermediate_hidden]` | rows contiguous |
/// | `grad_gate_up` | as `grad_out` | `[num_groups, m, 2 * intermediate_hidden]` | rows contiguous, overwritten; padding rows become 0 |
/// | `grad_row_weights` | FP32 | `[num_groups * m]` | contiguous, overwritten; padding rows become 0 |
///
/// # Numerics
///
/// FP32 as written, then one rounding where `grad_gate_up` is BF16; bitwise equal on every backend.
/// The sum is 32 partial sums: sum `l` takes the columns `l`, `l + 32`, .. in that order by fused
/// multiply-adds; then sum `l` takes sum `l + 16`, then `l + 8`, 4, 2, 1.
///
/// # Source
///
/// TileKernels `swiglu_backward`. Differs: no quantised input, and a stated order of summation.
///
/// # Examples
///
/// ```
/// use moekit::moe::swiglu::{SwigluBackwardArgs, SwigluInput};
/// use moekit::tensor::Tensor;
/// use moekit::{Backend, Cpu};
///
/// let cpu = Cpu::new();
/// let gate_up = Tensor::from_host(&cpu, &[0.0f32, 2.0], [1, 2])?;
/// let grad_out = Tensor::from_host(&cpu, &[1.0f32], [1, 1])?;
/// let mut grad_gate_up = Tensor::zeros(&cpu, [1, 2])?;
/// let input = SwigluInput::new(gate_up.view());
/// let args = SwigluBackwardArgs::new(input, grad_out.view(), grad_gate_up.view_mut(), None)?;
/// cpu.swiglu_backward(&cpu.stream()?, args)?;
/// assert_eq!(grad_gate_up.to_host(&cpu)?, [1.0, 0.0]);
/// # Ok::<(), moekit::Error>(())
/// ```
#[derive(Debug)]
pub struct SwigluBackwardArgs<'a, B, T: Activation, D: Activation> {
    pub(crate) input: CheckedInput<'a, B, T>,
    pub(crate) grad_out: TensorRef<'a, B, D, 3>,
    pub(crate) grad_gate_up: TensorMut<'a, B, D, 3>,
    pub(crate) grad_row_weights: Option<TensorMut<'a, B, f32, 1>>,
}

impl<'a, B, T: Activation, D: Activation> SwigluBackwardArgs<'a, B, T, D> {
    /// Checks shapes and strides.
    ///
    /// # Errors
    ///
    /// - [`Error::Alignment`](crate::Error::Alignment) unless `gate_up` has an even number of
    ///   columns.
    /// - [`Error::Shape`](crate::Error::Shape) unless all have the shapes above.
    /// - [`Error::Stride`](crate::Error::Stride) unless rows are contiguous.
    /// - [`Error::Value`](crate::Error::Value) if `limit` is negative or NaN.
    pub fn new<const R: usize>(
        input: SwigluInput<'a, B, T, R>,
        grad_out: TensorRef<'a, B, D, R>,
        grad_gate_up: TensorMut<'a, B, D, R>,
        grad_row_weights: Option<TensorMut<'a, B, f32, 1>>,
    ) -> Result<Self> {
        const OP: &str = "swiglu_backward";
        let (in_shape, out_shape) = (input.gate_up.shape(), input.out_shape());
        let input = input.check(OP)?;
        check::shape(OP, "grad_out", &out_shape, &grad_out.shape())?;
        check::contiguous_rows(OP, "grad_out", grad_out.layout())?;
        check::shape(OP, "grad_gate_up", &in_shape, &grad_gate_up.shape())?;
        check::contiguous_rows(OP, "grad_gate_up", grad_gate_up.layout())?;
        if let Some(grad_row_weights) = &grad_row_weights {
            let [num_groups, m, _] = input.gate_up.shape();
            check::shape(OP, "grad_row_weights", &[num_groups * m], &grad_row_weights.shape())?;
            check::contiguous(OP, "grad_row_weights", grad_row_weights.layout())?;
        }
        let (grad_out, grad_gate_up) = (stacked_ref(grad_out), stacked_mut(grad_gate_up));
        Ok(Self { input, grad_out, grad_gate_up, grad_row_weights })
    }
}
