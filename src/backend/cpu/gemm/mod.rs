//! Matrix products `D = A Bᵀ` in FP8 and BF16 on raw slices: dense, grouped along M (contiguous or
//! masked) and grouped along K.
//!
//! # Numerics
//!
//! Every arithmetic sums a 128-block of K, scales the sum and adds it in FP32, blocks in ascending K:
//! `acc = fma(sum, a_factor * b_factor, acc)`, from `acc = 0`; then, if rows are weighted, `acc = weight * acc`; then one
//! rounding to BF16, or one FP32 addition to D. A row's bits depend on that row, on B and on the level alone.
//!
//! | level | FP8: sum over the block | BF16: sum over the block |
//! | --- | --- | --- |
//! | portable, AVX2 | FP32, ascending K, exact products ([`fp32`]) | FP32, ascending K, exact products |
//! | AVX-512 | INT16 fixed point, exact INT32 sum ([`int16`]) | the same bits as portable |
//!
//! A NaN code makes its row (in A) or column (in B) NaN.

mod arith;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod driver;
mod fp32;
#[cfg(target_arch = "x86_64")]
mod int16;
mod scratch;
mod segments;
mod stages;
mod swiglu;
#[cfg(test)]
mod tests;
mod view;

use rayon::prelude::*;

use super::SimdLevel;
use driver::{Product, multiply_all};
use view::SharedOut;

pub(crate) use segments::{BadEntry, Segment, from_grouped_layout, from_offsets, with_segments};
pub(crate) use view::{BLOCK_K, Bf16Mat, Fp8Mat, Operand, OutMat, RowsPerScale, ScaleMat};

/// Padding rows that one task clears.
const ROWS_PER_CLEAR: usize = 16;

/// `m`, `n`, `k` of `d = a bᵀ`: A `[m, k]`, B `[n, k]`, D `[m, n]`; `k` a multiple of 16.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extents {
    pub(crate) m: usize,
    pub(crate) n: usize,
    pub(crate) k: usize,
}

/// Elements from one row of D to the next, and from one group's D to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OutStrides {
    pub(crate) row: usize,
    pub(crate) group: usize,
}

/// An operand that every SIMD level can multiply.
pub(crate) trait GemmOperand: Operand + fp32::Widen {
    /// Computes products whose results do not overlap.
    fn multiply_products<'a>(
        level: SimdLevel,
        num_products: usize,
        product: impl Fn(usize) -> Product<'a, Self> + Sync,
    );
}

impl GemmOperand for Fp8Mat<'_> {
    fn multiply_products<'a>(
        level: SimdLevel,
        num_products: usize,
        product: impl Fn(usize) -> Product<'a, Self> + Sync,
    ) {
        match level {
            #[cfg(target_arch = "x86_64")]
            SimdLevel::Avx512 => multiply_all(int16::Avx512Int16::new(), num_products, product),
            #[cfg(target_arch = "x86_64")]
            SimdLevel::Avx2 => {
                multiply_all(fp32::SimdFp32::<fp32::Avx2>::new(), num_products, product);
            }
            _ => multiply_all(fp32::PortableFp32, num_products, product),
        }
    }
}

impl GemmOperand for Bf16Mat<'_> {
    fn multiply_products<'a>(
        level: SimdLevel,
        num_products: usize,
        product: impl Fn(usize) -> Product<'a, Self> + Sync,
    ) {
        match level {
            #[cfg(target_arch = "x86_64")]
            SimdLevel::Avx512 => {
                multiply_all(fp32::SimdFp32::<fp32::Avx512>::new(), num_products, product);
            }
            #[cfg(target_arch = "x86_64")]
            SimdLevel::Avx2 => {
                multiply_all(fp32::SimdFp32::<fp32::Avx2>::new(), num_products, product);
            }
            _ => multiply_all(fp32::PortableFp32, num_products, product),
        }
    }
}

/// Multiplies two matrices; D's rows are `d_row_stride` elements apart.
pub(crate) fn gemm_nt<M: GemmOperand>(
    level: SimdLevel,
    a: M,
    b: M,
    (d, d_row_stride): (OutMat<'_>, usize),
    Extents { m, n, k }: Extents,
) {
    assert!(d_row_stride >= n || m <= 1, "rows of d overlap");
    let d = SharedOut::new(d, d_row_stride);
    M::multiply_products(level, 1, |_| Product { a, b, d, row_weights: None, m, n, k });
}

/// Multiplies every segment of rows of A `[m, k]` with its group's `b(group)` `[n, k]`; rows of
/// padding become zeros, also where products are added.
///
/// `segments` cover the rows of D at most once; `extents.m` is the number of rows of A and D, and of weights, if there
/// are any.
pub(crate) fn m_grouped_gemm_nt_contiguous<M: GemmOperand>(
    level: SimdLevel,
    a: M,
    b: impl Fn(usize) -> M + Sync,
    (segments, row_weights): (&[Segment], Option<&[f32]>),
    (d, d_row_stride): (OutMat<'_>, usize),
    Extents { m, n, k }: Extents,
) {
    assert!(d_row_stride >= n || m <= 1, "rows of d overlap");
    assert_ascending(segments, m);
    let d = SharedOut::new(d, d_row_stride);
    d.assert_holds(m, n);
    M::multiply_products(level, segments.len(), |idx| {
        let Segment { rows, group } = &segments[idx];
        let a = a.starting_at_row(rows.start);
        let d = d.starting_at(rows.start * d_row_stride);
        match *group {
            Some(group) => {
                let row_weights = row_weights.map(|weights| &weights[rows.clone()]);
                Product { a, b: b(group), d, row_weights, m: rows.len(), n, k }
            }
            None => Product { a, b: a, d, row_weights: None, m: 0, n: 0, k },
        }
    });
    for padding in segments.iter().filter(|segment| segment.group.is_none()) {
        padding.rows.clone().into_par_iter().with_min_len(ROWS_PER_CLEAR).for_each(|row| {
            // SAFETY: segments do not overlap, so each row is cleared by one task, after the
            // products are done.
            unsafe { d.clear(row, n) };
        });
    }
}

/// Multiplies the first `masked_m[g]` rows of each `a(g)` `[max_m, k]` with `b(g)` `[n, k]`; other
/// rows of D are left as they are. Counts are clipped to 0..=max_m; weights, if there are any, are `[num_groups * max_m]`.
pub(crate) fn m_grouped_gemm_nt_masked<M: GemmOperand>(
    level: SimdLevel,
    a: impl Fn(usize) -> M + Sync,
    b: impl Fn(usize) -> M + Sync,
    (masked_m, row_weights): (&[i32], Option<&[f32]>),
    (d, strides): (OutMat<'_>, OutStrides),
    Extents { m: max_m, n, k }: Extents,
) {
    let d = SharedOut::new(d, strides.row);
    assert_apart(strides, masked_m.len(), max_m, n);
    M::multiply_products(level, masked_m.len(), |group| Product {
        a: a(group),
        b: b(group),
        d: d.starting_at(group * strides.group),
        row_weights: row_weights.map(|weights| &weights[group * max_m..][..max_m]),
        m: usize::try_from(masked_m[group]).unwrap_or(0).min(max_m),
        n,
        k,
    });
}

/// Adds every group's product: `d[g] += a(g) b(g)ᵀ`, A `[m, ks[g]]`, B `[n, ks[g]]`, D FP32
/// `[num_groups, m, n]`.
pub(crate) fn k_grouped_gemm_nt_contiguous<M: GemmOperand>(
    level: SimdLevel,
    a: impl Fn(usize) -> M + Sync,
    b: impl Fn(usize) -> M + Sync,
    ks: &[usize],
    (d, strides): (&mut [f32], OutStrides),
    [m, n]: [usize; 2],
) {
    let d = SharedOut::new(OutMat::AddF32(d), strides.row);
    assert_apart(strides, ks.len(), m, n);
    M::multiply_products(level, ks.len(), |group| Product {
        a: a(group),
        b: b(group),
        d: d.starting_at(group * strides.group),
        row_weights: None,
        m,
        n,
        k: ks[group],
    });
}

/// Panics unless no two segments share a row and none passes `m`.
fn assert_ascending(segments: &[Segment], m: usize) {
    let mut end = 0;
    for segment in segments {
        assert!(end <= segment.rows.start && segment.rows.end <= m, "segment {segment:?} of {m}");
        end = segment.rows.end;
    }
}

/// Panics unless the groups' results lie apart.
fn assert_apart(strides: OutStrides, num_groups: usize, m: usize, n: usize) {
    assert!(strides.row >= n || m <= 1, "rows of d overlap");
    if num_groups > 1 && m > 0 {
        assert!(strides.group >= (m - 1) * strides.row + n, "groups of d overlap");
    }
}
