//! Values at the edges: NaN codes, extreme scales, empty extents, and what must stay untouched.

use super::*;
use crate::num::E4M3;

const EXTENTS: Extents = Extents { m: 7, n: 70, k: 400 };

#[test]
fn a_nan_code_poisons_its_row_or_column_and_nothing_else() {
    let Extents { m, n, k } = EXTENTS;
    for (code, row, col, depth) in [(0x7f, 0, 69, 0), (0xff, 6, 0, 399), (0x7f, 3, 33, 200)] {
        let (mut a, mut b) = fp8_operands(11, EXTENTS);
        a.codes[row * k + depth] = code;
        b.codes[col * k + (k - 1 - depth)] = code;
        for level in levels() {
            let d = dense(level, fp8(&a), fp8(&b), EXTENTS);
            assert_eq!(d.len(), m * n);
            for (i, d) in d.iter().enumerate() {
                let poisoned = i / n == row || i % n == col;
                assert_eq!(d.is_nan(), poisoned, "{level} [{}, {}]", i / n, i % n);
            }
        }
    }
}

#[test]
fn every_code_multiplies_as_its_value() {
    // One code per column of B against ones: 254 finite codes, among them all subnormal ones.
    let extents @ Extents { n, k, .. } = Extents { m: 1, n: 256, k: 16 };
    let one = E4M3::from_f32(1.0).0;
    let a = Quantised::new(vec![one; k], vec![1.0], [1, k], [1, 128]);
    let mut b = Quantised::new(vec![0; n * k], vec![1.0; 2], [n, k], [128, 128]);
    for code in 0..n {
        b.codes[code * k] = code as u8;
    }
    for level in levels() {
        let d = dense(level, fp8(&a), fp8(&b), extents);
        for (code, got) in d.into_iter().enumerate() {
            let want = E4M3(code as u8).to_f32();
            assert!(got == want || got.is_nan() && want.is_nan(), "{level} {code:#x}: {got}");
        }
    }
}

#[test]
fn the_largest_codes_do_not_overflow_the_block_sum() {
    for k in [16, 128, 2880] {
        let extents @ Extents { m, n, .. } = Extents { m: 7, n: 70, k };
        let largest = |rows, code: u8, gran: usize| {
            let num_scales = usize::div_ceil(rows, gran) * k.div_ceil(128);
            Quantised::new(vec![code; rows * k], vec![1.0; num_scales], [rows, k], [gran, 128])
        };
        let (a, b) = (largest(m, 0x7e, 1), largest(n, 0xfe, 128));
        for level in levels() {
            let d = dense(level, fp8(&a), fp8(&b), extents);
            let want = -(k as f32) * 448.0 * 448.0;
            assert!(d.iter().all(|&got| got == want), "{level} k = {k}: {} != {want}", d[0]);
        }
    }
}

#[test]
fn tiny_and_huge_scales_scale_the_result() {
    let Extents { m, n, k } = EXTENTS;
    let (a, b) = fp8_operands(12, EXTENTS);
    for (sfa, sfb) in [(1e-20f32, 1e-15f32), (1e25, 1e-30), (1e18, 1e10), (1e-37, 1.0)] {
        let with = |q: &Quantised, sf: f32| {
            let scales = vec![sf; q.scales.len()];
            Quantised::new(q.codes.clone(), scales, [q.rows, k], [q.gran_rows, 128])
        };
        let (a, b) = (with(&a, sfa), with(&b, sfb));
        let want = oracle::nt(&a.dequantise(), &b.dequantise());
        for level in levels() {
            let d = dense(level, fp8(&a), fp8(&b), Extents { m, n, k });
            let error = moekit_testkit::measure::relative_error(&d, &want.values);
            assert!(error <= 2e-5, "{level} {sfa} {sfb}: {error}");
        }
    }
}

#[test]
fn infinite_and_nan_scales_reach_the_result() {
    let Extents { m, n, .. } = EXTENTS;
    for sf in [f32::INFINITY, f32::NAN] {
        let (mut a, b) = fp8_operands(13, EXTENTS);
        let (row, num_blocks) = (2, a.scale_shape()[1]);
        a.scales[row * num_blocks + 1] = sf;
        for level in levels() {
            let d = dense(level, fp8(&a), fp8(&b), EXTENTS);
            assert_eq!(d.len(), m * n);
            for (i, d) in d.iter().enumerate() {
                assert_eq!(d.is_finite(), i / n != row, "{level} {sf} [{}, {}]", i / n, i % n);
            }
        }
    }
}

#[test]
fn a_product_over_no_k_is_zero() {
    let extents = Extents { m: 3, n: 5, k: 0 };
    let empty = Quantised::new(vec![], vec![], [3, 0], [1, 128]);
    let empty_b = Quantised::new(vec![], vec![], [5, 0], [128, 128]);
    for level in levels() {
        assert_eq!(dense(level, fp8(&empty), fp8(&empty_b), extents), [0.0; 15], "{level}");
    }
}

#[test]
fn empty_extents_write_nothing() {
    let (a, b) = fp8_operands(14, EXTENTS);
    for level in levels() {
        for (m, n) in [(0, 70), (7, 0), (0, 0)] {
            let mut d = [f32::NAN; 3];
            let out = OutMat::F32(&mut d);
            gemm_nt(level, fp8(&a), fp8(&b), (out, n), Extents { m, n, k: 400 });
            assert!(d.iter().all(|d| d.is_nan()), "{level} {m} x {n}");
        }
    }
}

#[test]
fn strides_leave_gaps_untouched() {
    let Extents { m, n, k } = EXTENTS;
    let (a, b) = fp8_operands(15, EXTENTS);
    let (codes_stride, d_stride) = (k + 48, n + 9);
    let mut spread = vec![0x7f; m * codes_stride];
    for row in 0..m {
        spread[row * codes_stride..][..k].copy_from_slice(&a.codes[row * k..][..k]);
    }
    let num_blocks = k.div_ceil(128);
    let column_major: Vec<f32> =
        (0..num_blocks * m).map(|i| a.scales[i % m * num_blocks + i / m]).collect();
    let scales = ScaleMat {
        data: &column_major,
        rows_per_scale: RowsPerScale::One,
        row_stride: 1,
        kblock_stride: m,
    };
    let strided = Fp8Mat { codes: &spread, row_stride: codes_stride, scales };
    for level in levels() {
        let want = dense(level, fp8(&a), fp8(&b), EXTENTS);
        let mut d = vec![f32::NAN; m * d_stride];
        gemm_nt(level, strided, fp8(&b), (OutMat::F32(&mut d), d_stride), EXTENTS);
        for row in 0..m {
            let (got, gap) = d[row * d_stride..][..d_stride].split_at(n);
            assert_same_bits(&format!("{level} row {row}"), got, &want[row * n..][..n]);
            assert!(gap.iter().all(|d| d.is_nan()), "{level}: the gap behind row {row}");
        }
    }
}
