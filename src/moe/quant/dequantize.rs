//! Arguments of the way back to BF16 or FP32.

use super::Granularity;
use crate::error::Result;
use crate::moe::Activation;
use crate::moe::stack::{stacked_mut, stacked_ref, with_matrix};
use crate::tensor::{QuantRef, TensorMut, check};

/// Arguments of [`Backend::dequantize`](crate::Backend::dequantize): codes times scales.
///
/// `out[i, j] = value(x.values[i, j]) * x.scales[i', j']`
///
/// # Shapes
///
/// `num_groups` is there for stacks alone (`R = 3`); `[scale_rows, scale_cols]` is
/// [`Granularity::scale_shape`].
///
/// | name | dtype | shape | layout |
/// | --- | --- | --- | --- |
/// | `x.values` | E4M3 | `[num_groups, rows, k]` | rows contiguous |
/// | `x.scales` | FP32 | `[num_groups, scale_rows, scale_cols]` | any strides |
/// | `out` | BF16 or FP32 | `[num_groups, rows, k]` | rows contiguous, overwritten |
///
/// # Numerics
///
/// One FP32 product, then one rounding to BF16 where `out` is BF16. The NaN code gives NaN.
///
/// # Examples
///
/// ```
/// use moekit::moe::quant::{DequantizeArgs, Granularity};
/// use moekit::num::E4M3;
/// use moekit::tensor::{QuantRef, Tensor};
/// use moekit::{Backend, Cpu};
///
/// let cpu = Cpu::new();
/// let values = Tensor::from_host(&cpu, &[E4M3::from_f32(1.5); 16], [1, 16])?;
/// let scales = Tensor::from_host(&cpu, &[2.0f32], [1, 1])?;
/// let x = QuantRef { values: values.view(), scales: scales.view() };
/// let mut out = Tensor::<_, f32, 2>::zeros(&cpu, [1, 16])?;
/// cpu.dequantize(&cpu.stream()?, DequantizeArgs::new(x, out.view_mut(), Granularity::PerToken)?)?;
/// assert_eq!(out.to_host(&cpu)?, [3.0; 16]);
/// # Ok::<(), moekit::Error>(())
/// ```
#[derive(Debug)]
pub struct DequantizeArgs<'a, B, T: Activation> {
    pub(crate) x: QuantRef<'a, B, 3>,
    pub(crate) out: TensorMut<'a, B, T, 3>,
    pub(crate) granularity: Granularity,
}

impl<'a, B, T: Activation> DequantizeArgs<'a, B, T> {
    /// Checks shapes and strides; `R` is 2 for a matrix, 3 for a stack of them.
    ///
    /// # Errors
    ///
    /// - [`Error::Shape`](crate::Error::Shape) unless scales and output have the shapes above.
    /// - [`Error::Stride`](crate::Error::Stride) unless the rows of `x.values` and `out` are
    ///   contiguous.
    pub fn new<const R: usize>(
        x: QuantRef<'a, B, R>,
        out: TensorMut<'a, B, T, R>,
        granularity: Granularity,
    ) -> Result<Self> {
        const OP: &str = "dequantize";
        let shape = x.values.shape();
        let scale_shape = granularity.scale_shape([shape[R - 2], shape[R - 1]]);
        check::contiguous_rows(OP, "x.values", x.values.layout())?;
        check::shape(OP, "x.scales", &with_matrix(shape, scale_shape), &x.scales.shape())?;
        check::shape(OP, "out", &shape, &out.shape())?;
        check::contiguous_rows(OP, "out", out.layout())?;
        let x = QuantRef { values: stacked_ref(x.values), scales: stacked_ref(x.scales) };
        let out = stacked_mut(out);
        Ok(Self { x, out, granularity })
    }
}
