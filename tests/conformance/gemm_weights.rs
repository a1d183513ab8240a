//! Grouped products whose rows are weighted: the bits of the product without weights, times the weight.

use moekit::gemm::{GemmOut, GroupRows, GroupedGemmArgs, MaskedGemmArgs, MaskedRows, Operands};
use moekit::num::bf16;
use moekit::tensor::{QuantTensor, Tensor, TensorRef};
use moekit::{Backend, Error};
use moekit_testkit::compare::assert_bits_eq;
use moekit_testkit::quant::Quantised;
use moekit_testkit::rng::Rng;
use moekit_testkit::{inputs, poison};

use crate::case::on_every_backend;
use crate::gemm::{activations, fp8_rows, fp8_stack, round, weights};
use crate::gemm_groups::Rows;

on_every_backend![
    weighted_fp8_rows_have_the_bits_of_sums_times_weights,
    weighted_bf16_rows_have_the_bits_of_sums_times_weights,
    weights_multiply_infinite_sums_as_ieee_says,
    weighted_products_refuse_bad_arguments,
];

/// Rows of a group, how many of them are valid, and where groups start: turns of several groups in a block, groups
/// without rows, with one, and with more than a block.
const PATTERNS: [(&[usize], usize); 2] = [(&[5, 130, 1, 0, 13], 1), (&[7, 65, 0, 8], 16)];
/// Rows of each group's own matrix.
const MAX_M: usize = 67;
const COUNTS: [i32; 4] = [67, 0, 1, 40];

/// A and B in either format.
enum Matrices<B: Backend> {
    Fp8(QuantTensor<B, 2>, QuantTensor<B, 3>),
    Bf16(Tensor<B, bf16, 2>, Tensor<B, bf16, 3>),
}

/// What becomes of a row of D.
#[derive(Clone, Copy, PartialEq)]
enum RowKind {
    Computed,
    Zero,
    Untouched,
}

#[derive(Clone, Copy)]
enum RowsOf<'a, B> {
    Contiguous(GroupRows<'a, B>),
    Masked(TensorRef<'a, B, i32, 1>),
}

/// A product of `[m, k]` rows, in either layout.
struct Product<'a, B: Backend> {
    backend: &'a B,
    stream: &'a B::Stream,
    matrices: &'a Matrices<B>,
    rows: RowsOf<'a, B>,
    kinds: Vec<RowKind>,
    m: usize,
    n: usize,
}

type Weights<'a, B> = Option<TensorRef<'a, B, f32, 1>>;

impl<B: Backend> Product<'_, B> {
    fn launch(&self, out: GemmOut<'_, B, 2>, weights: Weights<'_, B>) {
        let (backend, stream) = (self.backend, self.stream);
        match self.rows {
            RowsOf::Contiguous(rows) => {
                let operands = match self.matrices {
                    Matrices::Fp8(a, b) => Operands::Fp8 { a: a.view(), b: b.view() },
                    Matrices::Bf16(a, b) => Operands::Bf16 { a: a.view(), b: b.view() },
                };
                let mut args = GroupedGemmArgs::new(operands, rows, out).expect("args");
                if let Some(weights) = weights {
                    args = args.with_row_weights(weights).expect("weights");
                }
                backend.m_grouped_gemm_nt_contiguous(stream, args).expect("gemm");
            }
            RowsOf::Masked(masked_m) => {
                let num_groups = masked_m.shape()[0];
                let (a, b) = (num_groups, "rows of every group");
                let operands = match self.matrices {
                    Matrices::Fp8(rows, all) => {
                        Operands::Fp8 { a: rows.view().split_rows(a).expect(b), b: all.view() }
                    }
                    Matrices::Bf16(rows, all) => {
                        Operands::Bf16 { a: rows.view().split_rows(a).expect(b), b: all.view() }
                    }
                };
                let out = match out {
                    GemmOut::Bf16(d) => GemmOut::Bf16(d.split_rows(num_groups).expect("d")),
                    GemmOut::F32(d) => GemmOut::F32(d.split_rows(num_groups).expect("d")),
                    GemmOut::F32Accumulate(d) => {
                        GemmOut::F32Accumulate(d.split_rows(num_groups).expect("d"))
                    }
                };
                let rows = MaskedRows { masked_m, expected_m: 20 };
                let mut args = MaskedGemmArgs::new(operands, rows, out).expect("args");
                if let Some(weights) = weights {
                    args = args.with_row_weights(weights).expect("weights");
                }
                backend.m_grouped_gemm_nt_masked(stream, args).expect("gemm");
            }
        }
        backend.check(stream).expect("no fault");
    }

    fn f32(&self, before: &[f32], adds: bool, weights: Weights<'_, B>) -> Vec<f32> {
        let mut d = Tensor::from_host(self.backend, before, [self.m, self.n]).expect("d");
        let out = if adds { GemmOut::F32Accumulate } else { GemmOut::F32 };
        self.launch(out(d.view_mut()), weights);
        d.to_host(self.backend).expect("d")
    }

    fn bf16(&self, before: &[bf16], weights: Weights<'_, B>) -> Vec<bf16> {
        let mut d = Tensor::from_host(self.backend, before, [self.m, self.n]).expect("d");
        self.launch(GemmOut::Bf16(d.view_mut()), weights);
        d.to_host(self.backend).expect("d")
    }

    /// Every format of D, with weights that differ from row to row, and with ones.
    fn check(&self, name: &str, rng: &mut Rng) {
        let (shape, len) = ([self.m, self.n], self.m * self.n);
        let mut weights = inputs::normal(rng, self.m, 1.0);
        for (row, kind) in self.kinds.iter().enumerate() {
            match kind {
                RowKind::Computed if row % 9 == 4 => weights[row] = 0.0,
                RowKind::Computed => {}
                // NOTE: must not be read.
                RowKind::Zero | RowKind::Untouched => weights[row] = f32::NAN,
            }
        }
        let ones = Tensor::from_host(self.backend, &vec![1.0f32; self.m], [self.m]).expect("ones");
        let of_rows = Tensor::from_host(self.backend, &weights, [self.m]).expect("weights");
        let (ones, of_rows) = (Some(ones.view()), Some(of_rows.view()));

        let before = poison::vec::<f32>(len);
        let sums = self.f32(&before, false, None);
        let got = self.f32(&before, false, ones);
        assert_bits_eq(&format!("{name}, ones"), &shape, &got, &sums);
        let weighted: Vec<f32> =
            sums.iter().enumerate().map(|(i, x)| weights[i / self.n] * x).collect();
        let got = self.f32(&before, false, of_rows);
        assert_bits_eq(&format!("{name}, FP32"), &shape, &got, &self.expected(&before, &weighted));

        let rounded = poison::vec::<bf16>(len);
        let plain = self.bf16(&rounded, None);
        let got = self.bf16(&rounded, ones);
        assert_bits_eq(&format!("{name}, BF16, ones"), &shape, &got, &plain);
        let got = self.bf16(&rounded, of_rows);
        let want = self.expected(&rounded, &round(&weighted));
        assert_bits_eq(&format!("{name}, BF16"), &shape, &got, &want);

        let before = inputs::normal(rng, len, 1.0);
        let got = self.f32(&before, true, of_rows);
        let added: Vec<f32> = before.iter().zip(&weighted).map(|(c, x)| c + x).collect();
        assert_bits_eq(&format!("{name}, added"), &shape, &got, &self.expected(&before, &added));
    }

    /// What a launch leaves where computed rows get these.
    fn expected<T: Copy + Default>(&self, before: &[T], computed: &[T]) -> Vec<T> {
        let of_element = |i: usize| match self.kinds[i / self.n] {
            RowKind::Computed => computed[i],
            RowKind::Zero => T::default(),
            RowKind::Untouched => before[i],
        };
        (0..before.len()).map(of_element).collect()
    }
}

fn fp8<B: Backend>(backend: &B, rng: &mut Rng, [m, n, k]: [usize; 3], num: usize) -> Matrices<B> {
    let a = activations(rng, [m, k]);
    let b: Vec<Quantised> = (0..num).map(|_| weights(rng, [n, k])).collect();
    Matrices::Fp8(fp8_rows(backend, &a), fp8_stack(backend, &b))
}

fn bf16_matrices<B: Backend>(
    backend: &B,
    rng: &mut Rng,
    [m, n, k]: [usize; 3],
    num: usize,
) -> Matrices<B> {
    let a = round(&inputs::normal(rng, m * k, 1.0));
    let b: Vec<bf16> = (0..num).flat_map(|_| round(&inputs::weights(rng, [n, k]))).collect();
    Matrices::Bf16(
        Tensor::from_host(backend, &a, [m, k]).expect("a"),
        Tensor::from_host(backend, &b, [num, n, k]).expect("b"),
    )
}

/// Makes A and B of `[m, n, k]` and a number of groups.
type Make<B> = fn(&B, &mut Rng, [usize; 3], usize) -> Matrices<B>;

fn check_layouts<B: Backend>(backend: &B, make: Make<B>, k: usize) {
    let stream = &backend.stream().expect("stream");
    // Columns that TMA can store, and such that it cannot.
    for ((sizes, alignment), n) in PATTERNS.into_iter().zip([144, 20]) {
        let rng = &mut Rng::new(n as u64);
        let rows = Rows::new(sizes, alignment, 3);
        let m = rows.grouped_layout.len();
        let matrices = &make(backend, rng, [m, n, k], sizes.len());
        let layout = Tensor::from_host(backend, &rows.grouped_layout, [m]).expect("rows");
        let (expert_offsets, counts) = rows.offsets(backend);
        let by_offsets = GroupRows::Offsets {
            expert_offsets: expert_offsets.view(),
            num_recv_tokens_per_expert: counts.view(),
        };
        let kind = |&group: &i32| if group < 0 { RowKind::Zero } else { RowKind::Computed };
        let kinds: Vec<RowKind> = rows.grouped_layout.iter().map(kind).collect();
        // The kernel is one for both forms, which give it the same blocks.
        let rows = if alignment == 1 { GroupRows::PerRow(layout.view()) } else { by_offsets };
        let rows = RowsOf::Contiguous(rows);
        let product = Product { backend, stream, matrices, rows, kinds, m, n };
        product.check(&format!("{sizes:?} by {alignment}"), rng);
    }
    for n in [80, 33] {
        let rng = &mut Rng::new(n as u64);
        let m = COUNTS.len() * MAX_M;
        let matrices = &make(backend, rng, [m, n, k], COUNTS.len());
        let masked_m = Tensor::from_host(backend, &COUNTS, [COUNTS.len()]).expect("masked_m");
        let kind = |row: usize| match row % MAX_M < COUNTS[row / MAX_M] as usize {
            true => RowKind::Computed,
            false => RowKind::Untouched,
        };
        let (rows, kinds) = (RowsOf::Masked(masked_m.view()), (0..m).map(kind).collect());
        let product = Product { backend, stream, matrices, rows, kinds, m, n };
        product.check(&format!("masked, {n} columns"), rng);
    }
}

fn weighted_fp8_rows_have_the_bits_of_sums_times_weights<B: Backend>(backend: &B) {
    check_layouts(backend, fp8, 272);
}

fn weighted_bf16_rows_have_the_bits_of_sums_times_weights<B: Backend>(backend: &B) {
    check_layouts(backend, bf16_matrices, 144);
}

fn weights_multiply_infinite_sums_as_ieee_says<B: Backend>(backend: &B) {
    let stream = &backend.stream().expect("stream");
    let (m, n, k) = (5, 8, 16);
    // The last row has a finite sum.
    let small = bf16::from_f32(2f32.powi(-10));
    let a: Vec<bf16> = (0..m * k).map(|i| if i / k < 4 { bf16::MAX } else { small }).collect();
    let a = Tensor::from_host(backend, &a, [m, k]).expect("a");
    let b = Tensor::from_host(backend, &vec![bf16::MAX; n * k], [1, n, k]).expect("b");
    let matrices = &Matrices::Bf16(a, b);
    let layout = Tensor::from_host(backend, &[0; 5], [m]).expect("rows");
    let rows = RowsOf::Contiguous(GroupRows::PerRow(layout.view()));
    let kinds = vec![RowKind::Computed; m];
    let product = Product { backend, stream, matrices, rows, kinds, m, n };
    let weights = [0.0, -1.0, f32::NAN, 0.5, 0.0];
    let weights = Tensor::from_host(backend, &weights, [m]).expect("weights");
    let d = product.f32(&poison::vec::<f32>(m * n), false, Some(weights.view()));
    let first: Vec<f32> = d.chunks(n).map(|row| row[0]).collect();
    assert!(first[0].is_nan() && first[2].is_nan(), "{first:?}");
    assert_eq!((first[1], first[3], first[4]), (f32::NEG_INFINITY, f32::INFINITY, 0.0));
}

fn weighted_products_refuse_bad_arguments<B: Backend>(backend: &B) {
    let refused = |num_weights: usize, is_masked: bool| -> Error {
        let a = Tensor::<B, bf16, 2>::zeros(backend, [6, 16]).expect("a");
        let b = Tensor::<B, bf16, 3>::zeros(backend, [2, 8, 16]).expect("b");
        let mut d = Tensor::<B, f32, 2>::zeros(backend, [6, 8]).expect("d");
        let ints = Tensor::<B, i32, 1>::zeros(backend, [6]).expect("integers");
        let weights = Tensor::<B, f32, 1>::zeros(backend, [num_weights]).expect("weights");
        if is_masked {
            let a = a.view().split_rows(2).expect("two groups");
            let out = GemmOut::F32(d.view_mut().split_rows(2).expect("two groups"));
            let masked_m = ints.view().prefix(2).expect("two counts");
            let rows = MaskedRows { masked_m, expected_m: 3 };
            let operands = Operands::Bf16 { a, b: b.view() };
            let args = MaskedGemmArgs::new(operands, rows, out).expect("args");
            return args.with_row_weights(weights.view()).map(|_| ()).expect_err("refused");
        }
        let rows = GroupRows::PerRow(ints.view());
        let operands = Operands::Bf16 { a: a.view(), b: b.view() };
        let out = GemmOut::F32(d.view_mut());
        let args = GroupedGemmArgs::new(operands, rows, out).expect("args");
        args.with_row_weights(weights.view()).map(|_| ()).expect_err("refused")
    };
    let error = refused(7, false).to_string();
    let want = "m_grouped_gemm_nt_contiguous: `row_weights` has shape [7], expected [6]";
    assert_eq!(error, want);
    let error = refused(3, true).to_string();
    assert_eq!(error, "m_grouped_gemm_nt_masked: `row_weights` has shape [3], expected [6]");
}
