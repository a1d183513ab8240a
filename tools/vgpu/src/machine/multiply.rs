//! Products of small matrices, as the tensor cores form them.

use half::{bf16, f16};

use crate::ops::fp8::Fp8;
use crate::program::matrix::{Element, Product, Sum};

/// Rows of a warp's part of a product.
pub(super) const ROWS: usize = 16;

/// Bits below the largest exponent that Hopper's FP8 sums keep.
const KEPT_BITS: i32 = 13;

/// A row-major matrix of factors with rows of `depth` bytes, as numbers.
pub(super) fn decode(element: Element, bytes: &[u8], negate: bool) -> Vec<f32> {
    let pair = |pair: &[u8]| u16::from_le_bytes([pair[0], pair[1]]);
    let mut out: Vec<f32> = match element {
        Element::F16 => bytes.chunks_exact(2).map(|x| f16::from_bits(pair(x)).to_f32()).collect(),
        Element::Bf16 => bytes.chunks_exact(2).map(|x| bf16::from_bits(pair(x)).to_f32()).collect(),
        Element::Tf32 => {
            // The 13 lowest bits are not looked at.
            let word = |x: &[u8]| u32::from_le_bytes([x[0], x[1], x[2], x[3]]) & !0x1fff;
            bytes.chunks_exact(4).map(|x| f32::from_bits(word(x))).collect()
        }
        Element::E4m3 => bytes.iter().map(|x| Fp8::E4m3.decode(*x)).collect(),
        Element::E5m2 => bytes.iter().map(|x| Fp8::E5m2.decode(*x)).collect(),
        Element::S8 => bytes.iter().map(|x| f32::from(*x as i8)).collect(),
        Element::U8 => bytes.iter().map(|x| f32::from(*x)).collect(),
    };
    if negate {
        out.iter_mut().for_each(|x| *x = -*x);
    }
    out
}

/// `sum += a * b^T`: `a` has 16 rows, `b` one row for each column of the sum, which holds the bits of
/// its elements row by row. FP32 sums add the products one after the other in the order of K; FP16
/// sums do so in FP32 and round once; `truncated` is how Hopper adds FP8.
pub(super) fn multiply(product: Product, a: &[f32], b: &[f32], sum: &mut [u32], truncated: bool) {
    let (n, k) = (usize::from(product.n), a.len() / ROWS);
    if product.sum == Sum::S32 {
        return integers(a, b, sum, n, k, product.saturates);
    }
    let mut wide: Vec<f32> = match product.sum {
        Sum::F16 => sum.iter().map(|x| f16::from_bits(*x as u16).to_f32()).collect(),
        _ => sum.iter().map(|x| f32::from_bits(*x)).collect(),
    };
    if truncated && product.a.is_fp8() {
        for (i, value) in wide.iter_mut().enumerate() {
            let (row, column) = (i / n, i % n);
            let (a, b) = (&a[row * k..][..k], &b[column * k..][..k]);
            *value = truncated_sum(*value, a.iter().zip(b).map(|(x, y)| x * y));
        }
    } else {
        // Columns lie next to each other, so that the innermost loop is a vector operation.
        let mut columns = vec![0.0; b.len()];
        for (i, x) in b.iter().enumerate() {
            columns[i % k * n + i / k] = *x;
        }
        accumulate(a, &columns, &mut wide, n, k);
    }
    for (bits, value) in sum.iter_mut().zip(wide) {
        *bits = match product.sum {
            Sum::F16 => f16::from_f32(value).to_bits().into(),
            _ => value.to_bits(),
        };
    }
}

/// The processor's widest form of [`accumulate_in`]; all give the same bits.
fn accumulate(a: &[f32], b: &[f32], sum: &mut [f32], n: usize, k: usize) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2.
        return unsafe { accumulate_avx2(a, b, sum, n, k) };
    }
    accumulate_in(a, b, sum, n, k);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn accumulate_avx2(a: &[f32], b: &[f32], sum: &mut [f32], n: usize, k: usize) {
    accumulate_in(a, b, sum, n, k);
}

#[inline(always)]
fn accumulate_in(a: &[f32], b: &[f32], sum: &mut [f32], n: usize, k: usize) {
    for (row, sums) in a.chunks_exact(k).zip(sum.chunks_exact_mut(n)) {
        for (x, column) in row.iter().zip(b.chunks_exact(n)) {
            for (s, y) in sums.iter_mut().zip(column) {
                *s += x * y;
            }
        }
    }
}

/// All terms are aligned to the largest exponent, cut to 13 bits below it, and added exactly.
fn truncated_sum(before: f32, products: impl Iterator<Item = f32> + Clone) -> f32 {
    let terms = std::iter::once(before).chain(products);
    if terms.clone().any(|x| !x.is_finite()) {
        return terms.sum();
    }
    let largest = terms.clone().fold(0.0f32, |most, x| most.max(x.abs()));
    if largest == 0.0 {
        return 0.0;
    }
    let exponent = (largest.to_bits() >> 23) as i32 - 127;
    let unit = 2f64.powi(exponent - KEPT_BITS);
    let steps: f64 = terms.map(|x| (f64::from(x) / unit).trunc()).sum();
    (steps * unit) as f32
}

fn integers(a: &[f32], b: &[f32], sum: &mut [u32], n: usize, k: usize, saturates: bool) {
    for (i, bits) in sum.iter_mut().enumerate() {
        let (a, b) = (&a[i / n * k..][..k], &b[i % n * k..][..k]);
        let product: i32 = a.iter().zip(b).map(|(x, y)| *x as i32 * *y as i32).sum();
        let before = *bits as i32;
        let after =
            if saturates { before.saturating_add(product) } else { before.wrapping_add(product) };
        *bits = after as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truncated_sums_lose_what_lies_14_bits_below() {
        // The unit is 2^-13 beside 1, so 2^-14 is lost and 2^-13 is kept.
        let small = |e: i32| 2f32.powi(e);
        assert_eq!(truncated_sum(1.0, [small(-14), small(-14)].into_iter()), 1.0);
        assert_eq!(truncated_sum(1.0, [small(-13)].into_iter()), 1.0 + small(-13));
        assert_eq!(truncated_sum(-1.0, [1.5 * small(-13)].into_iter()), -1.0 + small(-13));
    }
}
