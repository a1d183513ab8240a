//! Matrix products in f64.
//!
//! FP8 and BF16 operands become [`Matrix`] first (`Quantised::dequantise`, [`Matrix::new`]), which
//! is exact, so that one product serves both. A sum of a few thousand f64 products has a relative
//! error near 1e-15: whatever the order of summation, it counts as exact beside an FP32 result.
//!
//! # Source
//!
//! DeepGEMM README, sections on normal dense GEMMs and on grouped GEMMs (contiguous, masked,
//! K-axis).

use crate::matrix::Matrix;

/// Returns `d = a · bᵀ`, `[m, n]`, of `a` `[m, k]` and `b` `[n, k]`.
///
/// # Panics
///
/// When the two `k` differ.
#[track_caller]
pub fn nt(a: &Matrix, b: &Matrix) -> Matrix {
    assert_eq!(a.cols, b.cols, "gemm::nt: k of a and b");
    let mut d = Matrix::zeros([a.rows, b.rows]);
    for row in 0..a.rows {
        for col in 0..b.rows {
            d.values[row * b.rows + col] = dot(a.row(row), b.row(col));
        }
    }
    d
}

/// Multiplies each row of `a` `[m, k]` with the matrix of its group: `d[i] = a[i] · b[g]ᵀ`, `g =
/// grouped_layout[i]`.
///
/// Rows with group -1 are padding: not read, zero in `d`.
///
/// # Panics
///
/// When the lengths or extents contradict each other, or a group is out of range.
#[track_caller]
pub fn m_grouped_contiguous(a: &Matrix, b: &[Matrix], grouped_layout: &[i32]) -> Matrix {
    assert_eq!(grouped_layout.len(), a.rows, "m_grouped_contiguous: one group per row");
    let n = b.first().map_or(0, |b| b.rows);
    let mut d = Matrix::zeros([a.rows, n]);
    for (row, &group) in grouped_layout.iter().enumerate() {
        if group != -1 {
            let product = nt(&a.select_rows([row]), &b[group as usize]);
            d.row_mut(row).copy_from_slice(&product.values);
        }
    }
    d
}

/// Multiplies the first `masked_m[g]` rows of each `a[g]` `[max_m, k]` with `b[g]` `[n, k]`.
///
/// Returns `[masked_m[g], n]` per group: the rows beyond are neither read nor defined.
///
/// # Panics
///
/// When the lengths or extents contradict each other.
#[track_caller]
pub fn m_grouped_masked(a: &[Matrix], b: &[Matrix], masked_m: &[usize]) -> Vec<Matrix> {
    assert_eq!((a.len(), b.len()), (masked_m.len(), masked_m.len()), "m_grouped_masked: groups");
    (0..masked_m.len()).map(|g| nt(&a[g].select_rows(0..masked_m[g]), &b[g])).collect()
}

/// Returns `d[g] = c[g] + a[g] · b[g]ᵀ` of `a[g]` `[m, k_g]` and `b[g]` `[n, k_g]`: the weight
/// gradient.
///
/// A group with `k_g = 0` gives `c[g]`, or zeros without `c`.
///
/// # Panics
///
/// When the numbers of groups or the extents contradict each other.
#[track_caller]
pub fn k_grouped(a: &[Matrix], b: &[Matrix], c: Option<&[Matrix]>) -> Vec<Matrix> {
    assert_eq!(a.len(), b.len(), "k_grouped: groups of a and b");
    let products = a.iter().zip(b).map(|(a, b)| nt(a, b));
    match c {
        None => products.collect(),
        Some(c) => {
            assert_eq!(a.len(), c.len(), "k_grouped: groups of a and c");
            products.zip(c).map(|(product, c)| accumulate(&product, c)).collect()
        }
    }
}

/// Returns `d + c`.
///
/// # Panics
///
/// When the shapes differ.
#[track_caller]
pub fn accumulate(d: &Matrix, c: &Matrix) -> Matrix {
    assert_eq!((d.rows, d.cols), (c.rows, c.cols), "accumulate: shapes of d and c");
    let values = d.values.iter().zip(&c.values).map(|(d, c)| d + c).collect();
    Matrix { values, ..*d }
}

/// Sums in eight lanes, so that the compiler may use vectors.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut lanes = [0.0; 8];
    let (a, b) = (a.chunks_exact(8), b.chunks_exact(8));
    let tail: f64 = a.remainder().iter().zip(b.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a.zip(b) {
        for lane in 0..8 {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    lanes.iter().sum::<f64>() + tail
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::{ScaleFormat, per_block, per_token};

    fn matrix<const N: usize>(values: [f64; N], shape: [usize; 2]) -> Matrix {
        Matrix::new(&values, shape)
    }

    #[test]
    fn a_product_by_hand() {
        let a = matrix([1.0, 2.0, 3.0, 4.0], [2, 2]);
        let b = matrix([5.0, 6.0, 7.0, 8.0, 9.0, 10.0], [3, 2]);
        assert_eq!(nt(&a, &b).values, [17.0, 23.0, 29.0, 39.0, 53.0, 67.0]);
    }

    #[test]
    fn lanes_and_remainder_all_count() {
        for k in [1, 7, 8, 9, 144] {
            let ramp: Vec<f64> = (1..=k).map(|i| i as f64).collect();
            let d = nt(&Matrix::new(&ramp, [1, k]), &Matrix::new(&vec![1.0; k], [1, k]));
            assert_eq!(d.values, [(k * (k + 1) / 2) as f64], "k = {k}");
        }
    }

    #[test]
    fn scales_multiply_block_by_block() {
        // Two K-blocks with scales 1 and 2 on the left, 1 and 0.5 on the right; ones become 448
        // codes.
        let k = 256;
        let block = |first: f32, second: f32| -> Vec<f32> {
            (0..k).map(|i| if i < 128 { first } else { second }).collect()
        };
        let a = per_token(&block(448.0, 896.0), [1, k], ScaleFormat::F32);
        let b = per_block(&block(448.0, 224.0), [1, k], ScaleFormat::F32);
        assert_eq!((&a.scales[..], &b.scales[..]), (&[1.0, 2.0][..], &[1.0, 0.5][..]));
        let d = nt(&a.dequantise(), &b.dequantise());
        assert_eq!(d.values, [256.0 * 448.0 * 448.0]);
    }

    #[test]
    fn padding_rows_are_zero_and_never_read() {
        let a = matrix([1.0, f64::NAN, 3.0], [3, 1]);
        let b = [matrix([10.0], [1, 1]), matrix([100.0], [1, 1])];
        assert_eq!(m_grouped_contiguous(&a, &b, &[1, -1, 0]).values, [100.0, 0.0, 30.0]);
    }

    #[test]
    fn masked_groups_stop_at_their_count() {
        let a = [matrix([1.0, f64::NAN], [2, 1]), matrix([f64::NAN; 2], [2, 1])];
        let b = [matrix([2.0], [1, 1]), matrix([3.0], [1, 1])];
        let d = m_grouped_masked(&a, &b, &[1, 0]);
        assert_eq!(d[0].values, [2.0]);
        assert_eq!((d[1].rows, d[1].cols), (0, 1));
    }

    #[test]
    fn k_groups_accumulate_and_an_empty_one_returns_c() {
        let a = [matrix([1.0, 2.0], [1, 2]), matrix([], [1, 0])];
        let b = [matrix([3.0, 4.0], [1, 2]), matrix([], [1, 0])];
        let c = [matrix([100.0], [1, 1]), matrix([7.0], [1, 1])];
        let values = |d: Vec<Matrix>| d.into_iter().map(|d| d.values[0]).collect::<Vec<_>>();
        assert_eq!(values(k_grouped(&a, &b, Some(&c))), [111.0, 7.0]);
        assert_eq!(values(k_grouped(&a, &b, None)), [11.0, 0.0]);
    }
}
