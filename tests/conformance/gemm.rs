//! The products of every layout and format against f64, their tails, and batch invariance.

use moekit::gemm::{
    GemmOut, GroupRows, MaskedRows, bf16_gemm_nt, fp8_gemm_nt, k_grouped_bf16_gemm_nt_contiguous,
    k_grouped_fp8_gemm_nt_contiguous, m_grouped_bf16_gemm_nt_contiguous,
    m_grouped_bf16_gemm_nt_masked, m_grouped_fp8_gemm_nt_contiguous, m_grouped_fp8_gemm_nt_masked,
};
use moekit::num::{E4M3, bf16, ceil_div};
use moekit::tensor::{QuantTensor, Tensor};
use moekit::{Backend, Error};
use moekit_testkit::matrix::Matrix;
use moekit_testkit::quant::{Quantised, ScaleFormat, per_block, per_token};
use moekit_testkit::rng::Rng;
use moekit_testkit::{compare, gemm as oracle, inputs, layout, poison};

use crate::case::on_every_backend;

on_every_backend![
    fp8_products_of_every_shape_agree_with_f64,
    bf16_products_of_every_shape_agree_with_f64,
    products_accumulate_into_fp32,
    grouped_rows_take_their_experts_weights,
    both_forms_of_the_contiguous_layout_agree,
    masked_rows_beyond_the_count_are_left_alone,
    a_row_has_the_same_bits_in_any_company,
    k_grouped_products_are_added_to_d,
    outlier_columns_stay_accurate,
    a_nan_code_poisons_its_row_or_column_alone,
    a_group_out_of_range_is_reported_and_zeroed,
    products_refuse_bad_arguments,
];

/// Before output rounding; the cpu's own tests hold it to 2e-5.
pub const FP32_BOUND: f64 = 1e-3;
pub const BF16_BOUND: f64 = 2e-3;

/// Of FP32 sums of exact products over `k`, as BF16 has them.
///
/// A tensor core of Hopper cuts the sum after each 16 of K: by half a unit of the last place on average,
/// which is at most 2^-24 of it, and always towards zero, so that the losses add up. The sums before the
/// last are no larger than that on random numbers. Two more for the products that are cut, and for a
/// processor's roundings to nearest, which cancel and stay below the rest.
pub fn exact_products_bound(k: usize) -> f64 {
    (k.div_ceil(16) + 2) as f64 / f64::from(1 << 24)
}

/// `[m, n, k]`: tails on every side, K below, at and beyond a block, one row, no row.
const SHAPES: [[usize; 3]; 10] = [
    [1, 1, 16],
    [3, 17, 112],
    [5, 127, 128],
    [64, 160, 272],
    [2, 48, 2880],
    [130, 15, 144],
    [33, 129, 256],
    [0, 32, 128],
    [16, 256, 1024],
    [150, 200, 512],
];

pub fn fp8_rows<B: Backend>(backend: &B, q: &Quantised) -> QuantTensor<B, 2> {
    let values: Vec<E4M3> = q.codes.iter().map(|&code| E4M3(code)).collect();
    let scales = [ceil_div(q.rows, q.gran_rows), ceil_div(q.cols, 128)];
    QuantTensor {
        values: Tensor::from_host(backend, &values, [q.rows, q.cols]).expect("values"),
        scales: Tensor::from_host(backend, &q.scales, scales).expect("scales"),
    }
}

pub fn fp8_stack<B: Backend>(backend: &B, all: &[Quantised]) -> QuantTensor<B, 3> {
    let (rows, cols) = (all[0].rows, all[0].cols);
    let values: Vec<E4M3> = all.iter().flat_map(|q| q.codes.iter().map(|&c| E4M3(c))).collect();
    let scales: Vec<f32> = all.iter().flat_map(|q| q.scales.clone()).collect();
    let scale_shape = [all.len(), ceil_div(rows, all[0].gran_rows), ceil_div(cols, 128)];
    QuantTensor {
        values: Tensor::from_host(backend, &values, [all.len(), rows, cols]).expect("values"),
        scales: Tensor::from_host(backend, &scales, scale_shape).expect("scales"),
    }
}

pub fn round(values: &[f32]) -> Vec<bf16> {
    values.iter().map(|&x| bf16::from_f32(x)).collect()
}

pub fn activations(rng: &mut Rng, shape: [usize; 2]) -> Quantised {
    per_token(&inputs::normal(rng, shape[0] * shape[1], 1.0), shape, ScaleFormat::F32)
}

pub fn weights(rng: &mut Rng, shape: [usize; 2]) -> Quantised {
    per_block(&inputs::weights(rng, shape), shape, ScaleFormat::F32)
}

fn fp8_products_of_every_shape_agree_with_f64<B: Backend>(backend: &B) {
    let stream = backend.stream().expect("stream");
    for [m, n, k] in SHAPES {
        let rng = &mut Rng::new((m * 7 + n * 3 + k) as u64);
        let (a, b) = (activations(rng, [m, k]), weights(rng, [n, k]));
        let want = oracle::nt(&a.dequantise(), &b.dequantise()).values;
        let (a, b) = (fp8_rows(backend, &a), fp8_rows(backend, &b));
        let mut d = Tensor::from_host(backend, &poison::vec::<f32>(m * n), [m, n]).expect("d");
        let out = GemmOut::F32(d.view_mut());
        fp8_gemm_nt(backend, &stream, a.view(), b.view(), out).expect("gemm");
        let name = format!("FP32 d of {m} x {n} x {k}");
        compare::assert_relative_error(&name, &d.to_host(backend).expect("d"), &want, FP32_BOUND);
        let mut d = Tensor::from_host(backend, &poison::vec::<bf16>(m * n), [m, n]).expect("d");
        let out = GemmOut::Bf16(d.view_mut());
        fp8_gemm_nt(backend, &stream, a.view(), b.view(), out).expect("gemm");
        let name = format!("BF16 d of {m} x {n} x {k}");
        // One element alone may be off by half a unit in the last place, 2^-8.
        let bound = if m * n < 64 { 4e-3 } else { BF16_BOUND };
        compare::assert_relative_error(&name, &d.to_host(backend).expect("d"), &want, bound);
    }
}

fn bf16_products_of_every_shape_agree_with_f64<B: Backend>(backend: &B) {
    let stream = backend.stream().expect("stream");
    for [m, n, k] in SHAPES {
        let rng = &mut Rng::new((m * 5 + n * 3 + k) as u64);
        let a = round(&inputs::normal(rng, m * k, 1.0));
        let b = round(&inputs::weights(rng, [n, k]));
        let want = oracle::nt(&Matrix::new(&a, [m, k]), &Matrix::new(&b, [n, k])).values;
        let a = Tensor::from_host(backend, &a, [m, k]).expect("a");
        let b = Tensor::from_host(backend, &b, [n, k]).expect("b");
        let mut d = Tensor::from_host(backend, &poison::vec::<f32>(m * n), [m, n]).expect("d");
        let out = GemmOut::F32(d.view_mut());
        bf16_gemm_nt(backend, &stream, a.view(), b.view(), out).expect("gemm");
        let name = format!("{m} x {n} x {k}");
        let d = d.to_host(backend).expect("d");
        compare::assert_relative_error(&name, &d, &want, exact_products_bound(k));
    }
}

fn products_accumulate_into_fp32<B: Backend>(backend: &B) {
    let stream = backend.stream().expect("stream");
    let (m, n, k) = (9, 33, 272);
    let rng = &mut Rng::new(4);
    let (a, b) = (activations(rng, [m, k]), weights(rng, [n, k]));
    let c = inputs::normal(rng, m * n, 1.0);
    let product = oracle::nt(&a.dequantise(), &b.dequantise());
    let want = oracle::accumulate(&product, &Matrix::new(&c, [m, n])).values;
    let (a, b) = (fp8_rows(backend, &a), fp8_rows(backend, &b));
    let mut d = Tensor::from_host(backend, &c, [m, n]).expect("d");
    let out = GemmOut::F32Accumulate(d.view_mut());
    fp8_gemm_nt(backend, &stream, a.view(), b.view(), out).expect("gemm");
    compare::assert_relative_error("d + c", &d.to_host(backend).expect("d"), &want, FP32_BOUND);
}

/// Groups with many rows, none, one, padding between and behind, all in `grouped_layout` form.
const GROUPED_LAYOUT: [i32; 24] =
    [0, 0, 0, 0, 0, 0, 0, -1, 2, -1, -1, -1, 3, 3, 3, 3, 3, 3, 3, 3, -1, -1, -1, -1];
const EXPERT_OFFSETS: [i32; 5] = [0, 8, 8, 12, 20];
const NUM_RECV_TOKENS: [i32; 4] = [7, 0, 1, 8];

fn grouped_rows_take_their_experts_weights<B: Backend>(backend: &B) {
    let stream = backend.stream().expect("stream");
    let (m, n, k) = (GROUPED_LAYOUT.len(), 48, 400);
    let rng = &mut Rng::new(5);
    let a = activations(rng, [m, k]);
    let b: Vec<Quantised> = (0..4).map(|_| weights(rng, [n, k])).collect();
    let dequantised: Vec<Matrix> = b.iter().map(Quantised::dequantise).collect();
    let want = oracle::m_grouped_contiguous(&a.dequantise(), &dequantised, &GROUPED_LAYOUT);
    let rows = Tensor::from_host(backend, &GROUPED_LAYOUT, [m]).expect("rows");

    // NOTE: padding rows of A are NaN: they must not be read.
    let mut poisoned = a.clone();
    for row in (0..m).filter(|&row| GROUPED_LAYOUT[row] < 0) {
        poisoned.codes[row * k..][..k].fill(0x7f);
    }
    let (fp8_a, fp8_b) = (fp8_rows(backend, &poisoned), fp8_stack(backend, &b));
    let mut d = Tensor::from_host(backend, &poison::vec::<f32>(m * n), [m, n]).expect("d");
    let out = GemmOut::F32(d.view_mut());
    let per_row = GroupRows::PerRow(rows.view());
    m_grouped_fp8_gemm_nt_contiguous(backend, &stream, fp8_a.view(), fp8_b.view(), per_row, out)
        .expect("gemm");
    let d = d.to_host(backend).expect("d");
    compare::assert_relative_error("fp8", &d, &want.values, FP32_BOUND);
    for row in (0..m).filter(|&row| GROUPED_LAYOUT[row] < 0) {
        assert!(d[row * n..][..n].iter().all(|&x| x == 0.0), "padding row {row} is not zero");
    }

    let (bf16_a, bf16_b) = (
        round(&a.dequantise().to_f32()),
        dequantised.iter().flat_map(|b| round(&b.to_f32())).collect::<Vec<_>>(),
    );
    let bf16_a = Tensor::from_host(backend, &bf16_a, [m, k]).expect("a");
    let bf16_b = Tensor::from_host(backend, &bf16_b, [4, n, k]).expect("b");
    let mut d = Tensor::from_host(backend, &poison::vec::<f32>(m * n), [m, n]).expect("d");
    let out = GemmOut::F32(d.view_mut());
    let (a, b) = (bf16_a.view(), bf16_b.view());
    m_grouped_bf16_gemm_nt_contiguous(backend, &stream, a, b, per_row, out).expect("gemm");
    // Operands rounded to BF16: 1.7e-3 each.
    let d = d.to_host(backend).expect("d");
    compare::assert_relative_error("bf16", &d, &want.values, 4e-3);
    backend.check(&stream).expect("no fault");
}

fn both_forms_of_the_contiguous_layout_agree<B: Backend>(backend: &B) {
    let stream = backend.stream().expect("stream");
    let (m, n, k) = (GROUPED_LAYOUT.len(), 32, 144);
    let rng = &mut Rng::new(6);
    let a = fp8_rows(backend, &activations(rng, [m, k]));
    let b = fp8_stack(backend, &(0..4).map(|_| weights(rng, [n, k])).collect::<Vec<_>>());
    let grouped_layout = Tensor::from_host(backend, &GROUPED_LAYOUT, [m]).expect("rows");
    let offsets = Tensor::from_host(backend, &EXPERT_OFFSETS, [5]).expect("offsets");
    let counts = Tensor::from_host(backend, &NUM_RECV_TOKENS, [4]).expect("counts");
    let run = |rows: GroupRows<'_, B>| {
        let mut d = Tensor::from_host(backend, &poison::vec::<bf16>(m * n), [m, n]).expect("d");
        let out = GemmOut::Bf16(d.view_mut());
        m_grouped_fp8_gemm_nt_contiguous(backend, &stream, a.view(), b.view(), rows, out)
            .expect("gemm");
        d.to_host(backend).expect("d")
    };
    let per_row = run(GroupRows::PerRow(grouped_layout.view()));
    let by_offsets = run(GroupRows::Offsets {
        expert_offsets: offsets.view(),
        num_recv_tokens_per_expert: counts.view(),
    });
    compare::assert_bits_eq("offsets", &[m, n], &by_offsets, &per_row);
    backend.check(&stream).expect("no fault");
}

fn masked_rows_beyond_the_count_are_left_alone<B: Backend>(backend: &B) {
    let stream = backend.stream().expect("stream");
    let (num_groups, max_m, n, k) = (5, 6, 40, 272);
    // Above max_m counts as max_m.
    let masked_m = [0, 1, 6, 3, 9];
    let rng = &mut Rng::new(8);
    let a: Vec<Quantised> = (0..num_groups).map(|_| activations(rng, [max_m, k])).collect();
    let b: Vec<Quantised> = (0..num_groups).map(|_| weights(rng, [n, k])).collect();
    let valid = masked_m.map(|m: i32| m.clamp(0, max_m as i32) as usize);
    let matrices = |all: &[Quantised]| all.iter().map(Quantised::dequantise).collect::<Vec<_>>();
    let want = oracle::m_grouped_masked(&matrices(&a), &matrices(&b), &valid);
    let counts = Tensor::from_host(backend, &masked_m, [num_groups]).expect("masked_m");
    let shape = [num_groups, max_m, n];
    let len = num_groups * max_m * n;
    let verify = |name: &str, d: Vec<f32>, bound: f64| {
        for group in 0..num_groups {
            let start = group * max_m * n;
            let end = start + valid[group] * n;
            let name = format!("{name}, group {group}");
            let want = &want[group].values;
            compare::assert_relative_error(&name, &d[start..end], want, bound);
            poison::assert_poisoned(&name, &shape, &d, end..start + max_m * n);
        }
    };

    let (fp8_a, fp8_b) = (fp8_stack(backend, &a), fp8_stack(backend, &b));
    let mut d = Tensor::from_host(backend, &poison::vec::<f32>(len), shape).expect("d");
    let rows = MaskedRows { masked_m: counts.view(), expected_m: 3 };
    let out = GemmOut::F32(d.view_mut());
    m_grouped_fp8_gemm_nt_masked(backend, &stream, fp8_a.view(), fp8_b.view(), rows, out)
        .expect("gemm");
    verify("fp8", d.to_host(backend).expect("d"), FP32_BOUND);

    let bf16_stack = |all: &[Quantised]| {
        let rows = all[0].rows;
        let values: Vec<bf16> = all.iter().flat_map(|q| round(&q.dequantise().to_f32())).collect();
        Tensor::from_host(backend, &values, [num_groups, rows, k]).expect("stack")
    };
    let (bf16_a, bf16_b) = (bf16_stack(&a), bf16_stack(&b));
    let mut d = Tensor::from_host(backend, &poison::vec::<f32>(len), shape).expect("d");
    let rows = MaskedRows { masked_m: counts.view(), expected_m: 3 };
    let out = GemmOut::F32(d.view_mut());
    m_grouped_bf16_gemm_nt_masked(backend, &stream, bf16_a.view(), bf16_b.view(), rows, out)
        .expect("gemm");
    verify("bf16", d.to_host(backend).expect("d"), 4e-3);
    backend.check(&stream).expect("no fault");
}

fn a_row_has_the_same_bits_in_any_company<B: Backend>(backend: &B) {
    let stream = backend.stream().expect("stream");
    let (n, k) = (144, 656);
    let rng = &mut Rng::new(9);
    let x = inputs::normal(rng, 200 * k, 1.0);
    let b = weights(rng, [n, k]);
    let dense = fp8_rows(backend, &b);
    let grouped = fp8_stack(backend, std::slice::from_ref(&b));
    let product = |rows: std::ops::Range<usize>| {
        let m = rows.len();
        let a = per_token(&x[rows.start * k..rows.end * k], [m, k], ScaleFormat::F32);
        let a = fp8_rows(backend, &a);
        let mut d = Tensor::<B, f32, 2>::zeros(backend, [m, n]).expect("d");
        let out = GemmOut::F32(d.view_mut());
        fp8_gemm_nt(backend, &stream, a.view(), dense.view(), out).expect("gemm");
        d.to_host(backend).expect("d")
    };
    let want = product(0..200);
    for rows in [0..1, 7..8, 198..200, 3..7, 10..18, 16..48, 1..66, 50..179] {
        let name = format!("rows {rows:?} alone");
        let got = product(rows.clone());
        compare::assert_bits_eq(&name, &[rows.len(), n], &got, &want[rows.start * n..rows.end * n]);
    }
    // The masked layout, 3 rows at a time.
    let a = per_token(&x[..3 * k], [3, k], ScaleFormat::F32);
    let a = fp8_stack(backend, &[a]);
    let masked_m = Tensor::from_host(backend, &[3], [1]).expect("masked_m");
    let mut d = Tensor::<B, f32, 3>::zeros(backend, [1, 3, n]).expect("d");
    let rows = MaskedRows { masked_m: masked_m.view(), expected_m: 100 };
    let out = GemmOut::F32(d.view_mut());
    m_grouped_fp8_gemm_nt_masked(backend, &stream, a.view(), grouped.view(), rows, out)
        .expect("gemm");
    let got = d.to_host(backend).expect("d");
    compare::assert_bits_eq("masked", &[3, n], &got, &want[..3 * n]);
}

fn k_grouped_products_are_added_to_d<B: Backend>(backend: &B) {
    let stream = backend.stream().expect("stream");
    let (m, n, ks) = (17, 36, [256, 0, 128, 384]);
    let rng = &mut Rng::new(10);
    let operand = |rng: &mut Rng, rows: usize| -> Vec<Quantised> {
        ks.iter().map(|&k| activations(rng, [rows, k])).collect()
    };
    let (a, b) = (operand(rng, m), operand(rng, n));
    let c = inputs::normal(rng, ks.len() * m * n, 3.0);
    let matrices = |all: &[Quantised]| all.iter().map(Quantised::dequantise).collect::<Vec<_>>();
    let c_matrices: Vec<Matrix> = c.chunks(m * n).map(|c| Matrix::new(c, [m, n])).collect();
    let want: Vec<f64> = oracle::k_grouped(&matrices(&a), &matrices(&b), Some(&c_matrices))
        .into_iter()
        .flat_map(|d| d.values)
        .collect();
    let shape = [ks.len(), m, n];

    let flat = |all: &[Quantised]| {
        let flat = layout::k_grouped(all);
        let values: Vec<E4M3> = flat.codes.into_iter().map(E4M3).collect();
        QuantTensor {
            values: Tensor::from_host(backend, &values, [values.len()]).expect("values"),
            scales: Tensor::from_host(backend, &flat.scales, [flat.scales.len()]).expect("scales"),
        }
    };
    let (fp8_a, fp8_b) = (flat(&a), flat(&b));
    let mut d = Tensor::from_host(backend, &c, shape).expect("d");
    let (a_view, b_view) = (fp8_a.view(), fp8_b.view());
    k_grouped_fp8_gemm_nt_contiguous(backend, &stream, a_view, b_view, &ks, d.view_mut())
        .expect("gemm");
    let d = d.to_host(backend).expect("d");
    compare::assert_relative_error("fp8", &d, &want, FP32_BOUND);
    compare::assert_bits_eq("k = 0", &[m, n], &d[m * n..2 * m * n], &c[m * n..2 * m * n]);

    let flat = |all: &[Quantised]| {
        let values: Vec<bf16> = all.iter().flat_map(|q| round(&q.dequantise().to_f32())).collect();
        Tensor::from_host(backend, &values, [values.len()]).expect("values")
    };
    let (bf16_a, bf16_b) = (flat(&a), flat(&b));
    let mut d = Tensor::from_host(backend, &c, shape).expect("d");
    let (a_view, b_view) = (bf16_a.view(), bf16_b.view());
    k_grouped_bf16_gemm_nt_contiguous(backend, &stream, a_view, b_view, &ks, d.view_mut())
        .expect("gemm");
    compare::assert_relative_error("bf16", &d.to_host(backend).expect("d"), &want, 4e-3);
}

fn outlier_columns_stay_accurate<B: Backend>(backend: &B) {
    let stream = backend.stream().expect("stream");
    let (m, n, k) = (40, 96, 1024);
    let rng = &mut Rng::new(11);
    let (x, _) = inputs::with_outlier_columns(rng, [m, k], 4, 300.0);
    let a = per_token(&x, [m, k], ScaleFormat::F32);
    let b = weights(rng, [n, k]);
    let want = oracle::nt(&a.dequantise(), &b.dequantise()).values;
    let (a, b) = (fp8_rows(backend, &a), fp8_rows(backend, &b));
    let mut d = Tensor::<B, f32, 2>::zeros(backend, [m, n]).expect("d");
    let out = GemmOut::F32(d.view_mut());
    fp8_gemm_nt(backend, &stream, a.view(), b.view(), out).expect("gemm");
    let d = d.to_host(backend).expect("d");
    compare::assert_worst_column("outliers", &d, &want, n, 3e-3);
}

fn a_nan_code_poisons_its_row_or_column_alone<B: Backend>(backend: &B) {
    let stream = backend.stream().expect("stream");
    let (m, n, k) = (7, 20, 272);
    let rng = &mut Rng::new(12);
    let (mut a, mut b) = (activations(rng, [m, k]), weights(rng, [n, k]));
    a.codes[3 * k + 200] = 0x7f;
    b.codes[5 * k + 7] = 0xff;
    let (a, b) = (fp8_rows(backend, &a), fp8_rows(backend, &b));
    let mut d = Tensor::<B, f32, 2>::zeros(backend, [m, n]).expect("d");
    let out = GemmOut::F32(d.view_mut());
    fp8_gemm_nt(backend, &stream, a.view(), b.view(), out).expect("gemm");
    for (i, x) in d.to_host(backend).expect("d").into_iter().enumerate() {
        let (row, col) = (i / n, i % n);
        assert_eq!(x.is_nan(), row == 3 || col == 5, "d[{row}, {col}] = {x}");
    }
}

fn a_group_out_of_range_is_reported_and_zeroed<B: Backend>(backend: &B) {
    let stream = backend.stream().expect("stream");
    let (n, k) = (16, 128);
    let rng = &mut Rng::new(13);
    let a = fp8_rows(backend, &activations(rng, [3, k]));
    let b = fp8_stack(backend, &[weights(rng, [n, k])]);
    let rows = Tensor::from_host(backend, &[0, 1, 0], [3]).expect("rows");
    let mut d = Tensor::from_host(backend, &poison::vec::<f32>(3 * n), [3, n]).expect("d");
    let out = GemmOut::F32(d.view_mut());
    let per_row = GroupRows::PerRow(rows.view());
    m_grouped_fp8_gemm_nt_contiguous(backend, &stream, a.view(), b.view(), per_row, out)
        .expect("gemm");
    let fault = backend.check(&stream).expect_err("group 1 of 1").to_string();
    let want = "m_grouped_gemm_nt_contiguous: `grouped_layout` is 1 at row 1, expected -1 to 0";
    assert_eq!(fault, want);
    assert!(d.to_host(backend).expect("d")[n..2 * n].iter().all(|&x| x == 0.0));
}

fn products_refuse_bad_arguments<B: Backend>(backend: &B) {
    let stream = backend.stream().expect("stream");
    let refused = |[m, n, k]: [usize; 3], b_k: usize, d_shape: [usize; 2]| -> Error {
        let a = Tensor::<B, bf16, 2>::zeros(backend, [m, k]).expect("a");
        let b = Tensor::<B, bf16, 2>::zeros(backend, [n, b_k]).expect("b");
        let mut d = Tensor::<B, f32, 2>::zeros(backend, d_shape).expect("d");
        let out = GemmOut::F32(d.view_mut());
        bf16_gemm_nt(backend, &stream, a.view(), b.view(), out).expect_err("refused")
    };
    let error = refused([2, 3, 24], 24, [2, 3]).to_string();
    assert_eq!(error, "gemm_nt: `k` is 24, expected a multiple of 16");
    let error = refused([2, 3, 32], 48, [2, 3]).to_string();
    assert_eq!(error, "gemm_nt: `b` has shape [3, 48], expected [3, 32]");
    let error = refused([2, 3, 32], 32, [3, 2]).to_string();
    assert_eq!(error, "gemm_nt: `d` has shape [3, 2], expected [2, 3]");

    let a = Tensor::<B, bf16, 1>::zeros(backend, [2 * 100]).expect("a");
    let mut d = Tensor::<B, f32, 3>::zeros(backend, [1, 2, 2]).expect("d");
    let (operand, d) = (a.view(), d.view_mut());
    let error = k_grouped_bf16_gemm_nt_contiguous(backend, &stream, operand, operand, &[100], d);
    let error = error.expect_err("k is no multiple of 128").to_string();
    assert_eq!(error, "k_grouped_gemm_nt_contiguous: `ks` is 100, expected a multiple of 128");
}
