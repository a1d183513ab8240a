//! A product's extents, without its tensors: what a choice of kernel and a cost need.

use serde::Serialize;

use crate::cost::Cost;
use crate::num::ceil_div;

/// How the groups' rows lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum GemmKind {
    /// One product.
    Dense,
    /// Groups along M, in one matrix.
    Contiguous,
    /// Groups along M, each in its own matrix; the host does not know their rows.
    Masked,
    /// Groups along K, added to their results.
    KGrouped,
}

/// Format of A and B.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum GemmFormat {
    /// E4M3 with scales per 128 of K.
    Fp8,
    /// BF16.
    Bf16,
}

impl GemmFormat {
    /// Bytes of an element of A and B.
    pub const fn element_bytes(self) -> usize {
        match self {
            Self::Fp8 => 1,
            Self::Bf16 => 2,
        }
    }

    /// K of a block: 128 bytes, the widest swizzle.
    pub const fn block_k(self) -> usize {
        128 / self.element_bytes()
    }
}

/// Format of D.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum GemmOutFormat {
    /// BF16, overwritten.
    Bf16,
    /// FP32, overwritten.
    F32,
    /// FP32, added to.
    F32Accumulate,
    /// E4M3 and a scale per 128: activations, two columns of the product each ([`SwigluOut`](super::SwigluOut)).
    SwigluFp8,
}

impl GemmOutFormat {
    /// Bytes that a row of D of `n` columns costs in memory.
    pub const fn traffic_bytes(self, n: usize) -> usize {
        match self {
            Self::Bf16 => 2 * n,
            Self::F32 => 4 * n,
            Self::F32Accumulate => 8 * n,
            Self::SwigluFp8 => n / 2 + ceil_div(n / 2, 128) * size_of::<f32>(),
        }
    }
}

/// A matrix product, as the host knows it.
///
/// # Examples
///
/// The first product of DeepSeek-V3's experts, 32 of them with 4 rows each expected:
///
/// ```
/// use moekit::gemm::{GemmKind, GemmShape};
///
/// let one = GemmShape::new(GemmKind::Masked, 4, 4096, 7168);
/// let shape = GemmShape { num_groups: 32, ..one };
/// assert_eq!(shape.cost().fp8_flops, 2 * 32 * 4 * 4096 * 7168);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct GemmShape {
    /// How the groups' rows lie.
    pub kind: GemmKind,
    /// Format of A and B.
    pub format: GemmFormat,
    /// Format of D.
    pub out: GemmOutFormat,
    /// Rows of A of a group: for groups along M the mean of those expected.
    pub m: usize,
    /// Standard deviation of the groups' rows; 0 if all have `m`.
    pub m_deviation: usize,
    /// Rows that a group has room for, if that is a limit: masked groups have a matrix each.
    pub max_m: Option<usize>,
    /// Columns of D.
    pub n: usize,
    /// K of a group: for groups along K their mean.
    pub k: usize,
    /// Groups; 1 if dense.
    pub num_groups: usize,
}

impl GemmShape {
    /// An FP8 product of one group; into BF16, or into FP32 if grouped along K.
    ///
    /// Rows of groups along M are taken to vary as those of experts that tokens choose evenly and
    /// independently: their number is Poisson's, whose deviation is the root of the mean.
    pub const fn new(kind: GemmKind, m: usize, n: usize, k: usize) -> Self {
        let m_deviation = match kind {
            GemmKind::Contiguous | GemmKind::Masked => m.isqrt(),
            GemmKind::Dense | GemmKind::KGrouped => 0,
        };
        let out = match kind {
            GemmKind::KGrouped => GemmOutFormat::F32Accumulate,
            _ => GemmOutFormat::Bf16,
        };
        Self {
            kind,
            format: GemmFormat::Fp8,
            out,
            m,
            m_deviation,
            max_m: None,
            n,
            k,
            num_groups: 1,
        }
    }

    /// Blocks of K.
    pub const fn num_k_blocks(&self) -> usize {
        ceil_div(self.k, self.format.block_k())
    }

    /// Arithmetic and traffic, each group with `m` rows: operands, scales and result once.
    pub fn cost(&self) -> Cost {
        self.cost_of_rows(self.num_groups * self.m)
    }

    /// Arithmetic and traffic with so many rows in all groups together.
    pub fn cost_of_rows(&self, num_rows: usize) -> Cost {
        let flops = (2 * num_rows * self.n * self.k) as u64;
        let (fp8_flops, bf16_flops) = match self.format {
            GemmFormat::Fp8 => (flops, 0),
            GemmFormat::Bf16 => (0, flops),
        };
        let b_scale_rows = match self.kind {
            GemmKind::KGrouped => self.n,
            _ => ceil_div(self.n, 128),
        };
        let a = self.operand_bytes(num_rows, num_rows);
        let b = self.operand_bytes(self.n, b_scale_rows);
        let d = num_rows * self.out.traffic_bytes(self.n);
        let hbm_bytes = (a + self.num_groups * b + d) as u64;
        Cost { fp8_flops, bf16_flops, hbm_bytes, link_bytes: 0 }
    }

    fn operand_bytes(&self, num_rows: usize, num_scale_rows: usize) -> usize {
        let values = num_rows * self.k * self.format.element_bytes();
        match self.format {
            GemmFormat::Fp8 => values + num_scale_rows * ceil_div(self.k, 128) * size_of::<f32>(),
            GemmFormat::Bf16 => values,
        }
    }
}
