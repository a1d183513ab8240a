//! Arguments of the per-token quantisation.

use super::{Granularity, K_ALIGNMENT, ScaleFormat};
use crate::error::Result;
use crate::moe::stack::{stacked_mut, stacked_ref, with_matrix};
use crate::moe::{Activation, Rows};
use crate::tensor::{QuantMut, TensorRef, check};

/// Arguments of [`Backend::quantize`](crate::Backend::quantize): one scale per token and 128 of K.
///
/// # Shapes
///
/// `num_groups` is there for stacks alone (`R = 3`, the masked layout); a matrix has none.
///
/// | name | dtype | shape | layout |
/// | --- | --- | --- | --- |
/// | `x` | BF16 or FP32 | `[num_groups, m, k]` | rows contiguous |
/// | `out.values` | E4M3 | `[num_groups, m, k]` | rows contiguous, overwritten |
/// | `out.scales` | FP32 | `[num_groups, m, ceil_div(k, 128)]` | any strides, overwritten |
/// | `rows` | INT32 | see [`Rows`] | padding rows become the codes and scales of zeros |
///
/// # Numerics
///
/// The rule of [`moe::quant`](crate::moe::quant), bitwise equal on every backend.
///
/// # Source
///
/// DeepSeek-V3 technical report, section 3.3.2; DeepGEMM `per_token_cast_to_fp8`. Differs: NaN
/// stays alone and infinity saturates, and padding rows are defined.
///
/// # Examples
///
/// ```
/// use moekit::moe::Rows;
/// use moekit::moe::quant::{QuantizeArgs, ScaleFormat};
/// use moekit::tensor::{QuantTensor, ScaleLayout, Tensor};
/// use moekit::{Backend, Cpu};
///
/// let cpu = Cpu::new();
/// let x = Tensor::from_host(&cpu, &[[1.0f32; 16], [-896.0; 16]].concat(), [2, 16])?;
/// let mut out = QuantTensor::zeros_per_row(&cpu, [2, 16], ScaleLayout::RowMajor)?;
/// let args = QuantizeArgs::new(x.view(), out.view_mut(), ScaleFormat::Fp32, Rows::All)?;
/// cpu.quantize(&cpu.stream()?, args)?;
/// assert_eq!(out.scales.to_host(&cpu)?, [1.0 / 448.0, 2.0]);
/// assert_eq!(out.values.to_host(&cpu)?[16].to_f32(), -448.0);
/// # Ok::<(), moekit::Error>(())
/// ```
#[derive(Debug)]
pub struct QuantizeArgs<'a, B, T: Activation> {
    pub(crate) x: TensorRef<'a, B, T, 3>,
    pub(crate) out: QuantMut<'a, B, 3>,
    pub(crate) format: ScaleFormat,
    pub(crate) rows: Rows<'a, B>,
}

impl<'a, B, T: Activation> QuantizeArgs<'a, B, T> {
    /// Checks shapes and strides; `R` is 2 for a matrix, 3 for a stack of them.
    ///
    /// # Errors
    ///
    /// - [`Error::Alignment`](crate::Error::Alignment) unless `k % 16 == 0`.
    /// - [`Error::Shape`](crate::Error::Shape) unless outputs and `rows` have the shapes above.
    /// - [`Error::Stride`](crate::Error::Stride) unless rows are contiguous and no two output
    ///   elements share an address.
    pub fn new<const R: usize>(
        x: TensorRef<'a, B, T, R>,
        out: QuantMut<'a, B, R>,
        format: ScaleFormat,
        rows: Rows<'a, B>,
    ) -> Result<Self> {
        const OP: &str = "quantize";
        check::multiple(OP, "k", K_ALIGNMENT, x.shape()[R - 1])?;
        check::contiguous_rows(OP, "x", x.layout())?;
        let out = checked_output(OP, out, x.shape())?;
        let x = stacked_ref(x);
        let [num_groups, m, _] = x.shape();
        rows.check(OP, [num_groups, m])?;
        Ok(Self { x, out, format, rows })
    }
}

/// Checks a per-token quantised output of this shape.
pub(crate) fn checked_output<'a, B, const R: usize>(
    op: &'static str,
    out: QuantMut<'a, B, R>,
    shape: [usize; R],
) -> Result<QuantMut<'a, B, 3>> {
    let scale_shape = Granularity::PerToken.scale_shape([shape[R - 2], shape[R - 1]]);
    check::shape(op, "out.values", &shape, &out.values.shape())?;
    check::contiguous_rows(op, "out.values", out.values.layout())?;
    check::shape(op, "out.scales", &with_matrix(shape, scale_shape), &out.scales.shape())?;
    check::no_overlap(op, "out.scales", out.scales.layout())?;
    Ok(QuantMut { values: stacked_mut(out.values), scales: stacked_mut(out.scales) })
}
