//! Products grouped along M, rows of all groups in one matrix.

use super::operands::{check_row_weights, row_weights_cost};
use super::{GemmKind, GemmOut, GemmShape, Operands};
use crate::backend::Backend;
use crate::cost::Cost;
use crate::error::Result;
use crate::num::{bf16, ceil_div};
use crate::tensor::{QuantRef, TensorRef, check};

const OP: &str = "m_grouped_gemm_nt_contiguous";

/// Which group each row belongs to.
#[derive(Debug)]
pub enum GroupRows<'a, B> {
    /// INT32 `[m]`: group of each row, -1 = padding. Rows of a group lie together.
    PerRow(TensorRef<'a, B, i32, 1>),
    /// Groups one after another.
    Offsets {
        /// INT32 `[num_groups + 1]`: first row of each group, then the end.
        expert_offsets: TensorRef<'a, B, i32, 1>,
        /// INT32 `[num_groups]`: valid rows of each group, unaligned; the rest of it is padding.
        num_recv_tokens_per_expert: TensorRef<'a, B, i32, 1>,
    },
}

impl<B> Clone for GroupRows<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B> Copy for GroupRows<'_, B> {}

impl<B> GroupRows<'_, B> {
    pub(super) fn check(&self, op: &'static str, num_groups: usize, m: usize) -> Result<()> {
        match self {
            Self::PerRow(grouped_layout) => {
                check::shape(op, "grouped_layout", &[m], &grouped_layout.shape())?;
                check::contiguous(op, "grouped_layout", grouped_layout.layout())
            }
            Self::Offsets { expert_offsets, num_recv_tokens_per_expert: num_recv } => {
                check::shape(op, "expert_offsets", &[num_groups + 1], &expert_offsets.shape())?;
                check::contiguous(op, "expert_offsets", expert_offsets.layout())?;
                const ARG: &str = "num_recv_tokens_per_expert";
                check::shape(op, ARG, &[num_groups], &num_recv.shape())?;
                check::contiguous(op, ARG, num_recv.layout())
            }
        }
    }
}

/// Arguments of [`Backend::m_grouped_gemm_nt_contiguous`].
#[derive(Debug)]
pub struct GroupedGemmArgs<'a, B> {
    pub(crate) operands: Operands<'a, B, 2, 3>,
    pub(crate) rows: GroupRows<'a, B>,
    pub(crate) out: GemmOut<'a, B, 2>,
    pub(crate) row_weights: Option<TensorRef<'a, B, f32, 1>>,
}

impl<'a, B: Backend> GroupedGemmArgs<'a, B> {
    /// Checks the metadata: A `[m, k]`, B `[num_groups, n, k]`, D `[m, n]`.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Shape`] unless the extents agree; [`crate::Error::Alignment`] unless
    /// `k % 16 == 0`; [`crate::Error::Stride`] unless rows are contiguous.
    pub fn new(
        operands: Operands<'a, B, 2, 3>,
        rows: GroupRows<'a, B>,
        out: GemmOut<'a, B, 2>,
    ) -> Result<Self> {
        let (m, n, _) = operands.check(OP)?;
        let num_groups = operands.b_layout().shape()[0];
        rows.check(OP, num_groups, m)?;
        out.check(OP, [m, n])?;
        Ok(Self { operands, rows, out, row_weights: None })
    }

    /// Multiplies the sums of each row of D by a weight of its own, FP32 `[m]`, contiguous, before they are rounded or
    /// added: `d[i, :] = round(row_weights[i] * (a[i, :] · b[g, :, :]ᵀ))`.
    ///
    /// The product with the weight is rounded to FP32. A weight of 1 leaves the bits as they are, a weight of 0 makes
    /// NaN of an infinite or NaN sum, as IEEE 754 says. Weights of padding rows are not read.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Shape`], [`crate::Error::Stride`] unless there is one weight for each row, without gaps.
    ///
    /// # Examples
    ///
    /// Two rows of one expert, weighted by 0.5 and 2.
    ///
    /// ```
    /// use moekit::gemm::{GemmOut, GroupRows, GroupedGemmArgs, Operands};
    /// use moekit::num::bf16;
    /// use moekit::tensor::{TensorMut, TensorRef};
    /// use moekit::{Backend, Cpu};
    ///
    /// let cpu = Cpu::new();
    /// let (a, b) = ([bf16::ONE; 2 * 16], [bf16::ONE; 3 * 16]);
    /// let mut d = [0.0f32; 2 * 3];
    /// let operands = Operands::Bf16 {
    ///     a: TensorRef::from_slice(&a, [2, 16])?,
    ///     b: TensorRef::from_slice(&b, [1, 3, 16])?,
    /// };
    /// let rows = GroupRows::PerRow(TensorRef::from_slice(&[0, 0], [2])?);
    /// let out = GemmOut::F32(TensorMut::from_slice(&mut d, [2, 3])?);
    /// let args = GroupedGemmArgs::new(operands, rows, out)?
    ///     .with_row_weights(TensorRef::from_slice(&[0.5, 2.0], [2])?)?;
    /// cpu.m_grouped_gemm_nt_contiguous(&cpu.stream()?, args)?;
    /// assert_eq!(d, [8.0, 8.0, 8.0, 32.0, 32.0, 32.0]);
    /// # Ok::<(), moekit::Error>(())
    /// ```
    pub fn with_row_weights(self, row_weights: TensorRef<'a, B, f32, 1>) -> Result<Self> {
        check_row_weights(OP, &row_weights, self.operands.a_layout().shape()[0])?;
        Ok(Self { row_weights: Some(row_weights), ..self })
    }

    /// The product's extents, the rows spread over all groups.
    pub fn shape(&self) -> GemmShape {
        let ([m, k], [num_groups, n, _]) =
            (self.operands.a_layout().shape(), self.operands.b_layout().shape());
        let (format, out) = (self.operands.format(), self.out.format());
        let rows = ceil_div(m, num_groups.max(1));
        let shape = GemmShape::new(GemmKind::Contiguous, rows, n, k);
        GemmShape { format, out, num_groups, ..shape }
    }

    /// Arithmetic and traffic if every row holds a token and every group has some: padding is not known before
    /// the call.
    pub fn cost(&self) -> Cost {
        let num_rows = self.operands.a_layout().shape()[0];
        let weights = row_weights_cost(self.row_weights.as_ref(), num_rows);
        self.shape().cost_of_rows(num_rows) + weights
    }
}

/// Multiplies every expert's rows with that expert's weights, in FP8.
///
/// `d[i, :] = a[i, :] · b[g, :, :]ᵀ` with `g` the group of row `i`; padding rows become zeros.
///
/// # Shapes
///
/// | name | dtype | shape | layout |
/// | --- | --- | --- | --- |
/// | `a` | E4M3, FP32 scales | `[m, k]`, `[m, ceil_div(k, 128)]` | K-major; scales of any strides |
/// | `b` | E4M3, FP32 scales | `[num_groups, n, k]`, `[num_groups, ceil_div(n, 128), ceil_div(k, 128)]` | K-major |
/// | `rows` | INT32 | see [`GroupRows`] | |
/// | `out` | BF16 or FP32 | `[m, n]` | rows contiguous |
///
/// # Numerics
///
/// See the [module](crate::gemm). Padding rows of A are not read; those of D become zeros, also when
/// accumulating.
///
/// # Errors
///
/// Those of [`GroupedGemmArgs::new`]; at [`Backend::check`], [`crate::Error::Value`] if a group or an
/// offset is out of range (such rows are treated as padding).
///
/// # Source
///
/// DeepGEMM `m_grouped_fp8_gemm_nt_contiguous`. Differs: padding rows are zeroed, not left
/// unspecified.
///
/// # Examples
///
/// Four rows of two experts; the third is padding.
///
/// ```
/// use moekit::gemm::{GemmOut, GroupRows, m_grouped_fp8_gemm_nt_contiguous};
/// use moekit::num::{E4M3, bf16};
/// use moekit::tensor::{QuantRef, TensorMut, TensorRef};
/// use moekit::{Backend, Cpu};
///
/// let cpu = Cpu::new();
/// let stream = cpu.stream()?;
/// let a = vec![E4M3::from_f32(1.0); 4 * 16];
/// let b = [[E4M3::from_f32(1.0); 8 * 16], [E4M3::from_f32(-2.0); 8 * 16]].concat();
/// let grouped_layout = [0, 0, -1, 1];
/// let mut d = vec![bf16::NAN; 4 * 8];
/// m_grouped_fp8_gemm_nt_contiguous(
///     &cpu,
///     &stream,
///     QuantRef {
///         values: TensorRef::from_slice(&a, [4, 16])?,
///         scales: TensorRef::from_slice(&[1.0, 0.5, 1.0, 1.0], [4, 1])?,
///     },
///     QuantRef {
///         values: TensorRef::from_slice(&b, [2, 8, 16])?,
///         scales: TensorRef::from_slice(&[1.0, 4.0], [2, 1, 1])?,
///     },
///     GroupRows::PerRow(TensorRef::from_slice(&grouped_layout, [4])?),
///     GemmOut::Bf16(TensorMut::from_slice(&mut d, [4, 8])?),
/// )?;
/// cpu.check(&stream)?;
/// let first: Vec<f32> = d.chunks(8).map(|row| row[0].to_f32()).collect();
/// assert_eq!(first, [16.0, 8.0, 0.0, -128.0]);
/// # Ok::<(), moekit::Error>(())
/// ```
pub fn m_grouped_fp8_gemm_nt_contiguous<B: Backend>(
    backend: &B,
    stream: &B::Stream,
    a: QuantRef<'_, B, 2>,
    b: QuantRef<'_, B, 3>,
    rows: GroupRows<'_, B>,
    out: GemmOut<'_, B, 2>,
) -> Result<()> {
    let args = GroupedGemmArgs::new(Operands::Fp8 { a, b }, rows, out)?;
    backend.m_grouped_gemm_nt_contiguous(stream, args)
}

/// Multiplies every expert's rows with that expert's weights, in BF16; as
/// [`m_grouped_fp8_gemm_nt_contiguous`], without scales.
///
/// # Errors
///
/// Those of [`GroupedGemmArgs::new`].
pub fn m_grouped_bf16_gemm_nt_contiguous<B: Backend>(
    backend: &B,
    stream: &B::Stream,
    a: TensorRef<'_, B, bf16, 2>,
    b: TensorRef<'_, B, bf16, 3>,
    rows: GroupRows<'_, B>,
    out: GemmOut<'_, B, 2>,
) -> Result<()> {
    let args = GroupedGemmArgs::new(Operands::Bf16 { a, b }, rows, out)?;
    backend.m_grouped_gemm_nt_contiguous(stream, args)
}
