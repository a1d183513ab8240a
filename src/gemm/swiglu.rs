//! The first product of experts with its activation: product, SwiGLU and quantisation in one stage.

use super::grouped::GroupRows;
use super::masked::MaskedRows;
use super::operands::{check_row_weights, row_weights_cost};
use super::{GemmKind, GemmOutFormat, GemmShape, Operands};
use crate::backend::Backend;
use crate::cost::Cost;
use crate::error::Result;
use crate::moe::quant::{GRAN_K, ScaleFormat, checked_output};
use crate::moe::swiglu::check_limit;
use crate::num::ceil_div;
use crate::tensor::{QuantMut, QuantRef, TensorRef, check};

const CONTIGUOUS: &str = "m_grouped_gemm_swiglu_contiguous";
const MASKED: &str = "m_grouped_gemm_swiglu_masked";

/// What becomes of the product's rows, and where it goes; `R` is 2 for a matrix, 3 for a stack.
#[derive(Debug)]
pub struct SwigluOut<'a, B, const R: usize> {
    /// E4M3 `[.., m, intermediate_hidden]`, FP32 scales `[.., m, intermediate_hidden / 128]` of any strides.
    pub act: QuantMut<'a, B, R>,
    /// Form of the scales.
    pub scale_format: ScaleFormat,
    /// Clamp of gate and up; `f32::INFINITY` for none.
    pub limit: f32,
    /// FP32, one weight per row, counted through all groups; `None` = 1.
    pub row_weights: Option<TensorRef<'a, B, f32, 1>>,
}

impl<'a, B, const R: usize> SwigluOut<'a, B, R> {
    /// No clamp, no weights.
    pub const fn new(act: QuantMut<'a, B, R>, scale_format: ScaleFormat) -> Self {
        Self { act, scale_format, limit: f32::INFINITY, row_weights: None }
    }

    /// Checks it against a product of `[num_groups, m, 2 * intermediate_hidden]`.
    fn check(
        self,
        op: &'static str,
        shape: [usize; R],
        num_rows: usize,
    ) -> Result<SwigluOut<'a, B, 3>> {
        check::multiple(op, "intermediate_hidden", GRAN_K, shape[R - 1])?;
        check_limit(op, self.limit)?;
        if let Some(row_weights) = &self.row_weights {
            check_row_weights(op, row_weights, num_rows)?;
        }
        let act = checked_output(op, self.act, shape)?;
        let Self { scale_format, limit, row_weights, .. } = self;
        Ok(SwigluOut { act, scale_format, limit, row_weights })
    }
}

/// Arguments of [`Backend::m_grouped_gemm_swiglu_contiguous`].
#[derive(Debug)]
pub struct GroupedSwigluArgs<'a, B> {
    pub(crate) a: QuantRef<'a, B, 2>,
    pub(crate) b: QuantRef<'a, B, 3>,
    pub(crate) rows: GroupRows<'a, B>,
    pub(crate) out: SwigluOut<'a, B, 3>,
}

impl<'a, B: Backend> GroupedSwigluArgs<'a, B> {
    /// Checks the metadata: A `[m, k]`, B `[num_groups, 2 * intermediate_hidden, k]`, the activations
    /// `[m, intermediate_hidden]`.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Shape`] unless the extents agree; [`crate::Error::Alignment`] unless `k % 16 == 0` and
    /// `intermediate_hidden % 128 == 0`; [`crate::Error::Stride`] unless rows are contiguous;
    /// [`crate::Error::Value`] if `limit` is negative or NaN.
    pub fn new(
        a: QuantRef<'a, B, 2>,
        b: QuantRef<'a, B, 3>,
        rows: GroupRows<'a, B>,
        out: SwigluOut<'a, B, 2>,
    ) -> Result<Self> {
        let (m, width) = check_operands(CONTIGUOUS, &Operands::Fp8 { a, b })?;
        rows.check(CONTIGUOUS, b.values.shape()[0], m)?;
        let out = out.check(CONTIGUOUS, [m, width], m)?;
        Ok(Self { a, b, rows, out })
    }

    /// The product's extents, the rows spread over all groups.
    pub fn shape(&self) -> GemmShape {
        let ([m, k], [num_groups, n, _]) = (self.a.values.shape(), self.b.values.shape());
        shape(GemmKind::Contiguous, [num_groups, ceil_div(m, num_groups.max(1)), n, k])
    }

    /// Arithmetic and traffic if every row holds a token and every group has some: padding is not known before
    /// the call.
    pub fn cost(&self) -> Cost {
        let num_rows = self.a.values.shape()[0];
        let weights = row_weights_cost(self.out.row_weights.as_ref(), num_rows);
        self.shape().cost_of_rows(num_rows) + weights
    }
}

/// Arguments of [`Backend::m_grouped_gemm_swiglu_masked`].
#[derive(Debug)]
pub struct MaskedSwigluArgs<'a, B> {
    pub(crate) a: QuantRef<'a, B, 3>,
    pub(crate) b: QuantRef<'a, B, 3>,
    pub(crate) rows: MaskedRows<'a, B>,
    pub(crate) out: SwigluOut<'a, B, 3>,
}

impl<'a, B: Backend> MaskedSwigluArgs<'a, B> {
    /// Checks the metadata: A `[num_groups, max_m, k]`, B `[num_groups, 2 * intermediate_hidden, k]`, the
    /// activations `[num_groups, max_m, intermediate_hidden]`.
    ///
    /// # Errors
    ///
    /// Those of [`GroupedSwigluArgs::new`].
    pub fn new(
        a: QuantRef<'a, B, 3>,
        b: QuantRef<'a, B, 3>,
        rows: MaskedRows<'a, B>,
        out: SwigluOut<'a, B, 3>,
    ) -> Result<Self> {
        let operands = Operands::Fp8 { a, b };
        let (max_m, width) = check_operands(MASKED, &operands)?;
        let num_groups = rows.check(MASKED, &operands)?;
        let out = out.check(MASKED, [num_groups, max_m, width], num_groups * max_m)?;
        Ok(Self { a, b, rows, out })
    }

    /// The product's extents, with the rows that the caller expects.
    pub fn shape(&self) -> GemmShape {
        let ([_, max_m, k], [num_groups, n, _]) = (self.a.values.shape(), self.b.values.shape());
        let shape = shape(GemmKind::Masked, [num_groups, self.rows.expected_m.min(max_m), n, k]);
        GemmShape { max_m: Some(max_m), ..shape }
    }

    /// Arithmetic and traffic if every group has the rows that the caller expects: the true ones are not known
    /// before the call.
    pub fn cost(&self) -> Cost {
        let shape = self.shape();
        let num_rows = shape.num_groups * shape.m;
        shape.cost() + row_weights_cost(self.out.row_weights.as_ref(), num_rows)
    }
}

/// Checks A and B; returns `m` and `intermediate_hidden`.
fn check_operands<B, const RA: usize>(
    op: &'static str,
    operands: &Operands<'_, B, RA, 3>,
) -> Result<(usize, usize)> {
    let (m, num_columns, _) = operands.check(op)?;
    check::multiple(op, "b rows", 2, num_columns)?;
    Ok((m, num_columns / 2))
}

fn shape(kind: GemmKind, [num_groups, m, n, k]: [usize; 4]) -> GemmShape {
    GemmShape { num_groups, out: GemmOutFormat::SwigluFp8, ..GemmShape::new(kind, m, n, k) }
}

/// Multiplies every expert's rows with that expert's gate and up-projection, activates and quantises them, in FP8:
/// what [`m_grouped_fp8_gemm_nt_contiguous`](super::m_grouped_fp8_gemm_nt_contiguous) into BF16 and
/// [`Backend::swiglu_quantize`] give, without the tensor between them.
///
/// # Shapes
///
/// | name | dtype | shape | layout |
/// | --- | --- | --- | --- |
/// | `a` | E4M3, FP32 scales | `[m, k]`, `[m, ceil_div(k, 128)]` | K-major; scales of any strides |
/// | `b` | E4M3, FP32 scales | `[num_groups, 2 * intermediate_hidden, k]` and a scale per 128 x 128 | K-major; gate, then up |
/// | `rows` | INT32 | see [`GroupRows`] | |
/// | `out.act` | E4M3, FP32 scales | `[m, intermediate_hidden]`, `[m, intermediate_hidden / 128]` | rows contiguous, overwritten; scales of any strides |
/// | `out.row_weights` | FP32 | `[m]` | contiguous |
///
/// `intermediate_hidden` is a multiple of 128. Padding rows of A are not read; those of the activations become the
/// codes and scales of zeros.
///
/// # Numerics
///
/// The product is rounded to BF16 as a D in BF16 is, then activated ([`moe::swiglu`](crate::moe::swiglu)) and quantised
/// ([`moe::quant`](crate::moe::quant)): on each backend the bits of the two stages.
///
/// # Errors
///
/// Those of [`GroupedSwigluArgs::new`]; at [`Backend::check`] those of the product, under its name.
///
/// # Source
///
/// DeepGEMM `m_grouped_fp8_gemm_nt_contiguous` and `swiglu_apply_weight_to_fp8`, which are two kernels there.
///
/// # Examples
///
/// ```
/// use moekit::gemm::{GroupRows, SwigluOut, m_grouped_fp8_gemm_swiglu_contiguous};
/// use moekit::moe::quant::ScaleFormat;
/// use moekit::num::E4M3;
/// use moekit::tensor::{QuantRef, QuantTensor, ScaleLayout, TensorRef};
/// use moekit::{Backend, Cpu};
///
/// let cpu = Cpu::new();
/// let stream = cpu.stream()?;
/// let a = vec![E4M3::from_f32(1.0); 2 * 16];
/// // One expert; gates are 16, up-projections 4.48.
/// let b = vec![E4M3::from_f32(1.0); 256 * 16];
/// let mut act = QuantTensor::zeros_per_row(&cpu, [2, 128], ScaleLayout::RowMajor)?;
/// m_grouped_fp8_gemm_swiglu_contiguous(
///     &cpu,
///     &stream,
///     QuantRef {
///         values: TensorRef::from_slice(&a, [2, 16])?,
///         scales: TensorRef::from_slice(&[1.0, 1.0], [2, 1])?,
///     },
///     QuantRef {
///         values: TensorRef::from_slice(&b, [1, 256, 16])?,
///         scales: TensorRef::from_slice(&[1.0, 0.28], [1, 2, 1])?,
///     },
///     GroupRows::PerRow(TensorRef::from_slice(&[0, -1], [2])?),
///     SwigluOut::new(act.view_mut(), ScaleFormat::Ue8m0),
/// )?;
/// cpu.check(&stream)?;
/// // 16 * 4.48 in BF16 is 71.5; scales are powers of two of at least 71.5 / 448.
/// assert_eq!(act.scales.to_host(&cpu)?[0], 0.25);
/// assert_eq!(act.values.to_host(&cpu)?[0].to_f32(), 288.0);
/// assert_eq!(act.values.to_host(&cpu)?[128].to_f32(), 0.0);
/// # Ok::<(), moekit::Error>(())
/// ```
pub fn m_grouped_fp8_gemm_swiglu_contiguous<B: Backend>(
    backend: &B,
    stream: &B::Stream,
    a: QuantRef<'_, B, 2>,
    b: QuantRef<'_, B, 3>,
    rows: GroupRows<'_, B>,
    out: SwigluOut<'_, B, 2>,
) -> Result<()> {
    let args = GroupedSwigluArgs::new(a, b, rows, out)?;
    backend.m_grouped_gemm_swiglu_contiguous(stream, args)
}

/// Multiplies, activates and quantises the first `masked_m[g]` rows of each group; as
/// [`m_grouped_fp8_gemm_swiglu_contiguous`] in the layout of
/// [`m_grouped_fp8_gemm_nt_masked`](super::m_grouped_fp8_gemm_nt_masked), with the same bits for the same row. Other
/// rows of the activations are left as they are.
///
/// # Errors
///
/// Those of [`MaskedSwigluArgs::new`]; at [`Backend::check`] those of the product, under its name.
pub fn m_grouped_fp8_gemm_swiglu_masked<B: Backend>(
    backend: &B,
    stream: &B::Stream,
    a: QuantRef<'_, B, 3>,
    b: QuantRef<'_, B, 3>,
    rows: MaskedRows<'_, B>,
    out: SwigluOut<'_, B, 3>,
) -> Result<()> {
    backend.m_grouped_gemm_swiglu_masked(stream, MaskedSwigluArgs::new(a, b, rows, out)?)
}
