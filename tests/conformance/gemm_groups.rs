//! FP8 products of groups of every pattern: along M several blocks high, in both layouts, and along K.

use moekit::Backend;
use moekit::gemm::{
    GemmOut, GroupRows, MaskedRows, fp8_gemm_nt, k_grouped_fp8_gemm_nt_contiguous,
    m_grouped_fp8_gemm_nt_contiguous, m_grouped_fp8_gemm_nt_masked,
};
use moekit::num::{E4M3, bf16};
use moekit::tensor::{Layout, QuantTensor, ScaleLayout, Tensor};
use moekit_testkit::matrix::Matrix;
use moekit_testkit::quant::Quantised;
use moekit_testkit::rng::Rng;
use moekit_testkit::{compare, gemm as oracle, inputs, layout, poison};

use crate::case::on_every_backend;
use crate::gemm::{BF16_BOUND, FP32_BOUND, activations, fp8_rows, fp8_stack, weights};

on_every_backend![
    groups_of_every_pattern_agree_with_f64,
    masked_groups_of_every_size_agree_with_f64,
    a_row_has_the_same_bits_in_every_layout,
    padding_becomes_zero_where_products_are_added,
    gaps_between_rows_are_left_alone,
    broken_offsets_are_reported_and_clipped,
    a_negative_count_is_reported_and_counts_as_none,
    groups_along_k_of_every_length_are_added,
];

/// Rows of groups and how far apart they start: none, one, a block, more than one, all in one group.
pub const PATTERNS: [(&[usize], usize); 6] = [
    (&[0, 0, 0], 128),
    (&[1, 1, 1, 1], 1),
    (&[129, 0, 3, 64], 128),
    (&[5, 130, 1, 0, 77], 1),
    (&[7, 65, 0, 8], 8),
    (&[0, 200, 0], 16),
];

/// Both forms of a contiguous layout.
pub struct Rows {
    pub grouped_layout: Vec<i32>,
    expert_offsets: Vec<i32>,
    counts: Vec<i32>,
}

impl Rows {
    /// Groups one after another, each from a multiple of `alignment`; `tail` rows of padding behind them.
    pub fn new(sizes: &[usize], alignment: usize, tail: usize) -> Self {
        let (mut grouped_layout, mut expert_offsets) = (Vec::new(), vec![0]);
        for (group, &size) in sizes.iter().enumerate() {
            grouped_layout.resize(grouped_layout.len() + size, group as i32);
            grouped_layout.resize(grouped_layout.len().next_multiple_of(alignment), -1);
            expert_offsets.push(grouped_layout.len() as i32);
        }
        grouped_layout.resize(grouped_layout.len() + tail, -1);
        let counts = sizes.iter().map(|&size| size as i32).collect();
        Self { grouped_layout, expert_offsets, counts }
    }

    /// The form by offsets: where groups start, and their rows.
    pub fn offsets<B: Backend>(&self, backend: &B) -> (Tensor<B, i32, 1>, Tensor<B, i32, 1>) {
        let num_groups = self.counts.len();
        let offsets = Tensor::from_host(backend, &self.expert_offsets, [num_groups + 1]);
        let counts = Tensor::from_host(backend, &self.counts, [num_groups]);
        (offsets.expect("offsets"), counts.expect("counts"))
    }
}

/// Operands of a product of groups in one matrix.
struct Operands<B: Backend> {
    a: QuantTensor<B, 2>,
    b: QuantTensor<B, 3>,
    m: usize,
    n: usize,
}

impl<B: Backend> Operands<B> {
    fn f32(&self, backend: &B, stream: &B::Stream, rows: GroupRows<'_, B>) -> Vec<f32> {
        let shape = [self.m, self.n];
        let before = poison::vec::<f32>(self.m * self.n);
        let mut d = Tensor::from_host(backend, &before, shape).expect("d");
        let out = GemmOut::F32(d.view_mut());
        m_grouped_fp8_gemm_nt_contiguous(backend, stream, self.a.view(), self.b.view(), rows, out)
            .expect("gemm");
        d.to_host(backend).expect("d")
    }

    fn bf16(&self, backend: &B, stream: &B::Stream, rows: GroupRows<'_, B>) -> Vec<bf16> {
        let shape = [self.m, self.n];
        let before = poison::vec::<bf16>(self.m * self.n);
        let mut d = Tensor::from_host(backend, &before, shape).expect("d");
        let out = GemmOut::Bf16(d.view_mut());
        m_grouped_fp8_gemm_nt_contiguous(backend, stream, self.a.view(), self.b.view(), rows, out)
            .expect("gemm");
        d.to_host(backend).expect("d")
    }
}

fn groups_of_every_pattern_agree_with_f64<B: Backend>(backend: &B) {
    let stream = backend.stream().expect("stream");
    // Columns that TMA can store, and such that it cannot.
    for ((idx, (sizes, alignment)), n) in
        PATTERNS.into_iter().enumerate().zip([144, 20].into_iter().cycle())
    {
        let rng = &mut Rng::new(20 + idx as u64);
        let rows = Rows::new(sizes, alignment, 3 * (idx % 2));
        let (m, k) = (rows.grouped_layout.len(), 272);
        let mut a = activations(rng, [m, k]);
        let b: Vec<Quantised> = sizes.iter().map(|_| weights(rng, [n, k])).collect();
        let dequantised: Vec<Matrix> = b.iter().map(Quantised::dequantise).collect();
        let want =
            oracle::m_grouped_contiguous(&a.dequantise(), &dequantised, &rows.grouped_layout);
        for row in (0..m).filter(|&row| rows.grouped_layout[row] < 0) {
            a.codes[row * k..][..k].fill(0x7f);
        }
        let operands = Operands { a: fp8_rows(backend, &a), b: fp8_stack(backend, &b), m, n };
        let layout = Tensor::from_host(backend, &rows.grouped_layout, [m]).expect("rows");
        let (offsets, counts) = rows.offsets(backend);
        let per_row = GroupRows::PerRow(layout.view());
        let by_offsets = GroupRows::Offsets {
            expert_offsets: offsets.view(),
            num_recv_tokens_per_expert: counts.view(),
        };
        let name = format!("{sizes:?} by {alignment}");
        let d = operands.f32(backend, &stream, per_row);
        compare::assert_relative_error(&name, &d, &want.values, FP32_BOUND);
        for row in (0..m).filter(|&row| rows.grouped_layout[row] < 0) {
            let row = &d[row * n..][..n];
            assert!(row.iter().all(|&x| x == 0.0), "{name}: a row of padding is not zero");
        }
        let got = operands.f32(backend, &stream, by_offsets);
        compare::assert_bits_eq(&format!("{name}, offsets"), &[m, n], &got, &d);
        let d = operands.bf16(backend, &stream, by_offsets);
        compare::assert_relative_error(&format!("{name}, BF16"), &d, &want.values, BF16_BOUND);
        let got = operands.bf16(backend, &stream, per_row);
        compare::assert_bits_eq(&format!("{name}, BF16, rows"), &[m, n], &got, &d);
    }
    backend.check(&stream).expect("no fault");
}

fn masked_groups_of_every_size_agree_with_f64<B: Backend>(backend: &B) {
    let stream = backend.stream().expect("stream");
    let (masked_m, max_m, k) = ([0, 1, 64, 129, 150, 7, 200], 150, 144);
    for n in [80, 33] {
        let rng = &mut Rng::new(31 + n as u64);
        let a: Vec<Quantised> = masked_m.iter().map(|_| activations(rng, [max_m, k])).collect();
        let b: Vec<Quantised> = masked_m.iter().map(|_| weights(rng, [n, k])).collect();
        let valid = masked_m.map(|m: i32| (m as usize).min(max_m));
        let matrices =
            |all: &[Quantised]| all.iter().map(Quantised::dequantise).collect::<Vec<_>>();
        let want = oracle::m_grouped_masked(&matrices(&a), &matrices(&b), &valid);
        let (a, b) = (fp8_stack(backend, &a), fp8_stack(backend, &b));
        let counts = Tensor::from_host(backend, &masked_m, [masked_m.len()]).expect("masked_m");
        let shape = [masked_m.len(), max_m, n];
        // The caller's expectation may be anything.
        for expected_m in [1, 16, 60, 1000] {
            let poisoned = poison::vec::<bf16>(masked_m.len() * max_m * n);
            let mut d = Tensor::from_host(backend, &poisoned, shape).expect("d");
            let rows = MaskedRows { masked_m: counts.view(), expected_m };
            let out = GemmOut::Bf16(d.view_mut());
            m_grouped_fp8_gemm_nt_masked(backend, &stream, a.view(), b.view(), rows, out)
                .expect("gemm");
            let d = d.to_host(backend).expect("d");
            for (group, &valid) in valid.iter().enumerate() {
                let (start, name) = (group * max_m * n, format!("group {group} of {n} columns"));
                let (want, got) = (&want[group].values, &d[start..][..valid * n]);
                let bound = if valid < 64 { 4e-3 } else { BF16_BOUND };
                compare::assert_relative_error(&name, got, want, bound);
                poison::assert_poisoned(&name, &shape, &d, start + valid * n..start + max_m * n);
            }
        }
    }
    backend.check(&stream).expect("no fault");
}

fn a_row_has_the_same_bits_in_every_layout<B: Backend>(backend: &B) {
    let stream = backend.stream().expect("stream");
    let (m, n, k) = (140, 144, 400);
    let rng = &mut Rng::new(41);
    let (a, b) = (activations(rng, [m, k]), weights(rng, [n, k]));
    let (rows, stack) = (fp8_rows(backend, &a), fp8_stack(backend, std::slice::from_ref(&a)));
    let (dense, grouped) = (fp8_rows(backend, &b), fp8_stack(backend, std::slice::from_ref(&b)));
    let mut d = Tensor::<B, f32, 2>::zeros(backend, [m, n]).expect("d");
    let out = GemmOut::F32(d.view_mut());
    fp8_gemm_nt(backend, &stream, rows.view(), dense.view(), out).expect("gemm");
    let want = d.to_host(backend).expect("d");

    // Three rows of padding, so that a row lies elsewhere in its block.
    let shifted: Vec<i32> = (0..m as i32).map(|row| if row < 3 { -1 } else { 0 }).collect();
    let layout = Tensor::from_host(backend, &shifted, [m]).expect("rows");
    let operands = Operands { a: rows, b: grouped, m, n };
    let got = operands.f32(backend, &stream, GroupRows::PerRow(layout.view()));
    compare::assert_bits_eq("contiguous", &[m - 3, n], &got[3 * n..], &want[3 * n..]);

    for (count, expected_m) in [(140, 140), (77, 64), (5, 2)] {
        let counts = Tensor::from_host(backend, &[count], [1]).expect("masked_m");
        let mut d = Tensor::<B, f32, 3>::zeros(backend, [1, m, n]).expect("d");
        let rows = MaskedRows { masked_m: counts.view(), expected_m };
        let out = GemmOut::F32(d.view_mut());
        m_grouped_fp8_gemm_nt_masked(backend, &stream, stack.view(), operands.b.view(), rows, out)
            .expect("gemm");
        let (len, got) = (count as usize * n, d.to_host(backend).expect("d"));
        let name = format!("masked, {expected_m} expected");
        compare::assert_bits_eq(&name, &[count as usize, n], &got[..len], &want[..len]);
    }
}

fn padding_becomes_zero_where_products_are_added<B: Backend>(backend: &B) {
    let stream = backend.stream().expect("stream");
    let (m, n, k) = (6, 40, 128);
    let rng = &mut Rng::new(42);
    let (a, b) = (activations(rng, [m, k]), weights(rng, [n, k]));
    let product = oracle::nt(&a.dequantise(), &b.dequantise());
    let before = vec![1.0f32; m * n];
    let want = oracle::accumulate(&product, &Matrix::new(&before, [m, n])).values;
    let (a, b) = (fp8_rows(backend, &a), fp8_stack(backend, &[b]));
    let layout = Tensor::from_host(backend, &[0, 0, -1, -1, 0, 0], [m]).expect("rows");
    let mut d = Tensor::from_host(backend, &before, [m, n]).expect("d");
    let (rows, out) = (GroupRows::PerRow(layout.view()), GemmOut::F32Accumulate(d.view_mut()));
    m_grouped_fp8_gemm_nt_contiguous(backend, &stream, a.view(), b.view(), rows, out)
        .expect("gemm");
    let d = d.to_host(backend).expect("d");
    for (first, end) in [(0, 2), (4, 6)] {
        let (got, want) = (&d[first * n..end * n], &want[first * n..end * n]);
        compare::assert_relative_error("added", got, want, FP32_BOUND);
    }
    assert!(d[2 * n..4 * n].iter().all(|&x| x == 0.0), "padding is not zero");
}

fn gaps_between_rows_are_left_alone<B: Backend>(backend: &B) {
    let stream = backend.stream().expect("stream");
    let (m, n, k) = (70, 72, 144);
    let rng = &mut Rng::new(43);
    let (a, b) = (activations(rng, [m, k]), weights(rng, [n, k]));
    let want = oracle::nt(&a.dequantise(), &b.dequantise());
    // A with gaps, and its scales a column at a time, as TMA would take them.
    let layout = Layout::with_strides([m, k], [k + 32, 1]);
    let mut values = Tensor::<B, E4M3, 2>::zeros_with_layout(backend, layout).expect("values");
    let mut codes = vec![E4M3(0x7f); layout.span()];
    for (row, line) in a.codes.chunks(k).enumerate() {
        for (column, &code) in line.iter().enumerate() {
            codes[layout.offset([row, column])] = E4M3(code);
        }
    }
    values.view_mut().copy_from_host(backend, &codes).expect("values");
    let scale_layout = ScaleLayout::MnMajor.layout([m, 2]);
    let mut scales = Tensor::zeros_with_layout(backend, scale_layout).expect("scales");
    let mut spread = poison::vec::<f32>(scale_layout.span());
    for (i, &scale) in a.scales.iter().enumerate() {
        spread[scale_layout.offset([i / 2, i % 2])] = scale;
    }
    scales.view_mut().copy_from_host(backend, &spread).expect("scales");
    let (a, b) = (QuantTensor { values, scales }, fp8_rows(backend, &b));
    for row_stride in [n + 8, n + 1] {
        let layout = Layout::with_strides([m, n], [row_stride, 1]);
        let mut d = Tensor::<B, bf16, 2>::zeros_with_layout(backend, layout).expect("d");
        let poisoned = poison::vec::<bf16>(layout.span());
        d.view_mut().copy_from_host(backend, &poisoned).expect("d");
        let out = GemmOut::Bf16(d.view_mut());
        fp8_gemm_nt(backend, &stream, a.view(), b.view(), out).expect("gemm");
        let d = d.to_host(backend).expect("d");
        let rows: Vec<bf16> = d.chunks(row_stride).flat_map(|row| row[..n].to_vec()).collect();
        compare::assert_relative_error("rows apart", &rows, &want.values, BF16_BOUND);
        for row in 0..m - 1 {
            let gap = row * row_stride + n..(row + 1) * row_stride;
            poison::assert_poisoned("gap", &[m, row_stride], &d, gap);
        }
    }
}

fn broken_offsets_are_reported_and_clipped<B: Backend>(backend: &B) {
    let stream = backend.stream().expect("stream");
    let (m, n, k) = (12, 16, 128);
    let rng = &mut Rng::new(44);
    let (a, b) = (activations(rng, [m, k]), weights(rng, [n, k]));
    let want = oracle::nt(&a.dequantise(), &b.dequantise()).values;
    let operands =
        Operands { a: fp8_rows(backend, &a), b: fp8_stack(backend, &[b.clone(), b]), m, n };
    // What is wrong, and the rows that still hold tokens.
    type Broken = ([i32; 3], [i32; 2], &'static str, &'static [usize]);
    let cases: [Broken; 3] = [
        ([0, 5, 13], [5, 2], "13 at group 1", &[0, 1, 2, 3, 4, 5, 6]),
        ([-4, 2, 12], [2, 9], "-4 at group 0", &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
        ([0, 4, 2], [5, 0], "5 at group 0", &[0, 1, 2, 3]),
    ];
    for (offsets, counts, got, valid) in cases {
        let offsets = Tensor::from_host(backend, &offsets, [3]).expect("offsets");
        let counts = Tensor::from_host(backend, &counts, [2]).expect("counts");
        let rows = GroupRows::Offsets {
            expert_offsets: offsets.view(),
            num_recv_tokens_per_expert: counts.view(),
        };
        let d = operands.f32(backend, &stream, rows);
        let fault = backend.check(&stream).expect_err("an offset is wrong").to_string();
        let start = format!("m_grouped_gemm_nt_contiguous: `expert_offsets` is {got}, expected");
        assert!(fault.starts_with(&start), "{fault}");
        for row in 0..m {
            let line = &d[row * n..][..n];
            match valid.contains(&row) {
                true => {
                    let want = &want[row * n..][..n];
                    compare::assert_relative_error(&format!("row {row}"), line, want, FP32_BOUND);
                }
                false => assert!(line.iter().all(|&x| x == 0.0), "row {row} is padding"),
            }
        }
    }
}

fn a_negative_count_is_reported_and_counts_as_none<B: Backend>(backend: &B) {
    let stream = backend.stream().expect("stream");
    let (n, k) = (16, 128);
    let rng = &mut Rng::new(45);
    let a: Vec<Quantised> = (0..3).map(|_| activations(rng, [2, k])).collect();
    let b: Vec<Quantised> = (0..3).map(|_| weights(rng, [n, k])).collect();
    let (a, b) = (fp8_stack(backend, &a), fp8_stack(backend, &b));
    let counts = Tensor::from_host(backend, &[1, -3, -1], [3]).expect("masked_m");
    let poisoned = poison::vec::<f32>(3 * 2 * n);
    let mut d = Tensor::from_host(backend, &poisoned, [3, 2, n]).expect("d");
    let rows = MaskedRows { masked_m: counts.view(), expected_m: 1 };
    let out = GemmOut::F32(d.view_mut());
    m_grouped_fp8_gemm_nt_masked(backend, &stream, a.view(), b.view(), rows, out).expect("gemm");
    let fault = backend.check(&stream).expect_err("a count is negative").to_string();
    let want = "m_grouped_gemm_nt_masked: `masked_m` is -3 for group 1, expected at least 0";
    assert_eq!(fault, want);
    let d = d.to_host(backend).expect("d");
    poison::assert_poisoned("rows beyond the counts", &[3, 2, n], &d, n..3 * 2 * n);
}

fn groups_along_k_of_every_length_are_added<B: Backend>(backend: &B) {
    let stream = backend.stream().expect("stream");
    for ([m, n], ks) in [([17, 36], vec![256, 0, 128, 384]), ([150, 132], vec![128, 640])] {
        let rng = &mut Rng::new(46 + m as u64);
        let mut operand = |rows: usize| -> Vec<Quantised> {
            ks.iter().map(|&k| activations(rng, [rows, k])).collect()
        };
        let (a, b) = (operand(m), operand(n));
        let c = inputs::normal(rng, ks.len() * m * n, 3.0);
        let matrices =
            |all: &[Quantised]| all.iter().map(Quantised::dequantise).collect::<Vec<_>>();
        let before: Vec<Matrix> = c.chunks(m * n).map(|c| Matrix::new(c, [m, n])).collect();
        let want: Vec<f64> = oracle::k_grouped(&matrices(&a), &matrices(&b), Some(&before))
            .into_iter()
            .flat_map(|d| d.values)
            .collect();
        let flat = |all: &[Quantised]| {
            let flat = layout::k_grouped(all);
            let values: Vec<E4M3> = flat.codes.into_iter().map(E4M3).collect();
            let scales = Tensor::from_host(backend, &flat.scales, [flat.scales.len()]);
            QuantTensor {
                values: Tensor::from_host(backend, &values, [values.len()]).expect("values"),
                scales: scales.expect("scales"),
            }
        };
        let (a, b) = (flat(&a), flat(&b));
        let shape = [ks.len(), m, n];
        let mut d = Tensor::from_host(backend, &c, shape).expect("d");
        k_grouped_fp8_gemm_nt_contiguous(backend, &stream, a.view(), b.view(), &ks, d.view_mut())
            .expect("gemm");
        let d = d.to_host(backend).expect("d");
        compare::assert_relative_error("d", &d, &want, FP32_BOUND);
        for (group, _) in ks.iter().enumerate().filter(|(_, k)| **k == 0) {
            let of_group = group * m * n..(group + 1) * m * n;
            let (got, want) = (&d[of_group.clone()], &c[of_group]);
            compare::assert_bits_eq("a group without K", &[m, n], got, want);
        }
    }
}
