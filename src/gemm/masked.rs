//! Products grouped along M, each group in its own matrix of `max_m` rows.

use super::operands::{check_row_weights, row_weights_cost};
use super::{GemmKind, GemmOut, GemmShape, Operands};
use crate::backend::Backend;
use crate::cost::Cost;
use crate::error::Result;
use crate::num::bf16;
use crate::tensor::{QuantRef, TensorRef, check};

const OP: &str = "m_grouped_gemm_nt_masked";

/// How many rows of each group are valid.
#[derive(Debug)]
pub struct MaskedRows<'a, B> {
    /// INT32 `[num_groups]`: valid rows; values above `max_m` count as `max_m`.
    pub masked_m: TensorRef<'a, B, i32, 1>,
    /// Rows per group that the caller expects; only the choice of tile may depend on it.
    pub expected_m: usize,
}

impl<B> MaskedRows<'_, B> {
    /// Checks that there is a count for each group of A and B; returns their number.
    pub(super) fn check(
        &self,
        op: &'static str,
        operands: &Operands<'_, B, 3, 3>,
    ) -> Result<usize> {
        let ([_, max_m, k], [num_groups, ..]) =
            (operands.a_layout().shape(), operands.b_layout().shape());
        check::shape(op, "a", &[num_groups, max_m, k], &operands.a_layout().shape())?;
        check::shape(op, "masked_m", &[num_groups], &self.masked_m.shape())?;
        check::contiguous(op, "masked_m", self.masked_m.layout())?;
        Ok(num_groups)
    }
}

/// Arguments of [`Backend::m_grouped_gemm_nt_masked`].
#[derive(Debug)]
pub struct MaskedGemmArgs<'a, B> {
    pub(crate) operands: Operands<'a, B, 3, 3>,
    pub(crate) rows: MaskedRows<'a, B>,
    pub(crate) out: GemmOut<'a, B, 3>,
    pub(crate) row_weights: Option<TensorRef<'a, B, f32, 1>>,
}

impl<'a, B: Backend> MaskedGemmArgs<'a, B> {
    /// Checks the metadata: A `[num_groups, max_m, k]`, B `[num_groups, n, k]`,
    /// D `[num_groups, max_m, n]`.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Shape`] unless the extents agree; [`crate::Error::Alignment`] unless
    /// `k % 16 == 0`; [`crate::Error::Stride`] unless rows are contiguous.
    pub fn new(
        operands: Operands<'a, B, 3, 3>,
        rows: MaskedRows<'a, B>,
        out: GemmOut<'a, B, 3>,
    ) -> Result<Self> {
        let (max_m, n, _) = operands.check(OP)?;
        let num_groups = rows.check(OP, &operands)?;
        out.check(OP, [num_groups, max_m, n])?;
        Ok(Self { operands, rows, out, row_weights: None })
    }

    /// Multiplies the sums of each row of D by a weight of its own, FP32 `[num_groups * max_m]`, contiguous, rows counted
    /// through all groups; as [`GroupedGemmArgs::with_row_weights`](super::GroupedGemmArgs::with_row_weights). Weights
    /// of rows behind a group's count are not read.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Shape`], [`crate::Error::Stride`] unless there is one weight for each row, without gaps.
    pub fn with_row_weights(self, row_weights: TensorRef<'a, B, f32, 1>) -> Result<Self> {
        let [num_groups, max_m, _] = self.operands.a_layout().shape();
        check_row_weights(OP, &row_weights, num_groups * max_m)?;
        Ok(Self { row_weights: Some(row_weights), ..self })
    }

    /// The product's extents, with the rows that the caller expects.
    pub fn shape(&self) -> GemmShape {
        let ([_, max_m, k], [num_groups, n, _]) =
            (self.operands.a_layout().shape(), self.operands.b_layout().shape());
        let (format, out) = (self.operands.format(), self.out.format());
        let shape = GemmShape::new(GemmKind::Masked, self.rows.expected_m.min(max_m), n, k);
        GemmShape { format, out, num_groups, max_m: Some(max_m), ..shape }
    }

    /// Arithmetic and traffic if every group has the rows that the caller expects: the true ones are not known
    /// before the call.
    pub fn cost(&self) -> Cost {
        let shape = self.shape();
        let num_rows = shape.num_groups * shape.m;
        shape.cost() + row_weights_cost(self.row_weights.as_ref(), num_rows)
    }
}

/// Multiplies the first `masked_m[g]` rows of each group with that group's weights, in FP8.
///
/// # Shapes
///
/// | name | dtype | shape | layout |
/// | --- | --- | --- | --- |
/// | `a` | E4M3, FP32 scales | `[num_groups, max_m, k]`, `[num_groups, max_m, ceil_div(k, 128)]` | K-major |
/// | `b` | E4M3, FP32 scales | `[num_groups, n, k]`, `[num_groups, ceil_div(n, 128), ceil_div(k, 128)]` | K-major |
/// | `rows.masked_m` | INT32 | `[num_groups]` | |
/// | `out` | BF16 or FP32 | `[num_groups, max_m, n]` | rows contiguous; other rows are left as they are |
///
/// # Numerics
///
/// See the [module](crate::gemm); the same bits as the contiguous layout gives for the same row.
///
/// # Errors
///
/// Those of [`MaskedGemmArgs::new`]; at [`Backend::check`], [`crate::Error::Value`] if a `masked_m`
/// is negative (treated as 0).
///
/// # Source
///
/// DeepGEMM `m_grouped_fp8_gemm_nt_masked`.
///
/// # Examples
///
/// Two experts with room for two rows each; the second has one row.
///
/// ```
/// use moekit::gemm::{GemmOut, MaskedRows, m_grouped_fp8_gemm_nt_masked};
/// use moekit::num::E4M3;
/// use moekit::tensor::{QuantRef, TensorMut, TensorRef};
/// use moekit::{Backend, Cpu};
///
/// let cpu = Cpu::new();
/// let stream = cpu.stream()?;
/// let (a, b) = (vec![E4M3::from_f32(1.0); 2 * 2 * 16], vec![E4M3::from_f32(0.5); 2 * 4 * 16]);
/// let mut d = vec![-1.0f32; 2 * 2 * 4];
/// m_grouped_fp8_gemm_nt_masked(
///     &cpu,
///     &stream,
///     QuantRef {
///         values: TensorRef::from_slice(&a, [2, 2, 16])?,
///         scales: TensorRef::from_slice(&[1.0; 4], [2, 2, 1])?,
///     },
///     QuantRef {
///         values: TensorRef::from_slice(&b, [2, 4, 16])?,
///         scales: TensorRef::from_slice(&[1.0, 2.0], [2, 1, 1])?,
///     },
///     MaskedRows { masked_m: TensorRef::from_slice(&[2, 1], [2])?, expected_m: 2 },
///     GemmOut::F32(TensorMut::from_slice(&mut d, [2, 2, 4])?),
/// )?;
/// cpu.check(&stream)?;
/// assert_eq!(d, [[8.0; 4], [8.0; 4], [16.0; 4], [-1.0; 4]].concat());
/// # Ok::<(), moekit::Error>(())
/// ```
pub fn m_grouped_fp8_gemm_nt_masked<B: Backend>(
    backend: &B,
    stream: &B::Stream,
    a: QuantRef<'_, B, 3>,
    b: QuantRef<'_, B, 3>,
    rows: MaskedRows<'_, B>,
    out: GemmOut<'_, B, 3>,
) -> Result<()> {
    let args = MaskedGemmArgs::new(Operands::Fp8 { a, b }, rows, out)?;
    backend.m_grouped_gemm_nt_masked(stream, args)
}

/// Multiplies the first `masked_m[g]` rows of each group with that group's weights, in BF16; as
/// [`m_grouped_fp8_gemm_nt_masked`], without scales.
///
/// # Errors
///
/// Those of [`MaskedGemmArgs::new`].
pub fn m_grouped_bf16_gemm_nt_masked<B: Backend>(
    backend: &B,
    stream: &B::Stream,
    a: TensorRef<'_, B, bf16, 3>,
    b: TensorRef<'_, B, bf16, 3>,
    rows: MaskedRows<'_, B>,
    out: GemmOut<'_, B, 3>,
) -> Result<()> {
    let args = MaskedGemmArgs::new(Operands::Bf16 { a, b }, rows, out)?;
    backend.m_grouped_gemm_nt_masked(stream, args)
}
