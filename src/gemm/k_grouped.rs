//! Products grouped along K: the weight gradients of the experts.

use super::{GemmFormat, GemmKind, GemmShape};
use crate::backend::Backend;
use crate::cost::Cost;
use crate::error::Result;
use crate::num::{bf16, ceil_div};
use crate::tensor::{QuantRef, TensorMut, TensorRef, check};

const OP: &str = "k_grouped_gemm_nt_contiguous";

/// A and B, each group's matrix after the other.
#[derive(Debug)]
pub enum KGroupedOperands<'a, B> {
    /// E4M3 with FP32 scales per row x 128 of K on both sides.
    Fp8 {
        /// Values `[m * sum_k]`, group g an `[m, k_g]` matrix, K-major; scales `[m * sum_k / 128]`,
        /// group g an `[m, k_g / 128]` matrix, row-major.
        a: QuantRef<'a, B, 1>,
        /// As `a`, with `n` rows.
        b: QuantRef<'a, B, 1>,
    },
    /// BF16.
    Bf16 {
        /// `[m * sum_k]`, group g an `[m, k_g]` matrix, K-major.
        a: TensorRef<'a, B, bf16, 1>,
        /// As `a`, with `n` rows.
        b: TensorRef<'a, B, bf16, 1>,
    },
}

/// Arguments of [`Backend::k_grouped_gemm_nt_contiguous`].
#[derive(Debug)]
pub struct KGroupedGemmArgs<'a, B> {
    pub(crate) operands: KGroupedOperands<'a, B>,
    pub(crate) ks: &'a [usize],
    pub(crate) d: TensorMut<'a, B, f32, 3>,
}

impl<'a, B: Backend> KGroupedGemmArgs<'a, B> {
    /// Checks the metadata: `ks` has one entry per group, each a multiple of 128; D is
    /// `[num_groups, m, n]`.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Shape`] unless the extents agree; [`crate::Error::Alignment`] unless every `k_g % 128 == 0`;
    /// [`crate::Error::Stride`] unless the operands have no gaps and D's rows are contiguous.
    pub fn new(
        operands: KGroupedOperands<'a, B>,
        ks: &'a [usize],
        d: TensorMut<'a, B, f32, 3>,
    ) -> Result<Self> {
        let [num_groups, m, n] = d.shape();
        check::shape(OP, "ks", &[num_groups], &[ks.len()])?;
        for &k in ks {
            check::multiple(OP, "ks", 128, k)?;
        }
        let sum_k = ks.iter().fold(0, |sum: usize, &k| sum.saturating_add(k));
        let matrix =
            |arg, got: [usize; 1], expected: usize| check::shape(OP, arg, &[expected], &got);
        match &operands {
            KGroupedOperands::Fp8 { a, b } => {
                matrix("a", a.values.shape(), m.saturating_mul(sum_k))?;
                matrix("a.scales", a.scales.shape(), m.saturating_mul(sum_k) / 128)?;
                matrix("b", b.values.shape(), n.saturating_mul(sum_k))?;
                matrix("b.scales", b.scales.shape(), n.saturating_mul(sum_k) / 128)?;
                check::contiguous(OP, "a", a.values.layout())?;
                check::contiguous(OP, "a.scales", a.scales.layout())?;
                check::contiguous(OP, "b", b.values.layout())?;
                check::contiguous(OP, "b.scales", b.scales.layout())?;
            }
            KGroupedOperands::Bf16 { a, b } => {
                matrix("a", a.shape(), m.saturating_mul(sum_k))?;
                matrix("b", b.shape(), n.saturating_mul(sum_k))?;
                check::contiguous(OP, "a", a.layout())?;
                check::contiguous(OP, "b", b.layout())?;
            }
        }
        check::contiguous_rows(OP, "d", d.layout())?;
        Ok(Self { operands, ks, d })
    }

    /// The product's extents, with the groups' mean K, rounded up to a multiple of 128.
    pub fn shape(&self) -> GemmShape {
        let mean = ceil_div(self.ks.iter().sum(), self.ks.len().max(1));
        GemmShape { num_groups: self.ks.len(), ..self.group_shape(mean.next_multiple_of(128)) }
    }

    fn group_shape(&self, k: usize) -> GemmShape {
        let [_, m, n] = self.d.shape();
        let format = match self.operands {
            KGroupedOperands::Fp8 { .. } => GemmFormat::Fp8,
            KGroupedOperands::Bf16 { .. } => GemmFormat::Bf16,
        };
        GemmShape { format, ..GemmShape::new(GemmKind::KGrouped, m, n, k) }
    }

    /// Arithmetic and traffic; the results of groups without K are left as they are.
    pub fn cost(&self) -> Cost {
        self.ks.iter().filter(|&&k| k > 0).map(|&k| self.group_shape(k).cost()).sum()
    }
}

/// Adds every group's product to that group's result, in FP8: `d[g] += a_g b_gᵀ`.
///
/// # Shapes
///
/// | name | dtype | shape | layout |
/// | --- | --- | --- | --- |
/// | `a` | E4M3, FP32 scales | `[m * sum_k]`, `[m * sum_k / 128]` | group g an `[m, k_g]` matrix, K-major |
/// | `b` | E4M3, FP32 scales | `[n * sum_k]`, `[n * sum_k / 128]` | group g an `[n, k_g]` matrix, K-major |
/// | `ks` | | `[num_groups]` | `k_g`, each a multiple of 128, 0 allowed |
/// | `d` | FP32 | `[num_groups, m, n]` | rows contiguous, added to |
///
/// # Numerics
///
/// See the [module](crate::gemm); scales of both sides are per row. The product of a group is
/// summed first, then added to `d`.
///
/// # Errors
///
/// Those of [`KGroupedGemmArgs::new`].
///
/// # Source
///
/// DeepGEMM `k_grouped_fp8_gemm_nt_contiguous`.
///
/// # Examples
///
/// Weight gradients of two experts, with 256 tokens and none; [`Backend::quantize_transpose`] makes such
/// operands of activations and gradients.
///
/// ```
/// use moekit::gemm::k_grouped_fp8_gemm_nt_contiguous;
/// use moekit::num::E4M3;
/// use moekit::tensor::{QuantRef, TensorMut, TensorRef};
/// use moekit::{Backend, Cpu};
///
/// let cpu = Cpu::new();
/// let (m, n, ks) = (3, 2, [256, 0]);
/// let (a, b) = (vec![E4M3::from_f32(1.0); m * 256], vec![E4M3::from_f32(2.0); n * 256]);
/// let (a_scales, b_scales) = (vec![1.0; m * 2], vec![0.25; n * 2]);
/// let mut d = vec![10.0; 2 * m * n];
/// k_grouped_fp8_gemm_nt_contiguous(
///     &cpu,
///     &cpu.stream()?,
///     QuantRef {
///         values: TensorRef::from_slice(&a, [m * 256])?,
///         scales: TensorRef::from_slice(&a_scales, [m * 2])?,
///     },
///     QuantRef {
///         values: TensorRef::from_slice(&b, [n * 256])?,
///         scales: TensorRef::from_slice(&b_scales, [n * 2])?,
///     },
///     &ks,
///     TensorMut::from_slice(&mut d, [2, m, n])?,
/// )?;
/// assert_eq!(d, [[138.0; 6], [10.0; 6]].concat());
/// # Ok::<(), moekit::Error>(())
/// ```
pub fn k_grouped_fp8_gemm_nt_contiguous<B: Backend>(
    backend: &B,
    stream: &B::Stream,
    a: QuantRef<'_, B, 1>,
    b: QuantRef<'_, B, 1>,
    ks: &[usize],
    d: TensorMut<'_, B, f32, 3>,
) -> Result<()> {
    let args = KGroupedGemmArgs::new(KGroupedOperands::Fp8 { a, b }, ks, d)?;
    backend.k_grouped_gemm_nt_contiguous(stream, args)
}

/// Adds every group's product to that group's result, in BF16; as
/// [`k_grouped_fp8_gemm_nt_contiguous`], without scales.
///
/// # Errors
///
/// Those of [`KGroupedGemmArgs::new`].
pub fn k_grouped_bf16_gemm_nt_contiguous<B: Backend>(
    backend: &B,
    stream: &B::Stream,
    a: TensorRef<'_, B, bf16, 1>,
    b: TensorRef<'_, B, bf16, 1>,
    ks: &[usize],
    d: TensorMut<'_, B, f32, 3>,
) -> Result<()> {
    let args = KGroupedGemmArgs::new(KGroupedOperands::Bf16 { a, b }, ks, d)?;
    backend.k_grouped_gemm_nt_contiguous(stream, args)
}
