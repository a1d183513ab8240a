//! Arguments of the activation, plain and requantised.

use super::{CheckedInput, SwigluInput};
use crate::error::Result;
use crate::moe::Activation;
use crate::moe::quant::{K_ALIGNMENT, ScaleFormat, checked_output};
use crate::moe::stack::stacked_mut;
use crate::tensor::{QuantMut, TensorMut, check};

/// Arguments of [`Backend::swiglu`](crate::Backend::swiglu): `out = silu(gate) * up`.
///
/// # Shapes
///
/// | name | dtype | shape | layout |
/// | --- | --- | --- | --- |
/// | `input` | | | see [`SwigluInput`] |
/// | `out` | BF16 or FP32 | `[num_groups, m, intermediate_hidden]` | rows contiguous, overwritten; padding rows become 0 |
///
/// # Numerics
///
/// As [`moe::swiglu`](crate::moe::swiglu) writes it, then one rounding where `out` is BF16; bitwise
/// equal on every backend. Within 6 ulp of FP32 of the true value.
///
/// # Examples
///
/// ```
/// use moekit::moe::swiglu::{SwigluArgs, SwigluInput};
/// use moekit::tensor::Tensor;
/// use moekit::{Backend, Cpu};
///
/// let cpu = Cpu::new();
/// let gate_up = Tensor::from_host(&cpu, &[0.0f32, 30.0, 7.0, 2.0], [1, 4])?;
/// let mut out = Tensor::<_, f32, 2>::zeros(&cpu, [1, 2])?;
/// let input = SwigluInput { limit: 10.0, ..SwigluInput::new(gate_up.view()) };
/// cpu.swiglu(&cpu.stream()?, SwigluArgs::new(input, out.view_mut())?)?;
/// let out = out.to_host(&cpu)?;
/// assert_eq!(out[0], 0.0);
/// assert!((out[1] - 19.9991).abs() < 1e-4, "silu(10) * 2");
/// # Ok::<(), moekit::Error>(())
/// ```
#[derive(Debug)]
pub struct SwigluArgs<'a, B, T: Activation, U: Activation> {
    pub(crate) input: CheckedInput<'a, B, T>,
    pub(crate) out: TensorMut<'a, B, U, 3>,
}

impl<'a, B, T: Activation, U: Activation> SwigluArgs<'a, B, T, U> {
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
        out: TensorMut<'a, B, U, R>,
    ) -> Result<Self> {
        const OP: &str = "swiglu";
        let shape = input.out_shape();
        let input = input.check(OP)?;
        check::shape(OP, "out", &shape, &out.shape())?;
        check::contiguous_rows(OP, "out", out.layout())?;
        Ok(Self { input, out: stacked_mut(out) })
    }
}

/// Arguments of [`Backend::swiglu_quantize`](crate::Backend::swiglu_quantize): the activation,
/// quantised per token x 128 of `intermediate_hidden`, which is K of the next product.
///
/// # Shapes
///
/// | name | dtype | shape | layout |
/// | --- | --- | --- | --- |
/// | `input` | | | see [`SwigluInput`] |
/// | `out.values` | E4M3 | `[num_groups, m, intermediate_hidden]` | rows contiguous, overwritten |
/// | `out.scales` | FP32 | `[num_groups, m, ceil_div(intermediate_hidden, 128)]` | any strides, overwritten |
///
/// Padding rows become the codes and scales of zeros.
///
/// # Numerics
///
/// As [`moe::swiglu`](crate::moe::swiglu) writes it in FP32, then the rule of
/// [`moe::quant`](crate::moe::quant) without a BF16 in between; bitwise equal on every backend.
///
/// # Examples
///
/// ```
/// use moekit::moe::quant::ScaleFormat;
/// use moekit::moe::swiglu::{SwigluInput, SwigluQuantizeArgs};
/// use moekit::tensor::{QuantTensor, ScaleLayout, Tensor};
/// use moekit::{Backend, Cpu};
///
/// let cpu = Cpu::new();
/// let gate_up = Tensor::from_host(&cpu, &[[100.0f32; 16], [4.48; 16]].concat(), [1, 32])?;
/// let mut out = QuantTensor::zeros_per_row(&cpu, [1, 16], ScaleLayout::RowMajor)?;
/// let input = SwigluInput::new(gate_up.view());
/// let args = SwigluQuantizeArgs::new(input, out.view_mut(), ScaleFormat::Ue8m0)?;
/// cpu.swiglu_quantize(&cpu.stream()?, args)?;
/// assert_eq!(out.scales.to_host(&cpu)?, [1.0]);
/// assert_eq!(out.values.to_host(&cpu)?[0].to_f32(), 448.0);
/// # Ok::<(), moekit::Error>(())
/// ```
#[derive(Debug)]
pub struct SwigluQuantizeArgs<'a, B, T: Activation> {
    pub(crate) input: CheckedInput<'a, B, T>,
    pub(crate) out: QuantMut<'a, B, 3>,
    pub(crate) format: ScaleFormat,
}

impl<'a, B, T: Activation> SwigluQuantizeArgs<'a, B, T> {
    /// Checks shapes and strides.
    ///
    /// # Errors
    ///
    /// - [`Error::Alignment`](crate::Error::Alignment) unless `intermediate_hidden % 16 == 0`.
    /// - [`Error::Shape`](crate::Error::Shape) unless all have the shapes above.
    /// - [`Error::Stride`](crate::Error::Stride) unless rows are contiguous and no two output
    ///   elements share an address.
    /// - [`Error::Value`](crate::Error::Value) if `limit` is negative or NaN.
    pub fn new<const R: usize>(
        input: SwigluInput<'a, B, T, R>,
        out: QuantMut<'a, B, R>,
        format: ScaleFormat,
    ) -> Result<Self> {
        const OP: &str = "swiglu_quantize";
        let shape = input.out_shape();
        let input = input.check(OP)?;
        check::multiple(OP, "intermediate_hidden", K_ALIGNMENT, shape[R - 1])?;
        let out = checked_output(OP, out, shape)?;
        Ok(Self { input, out, format })
    }
}
