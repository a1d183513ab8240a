//! How close each level comes to f64.

use moekit_testkit::compare::assert_relative_error;
use moekit_testkit::measure::worst_column_error;

use super::*;

/// Extents with every kind of tail: panels of 8, 16 and 64 columns, strips of 4 and 6 rows, short
/// K-blocks.
const EXTENTS: [[usize; 3]; 11] = [
    [1, 1, 16],
    [2, 15, 32],
    [3, 17, 112],
    [5, 16, 128],
    [7, 127, 144],
    [6, 64, 256],
    [13, 65, 2880],
    [33, 129, 400],
    [4, 200, 1024],
    [96, 80, 7168],
    [31, 300, 48],
];

fn extents() -> impl Iterator<Item = Extents> {
    EXTENTS.into_iter().map(|[m, n, k]| Extents { m, n, k })
}

#[test]
fn fp8_products_are_close_to_f64_at_every_level_and_tail() {
    for extents in extents() {
        let (a, b) = fp8_operands(1, extents);
        let want = oracle::nt(&a.dequantise(), &b.dequantise());
        for level in levels() {
            let d = dense(level, fp8(&a), fp8(&b), extents);
            assert_relative_error(&format!("{level} {extents:?}"), &d, &want.values, 2e-5);
        }
    }
}

#[test]
fn bf16_products_are_close_to_f64_at_every_level_and_tail() {
    for extents @ Extents { m, n, k } in extents() {
        let (a, b) = (bf16_values(2, m * k), bf16_values(3, n * k));
        let want = oracle::nt(&Matrix::new(&a, [m, k]), &Matrix::new(&b, [n, k]));
        for level in levels() {
            let d = dense(level, bf16_mat(&a, k), bf16_mat(&b, k), extents);
            assert_relative_error(&format!("{level} {extents:?}"), &d, &want.values, 1e-6);
        }
    }
}

/// Columns of weights whose magnitudes differ by up to 2^18 within one scale's block.
#[test]
fn small_columns_beside_large_ones_keep_their_precision() {
    let extents @ Extents { m, n, k } = Extents { m: 24, n: 128, k: 1024 };
    let mut rng = Rng::new(4);
    let x = inputs::normal(&mut rng, m * k, 1.0);
    let mut w = inputs::normal(&mut rng, n * k, 1.0);
    for (i, w) in w.iter_mut().enumerate() {
        *w *= 2f32.powi(-((i / k % 16) as i32));
    }
    let a = quant::per_token(&x, [m, k], ScaleFormat::F32);
    let b = quant::per_block(&w, [n, k], ScaleFormat::F32);
    let want = oracle::nt(&a.dequantise(), &b.dequantise());
    for level in levels() {
        let d = dense(level, fp8(&a), fp8(&b), extents);
        let worst = worst_column_error(&d, &want.values, n);
        assert!(worst.error <= 3e-3, "{level}: {worst:?}");
    }
}

/// Rows with a few outliers, as attention and gates produce them.
#[test]
fn outliers_within_a_row_do_not_drown_the_rest() {
    let extents @ Extents { m, n, k } = Extents { m: 16, n: 96, k: 768 };
    let mut rng = Rng::new(5);
    let mut x = inputs::normal(&mut rng, m * k, 1.0);
    x.iter_mut().step_by(97).for_each(|x| *x *= 100.0);
    let a = quant::per_token(&x, [m, k], ScaleFormat::Ue8m0);
    let b = quant::per_block(&inputs::weights(&mut rng, [n, k]), [n, k], ScaleFormat::Ue8m0);
    let want = oracle::nt(&a.dequantise(), &b.dequantise());
    for level in levels() {
        let d = dense(level, fp8(&a), fp8(&b), extents);
        assert_relative_error(&format!("{level}"), &d, &want.values, 1e-4);
        let worst = worst_column_error(&d, &want.values, n);
        assert!(worst.error <= 3e-3, "{level}: {worst:?}");
    }
}

#[test]
fn bf16_results_are_the_fp32_results_rounded_once() {
    let extents @ Extents { m, n, .. } = Extents { m: 9, n: 70, k: 320 };
    let (a, b) = fp8_operands(6, extents);
    for level in levels() {
        let exact = dense(level, fp8(&a), fp8(&b), extents);
        let mut d = vec![bf16::NAN; m * n];
        gemm_nt(level, fp8(&a), fp8(&b), (OutMat::Bf16(&mut d), n), extents);
        let want: Vec<bf16> = exact.iter().map(|&x| bf16::from_f32(x)).collect();
        assert_eq!(d, want, "{level}");
    }
}

#[test]
fn accumulation_adds_the_finished_product_once() {
    let extents @ Extents { m, n, .. } = Extents { m: 9, n: 70, k: 320 };
    let (a, b) = fp8_operands(7, extents);
    let c = inputs::normal(&mut Rng::new(8), m * n, 1.0);
    for level in levels() {
        let product = dense(level, fp8(&a), fp8(&b), extents);
        let mut d = c.clone();
        gemm_nt(level, fp8(&a), fp8(&b), (OutMat::AddF32(&mut d), n), extents);
        let want: Vec<f32> = c.iter().zip(&product).map(|(c, p)| c + p).collect();
        assert_same_bits(&format!("{level}"), &d, &want);
    }
}
