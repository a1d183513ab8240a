//! BF16 products: groups of every pattern, gradients, and the same bits in every layout.

use moekit::Backend;
use moekit::gemm::{
    GemmOut, GroupRows, MaskedRows, bf16_gemm_nt, k_grouped_bf16_gemm_nt_contiguous,
    m_grouped_bf16_gemm_nt_contiguous, m_grouped_bf16_gemm_nt_masked,
};
use moekit::num::bf16;
use moekit::tensor::Tensor;
use moekit_testkit::matrix::Matrix;
use moekit_testkit::rng::Rng;
use moekit_testkit::{compare, gemm as oracle, inputs, poison};

use crate::case::on_every_backend;
use crate::gemm::{BF16_BOUND, exact_products_bound, round};
use crate::gemm_groups::{PATTERNS, Rows};

on_every_backend![
    bf16_groups_of_every_pattern_agree_with_f64,
    bf16_gradients_are_added_to_d,
    a_bf16_row_has_the_same_bits_in_any_company,
];

fn bf16_groups_of_every_pattern_agree_with_f64<B: Backend>(backend: &B) {
    let stream = backend.stream().expect("stream");
    let (n, k) = (200, 208);
    for (sizes, alignment) in PATTERNS {
        let rng = &mut Rng::new(sizes.len() as u64 + 40);
        let rows = Rows::new(sizes, alignment, 3);
        let m = rows.grouped_layout.len();
        let mut a = round(&inputs::normal(rng, m * k, 1.0));
        let b: Vec<Vec<bf16>> =
            sizes.iter().map(|_| round(&inputs::weights(rng, [n, k]))).collect();
        let matrices: Vec<Matrix> = b.iter().map(|b| Matrix::new(b, [n, k])).collect();
        let a_matrix = Matrix::new(&a, [m, k]);
        let want = oracle::m_grouped_contiguous(&a_matrix, &matrices, &rows.grouped_layout);
        // NOTE: padding rows of A must not be read.
        for row in (0..m).filter(|&row| rows.grouped_layout[row] < 0) {
            a[row * k..][..k].fill(bf16::NAN);
        }
        let a = Tensor::from_host(backend, &a, [m, k]).expect("a");
        let b = Tensor::from_host(backend, &b.concat(), [sizes.len(), n, k]).expect("b");
        let layout = Tensor::from_host(backend, &rows.grouped_layout, [m]).expect("rows");
        let mut d = Tensor::from_host(backend, &poison::vec::<f32>(m * n), [m, n]).expect("d");
        let mut rounded =
            Tensor::from_host(backend, &poison::vec::<bf16>(m * n), [m, n]).expect("d");
        for out in [GemmOut::F32(d.view_mut()), GemmOut::Bf16(rounded.view_mut())] {
            let per_row = GroupRows::PerRow(layout.view());
            let (a, b) = (a.view(), b.view());
            m_grouped_bf16_gemm_nt_contiguous(backend, &stream, a, b, per_row, out).expect("gemm");
        }
        backend.check(&stream).expect("no fault");
        let d = d.to_host(backend).expect("d");
        let name = format!("groups of {sizes:?} from multiples of {alignment}");
        compare::assert_relative_error(&name, &d, &want.values, exact_products_bound(k));
        for row in (0..m).filter(|&row| rows.grouped_layout[row] < 0) {
            assert!(d[row * n..][..n].iter().all(|&x| x == 0.0), "{name}: padding row {row}");
        }
        let rounded = rounded.to_host(backend).expect("d");
        compare::assert_relative_error(&name, &rounded, &want.values, BF16_BOUND);
    }
}

/// Groups with a block of K, with none, with many, and rows beyond a tile.
fn bf16_gradients_are_added_to_d<B: Backend>(backend: &B) {
    let stream = backend.stream().expect("stream");
    let (m, n, ks) = (135, 68, [128, 0, 640]);
    let rng = &mut Rng::new(51);
    let operand = |rng: &mut Rng, rows: usize| -> Vec<Vec<bf16>> {
        ks.iter().map(|&k| round(&inputs::normal(rng, rows * k, 1.0))).collect()
    };
    let (a, b) = (operand(rng, m), operand(rng, n));
    let c = inputs::normal(rng, ks.len() * m * n, 3.0);
    let matrices = |all: &[Vec<bf16>], rows| -> Vec<Matrix> {
        all.iter().zip(ks).map(|(values, k)| Matrix::new(values, [rows, k])).collect()
    };
    let before: Vec<Matrix> = c.chunks(m * n).map(|c| Matrix::new(c, [m, n])).collect();
    let want = oracle::k_grouped(&matrices(&a, m), &matrices(&b, n), Some(&before));
    let want: Vec<f64> = want.into_iter().flat_map(|d| d.values).collect();
    let flat = |all: Vec<Vec<bf16>>| {
        let values = all.concat();
        Tensor::from_host(backend, &values, [values.len()]).expect("operand")
    };
    let (a, b) = (flat(a), flat(b));
    let mut d = Tensor::from_host(backend, &c, [ks.len(), m, n]).expect("d");
    let (a, b) = (a.view(), b.view());
    k_grouped_bf16_gemm_nt_contiguous(backend, &stream, a, b, &ks, d.view_mut()).expect("gemm");
    backend.check(&stream).expect("no fault");
    let d = d.to_host(backend).expect("d");
    let bound = exact_products_bound(640);
    compare::assert_relative_error("d", &d, &want, bound);
    compare::assert_bits_eq("k = 0", &[m, n], &d[m * n..2 * m * n], &c[m * n..2 * m * n]);
}

fn a_bf16_row_has_the_same_bits_in_any_company<B: Backend>(backend: &B) {
    let stream = backend.stream().expect("stream");
    let (m, n, k) = (200, 144, 656);
    let rng = &mut Rng::new(52);
    let x = round(&inputs::normal(rng, m * k, 1.0));
    let b = round(&inputs::weights(rng, [n, k]));
    let dense = Tensor::from_host(backend, &b, [n, k]).expect("b");
    let grouped = Tensor::from_host(backend, &b, [1, n, k]).expect("b");
    let product = |rows: std::ops::Range<usize>| {
        let m = rows.len();
        let a = Tensor::from_host(backend, &x[rows.start * k..rows.end * k], [m, k]).expect("a");
        let mut d = Tensor::<B, f32, 2>::zeros(backend, [m, n]).expect("d");
        let out = GemmOut::F32(d.view_mut());
        bf16_gemm_nt(backend, &stream, a.view(), dense.view(), out).expect("gemm");
        d.to_host(backend).expect("d")
    };
    let want = product(0..m);
    for rows in [0..1, 7..8, 3..7, 16..48, 1..66, 50..179] {
        let name = format!("rows {rows:?} alone");
        let got = product(rows.clone());
        compare::assert_bits_eq(&name, &[rows.len(), n], &got, &want[rows.start * n..rows.end * n]);
    }
    let a = Tensor::from_host(backend, &x[..3 * k], [1, 3, k]).expect("a");
    let masked_m = Tensor::from_host(backend, &[3], [1]).expect("masked_m");
    let mut d = Tensor::<B, f32, 3>::zeros(backend, [1, 3, n]).expect("d");
    let rows = MaskedRows { masked_m: masked_m.view(), expected_m: 100 };
    let out = GemmOut::F32(d.view_mut());
    m_grouped_bf16_gemm_nt_masked(backend, &stream, a.view(), grouped.view(), rows, out)
        .expect("gemm");
    compare::assert_bits_eq("masked", &[3, n], &d.to_host(backend).expect("d"), &want[..3 * n]);
}
