//! The experts' first product with its activation: the bits of the two stages, and close to f64.

use moekit::gemm::{
    GemmOut, GroupRows, MaskedRows, SwigluOut, m_grouped_fp8_gemm_nt_contiguous,
    m_grouped_fp8_gemm_nt_masked, m_grouped_fp8_gemm_swiglu_contiguous,
    m_grouped_fp8_gemm_swiglu_masked,
};
use moekit::moe::Rows;
use moekit::moe::quant::ScaleFormat;
use moekit::moe::swiglu::{SwigluInput, SwigluQuantizeArgs};
use moekit::num::{E4M3, bf16};
use moekit::tensor::{Layout, QuantMut, QuantTensor, ScaleLayout, Tensor};
use moekit::{Backend, Error};
use moekit_testkit::compare::{assert_bits_eq, assert_relative_error};
use moekit_testkit::matrix::Matrix;
use moekit_testkit::quant::Quantised;
use moekit_testkit::rng::Rng;
use moekit_testkit::{gemm as oracle, inputs, swiglu};

use crate::case::on_every_backend;
use crate::gemm::{activations, fp8_rows, fp8_stack, weights};
use crate::gemm_groups::{PATTERNS, Rows as ContiguousRows};
use crate::quant::{E4M3_POISON, F32_POISON, codes, padded};
use crate::strided::Strided;

on_every_backend![
    activated_groups_have_the_bits_of_the_two_stages,
    activated_masked_groups_have_the_bits_of_the_two_stages,
    activated_products_agree_with_f64,
    padding_is_activated_to_zeros,
    activated_products_refuse_bad_arguments,
];

/// How rows are activated; the same for one stage and for two.
#[derive(Clone, Copy)]
struct Options {
    limit: f32,
    format: ScaleFormat,
    is_weighted: bool,
}

const OPTIONS: [Options; 3] = [
    Options { limit: f32::INFINITY, format: ScaleFormat::Fp32, is_weighted: false },
    Options { limit: 0.7, format: ScaleFormat::Ue8m0, is_weighted: true },
    Options { limit: f32::INFINITY, format: ScaleFormat::Fp32, is_weighted: true },
];

/// Activations with gaps everywhere, poisoned before the call.
struct Out<B: Backend, const R: usize> {
    values: Strided<B, E4M3, R>,
    scales: Strided<B, f32, R>,
}

impl<B: Backend, const R: usize> Out<B, R> {
    fn new(backend: &B, shape: [usize; R], scales: Layout<R>) -> Self {
        Self {
            values: Strided::poisoned(backend, padded(shape), E4M3_POISON),
            scales: Strided::poisoned(backend, scales, F32_POISON),
        }
    }

    fn view_mut(&mut self) -> QuantMut<'_, B, R> {
        QuantMut { values: self.values.view_mut(), scales: self.scales.view_mut() }
    }

    fn to_host(&self, backend: &B) -> (Vec<u8>, Vec<f32>) {
        (codes(&self.values.to_host(backend)), self.scales.to_host(backend))
    }
}

/// Groups in one matrix.
struct Contiguous<B: Backend> {
    a: QuantTensor<B, 2>,
    b: QuantTensor<B, 3>,
    row_weights: Tensor<B, f32, 1>,
    m: usize,
    width: usize,
}

impl<B: Backend> Contiguous<B> {
    fn out(&self, backend: &B) -> Out<B, 2> {
        let scales = ScaleLayout::MnMajor.layout([self.m, self.width / 128]);
        Out::new(backend, [self.m, self.width], scales)
    }

    fn fused(&self, backend: &B, rows: GroupRows<'_, B>, options: Options) -> (Vec<u8>, Vec<f32>) {
        let stream = backend.stream().expect("stream");
        let mut out = self.out(backend);
        let swiglu_out = SwigluOut {
            limit: options.limit,
            row_weights: options.is_weighted.then(|| self.row_weights.view()),
            ..SwigluOut::new(out.view_mut(), options.format)
        };
        let (a, b) = (self.a.view(), self.b.view());
        m_grouped_fp8_gemm_swiglu_contiguous(backend, &stream, a, b, rows, swiglu_out)
            .expect("gemm");
        backend.check(&stream).expect("no fault");
        out.to_host(backend)
    }

    fn two_stages(
        &self,
        backend: &B,
        rows: GroupRows<'_, B>,
        options: Options,
    ) -> (Vec<u8>, Vec<f32>) {
        let stream = backend.stream().expect("stream");
        let (m, n) = (self.m, 2 * self.width);
        let mut gate_up = Tensor::<B, bf16, 2>::zeros(backend, [m, n]).expect("gate_up");
        let d = GemmOut::Bf16(gate_up.view_mut());
        let (a, b) = (self.a.view(), self.b.view());
        m_grouped_fp8_gemm_nt_contiguous(backend, &stream, a, b, rows, d).expect("gemm");
        let mut out = self.out(backend);
        let input = SwigluInput {
            rows: match rows {
                GroupRows::PerRow(layout) => Rows::PerRow(layout),
                GroupRows::Offsets { expert_offsets, num_recv_tokens_per_expert } => {
                    Rows::Offsets { expert_offsets, num_recv_tokens_per_expert }
                }
            },
            limit: options.limit,
            row_weights: options.is_weighted.then(|| self.row_weights.view()),
            ..SwigluInput::new(gate_up.view())
        };
        let args = SwigluQuantizeArgs::new(input, out.view_mut(), options.format).expect("args");
        backend.swiglu_quantize(&stream, args).expect("swiglu");
        backend.check(&stream).expect("no fault");
        out.to_host(backend)
    }
}

fn activated_groups_have_the_bits_of_the_two_stages<B: Backend>(backend: &B) {
    for (idx, (sizes, alignment)) in PATTERNS.into_iter().enumerate() {
        let rng = &mut Rng::new(50 + idx as u64);
        let rows = ContiguousRows::new(sizes, alignment, 3 * (idx % 2));
        // Blocks of K whose scales TMA cannot load, and such that it can.
        let (m, k, width) = (rows.grouped_layout.len(), [272, 512][idx % 2], 128 * (1 + idx % 3));
        let mut a = activations(rng, [m, k]);
        let b: Vec<Quantised> = sizes.iter().map(|_| weights(rng, [2 * width, k])).collect();
        // Padding is not read, and a NaN stays in its row.
        for row in (0..m).filter(|&row| rows.grouped_layout[row] < 0 || row == 2) {
            a.codes[row * k..][..k].fill(0x7f);
        }
        let row_weights = inputs::normal(rng, m, 1.0);
        let case = Contiguous {
            a: fp8_rows(backend, &a),
            b: fp8_stack(backend, &b),
            row_weights: Tensor::from_host(backend, &row_weights, [m]).expect("weights"),
            m,
            width,
        };
        let layout = Tensor::from_host(backend, &rows.grouped_layout, [m]).expect("rows");
        let (offsets, counts) = rows.offsets(backend);
        let per_row = GroupRows::PerRow(layout.view());
        let by_offsets = GroupRows::Offsets {
            expert_offsets: offsets.view(),
            num_recv_tokens_per_expert: counts.view(),
        };
        let options = OPTIONS[idx % OPTIONS.len()];
        let want = case.two_stages(backend, per_row, options);
        for (form, rows) in [("rows", per_row), ("offsets", by_offsets)] {
            let got = case.fused(backend, rows, options);
            let name = format!("{sizes:?} by {alignment}, {form}");
            assert_bits_eq(&format!("codes of {name}"), &[m, width], &got.0, &want.0);
            assert_bits_eq(&format!("scales of {name}"), &[m, width / 128], &got.1, &want.1);
        }
    }
}

fn activated_masked_groups_have_the_bits_of_the_two_stages<B: Backend>(backend: &B) {
    let [first, others @ ..] = OPTIONS;
    check_masked(backend, 144, &[(first, 1)]);
    check_masked(backend, 512, &[(others[0], 30), (others[1], 1000)]);
}

/// With each of the options and numbers of rows that are expected.
fn check_masked<B: Backend>(backend: &B, k: usize, runs: &[(Options, usize)]) {
    let stream = backend.stream().expect("stream");
    let (masked_m, max_m, width) = ([0, 1, 64, 129, 150, 7, 200], 150, 256);
    let num_groups = masked_m.len();
    let rng = &mut Rng::new(61);
    let a: Vec<Quantised> = masked_m.iter().map(|_| activations(rng, [max_m, k])).collect();
    let b: Vec<Quantised> = masked_m.iter().map(|_| weights(rng, [2 * width, k])).collect();
    let (a, b) = (fp8_stack(backend, &a), fp8_stack(backend, &b));
    let counts = Tensor::from_host(backend, &masked_m, [num_groups]).expect("masked_m");
    let row_weights = inputs::normal(rng, num_groups * max_m, 1.0);
    let row_weights =
        Tensor::from_host(backend, &row_weights, [num_groups * max_m]).expect("weights");
    let rows = |expected_m| MaskedRows { masked_m: counts.view(), expected_m };

    let shape = [num_groups, max_m, 2 * width];
    let mut gate_up = Tensor::<B, bf16, 3>::zeros(backend, shape).expect("gate_up");
    let d = GemmOut::Bf16(gate_up.view_mut());
    m_grouped_fp8_gemm_nt_masked(backend, &stream, a.view(), b.view(), rows(60), d).expect("gemm");
    let scales = padded([num_groups, max_m, width / 128]);
    for &(options, expected_m) in runs {
        let weights = options.is_weighted.then(|| row_weights.view());
        let mut want = Out::new(backend, [num_groups, max_m, width], scales);
        let input = SwigluInput {
            limit: options.limit,
            row_weights: weights,
            ..SwigluInput::new(gate_up.view())
        };
        let args = SwigluQuantizeArgs::new(input, want.view_mut(), options.format).expect("args");
        backend.swiglu_quantize(&stream, args).expect("swiglu");
        let mut got = Out::new(backend, [num_groups, max_m, width], scales);
        let out = SwigluOut {
            limit: options.limit,
            row_weights: weights,
            ..SwigluOut::new(got.view_mut(), options.format)
        };
        let (a, b) = (a.view(), b.view());
        m_grouped_fp8_gemm_swiglu_masked(backend, &stream, a, b, rows(expected_m), out)
            .expect("gemm");
        backend.check(&stream).expect("no fault");
        let (mut want, got) = (want.to_host(backend), got.to_host(backend));
        for (group, &count) in masked_m.iter().enumerate() {
            let valid = (group * max_m) + (count as usize).min(max_m)..(group + 1) * max_m;
            want.0[valid.start * width..valid.end * width].fill(E4M3_POISON.0);
            let num_scales = width / 128;
            want.1[valid.start * num_scales..valid.end * num_scales].fill(F32_POISON);
        }
        let name = format!("{expected_m} rows expected");
        assert_bits_eq(&format!("codes, {name}"), &[num_groups, max_m, width], &got.0, &want.0);
        let scale_shape = [num_groups, max_m, width / 128];
        assert_bits_eq(&format!("scales, {name}"), &scale_shape, &got.1, &want.1);
    }
}

fn activated_products_agree_with_f64<B: Backend>(backend: &B) {
    let (m, k, width) = (75, 656, 256);
    let rng = &mut Rng::new(71);
    let (a, b) = (activations(rng, [m, k]), weights(rng, [2 * width, k]));
    let gate_up = oracle::nt(&a.dequantise(), &b.dequantise());
    let want = swiglu::forward(&gate_up, None, None).values;
    let case = Contiguous {
        a: fp8_rows(backend, &a),
        b: fp8_stack(backend, std::slice::from_ref(&b)),
        row_weights: Tensor::zeros(backend, [m]).expect("weights"),
        m,
        width,
    };
    let layout = Tensor::from_host(backend, &vec![0; m], [m]).expect("rows");
    let got = case.fused(backend, GroupRows::PerRow(layout.view()), OPTIONS[0]);
    let got = Quantised { codes: got.0, scales: got.1, rows: m, cols: width, ..a };
    // E4M3 alone is off by 2^-4 at most, and by a third of that in the mean.
    let got: &Matrix = &got.dequantise();
    assert_relative_error("activations", &got.to_f32(), &want, 4e-2);
}

fn padding_is_activated_to_zeros<B: Backend>(backend: &B) {
    let (k, width) = (128, 128);
    let rng = &mut Rng::new(81);
    let stream = backend.stream().expect("stream");
    let a = fp8_rows(backend, &activations(rng, [4, k]));
    let b = fp8_stack(backend, &[weights(rng, [2 * width, k])]);
    // Row 1 names a group that is not there.
    let rows = Tensor::from_host(backend, &[0, 1, -1, 0], [4]).expect("rows");
    let mut out = Out::new(backend, [4, width], Layout::row_major([4, 1]));
    let swiglu_out = SwigluOut::new(out.view_mut(), ScaleFormat::Ue8m0);
    let per_row = GroupRows::PerRow(rows.view());
    let (a, b) = (a.view(), b.view());
    m_grouped_fp8_gemm_swiglu_contiguous(backend, &stream, a, b, per_row, swiglu_out)
        .expect("gemm");
    let fault = backend.check(&stream).expect_err("group 1 of 1").to_string();
    let want = "m_grouped_gemm_nt_contiguous: `grouped_layout` is 1 at row 1, expected -1 to 0";
    assert_eq!(fault, want);
    let (codes, scales) = out.to_host(backend);
    assert!(codes[width..3 * width].iter().all(|&code| code == 0), "codes of padding");
    // 1e-4 / 448, rounded up to a power of two.
    assert_eq!(scales[1..3], [2f32.powi(-22); 2]);
    assert!(codes[..width].iter().any(|&code| code != 0), "row 0 holds a token");
}

fn activated_products_refuse_bad_arguments<B: Backend>(backend: &B) {
    let stream = backend.stream().expect("stream");
    let refused = |n: usize, act: [usize; 2], limit: f32| -> Error {
        let zeros = |shape| QuantTensor {
            values: Tensor::<B, E4M3, 3>::zeros(backend, shape).expect("b"),
            scales: Tensor::zeros(backend, shape.map(|it| it.div_ceil(128))).expect("scales"),
        };
        let (b, scales) = (zeros([1, n, 32]), ScaleLayout::RowMajor);
        let a = QuantTensor::zeros_per_row(backend, [2, 32], scales).expect("a");
        let mut act = QuantTensor::zeros_per_row(backend, act, scales).expect("act");
        let layout = Tensor::from_host(backend, &[0, 0], [2]).expect("rows");
        let out = SwigluOut { limit, ..SwigluOut::new(act.view_mut(), ScaleFormat::Fp32) };
        let (a, b, rows) = (a.view(), b.view(), GroupRows::PerRow(layout.view()));
        m_grouped_fp8_gemm_swiglu_contiguous(backend, &stream, a, b, rows, out)
            .expect_err("refused")
    };
    const OP: &str = "m_grouped_gemm_swiglu_contiguous";
    let error = refused(288, [2, 144], 1.0).to_string();
    assert_eq!(error, format!("{OP}: `intermediate_hidden` is 144, expected a multiple of 128"));
    let error = refused(255, [2, 127], 1.0).to_string();
    assert_eq!(error, format!("{OP}: `b rows` is 255, expected a multiple of 2"));
    let error = refused(256, [3, 128], 1.0).to_string();
    assert_eq!(error, format!("{OP}: `out.values` has shape [3, 128], expected [2, 128]"));
    let error = refused(256, [2, 128], -1.0).to_string();
    assert_eq!(error, format!("{OP}: `limit` is -1, expected at least 0"));
    let three = Tensor::from_host(backend, &[1.0f32; 3], [3]).expect("weights");
    let mut act =
        QuantTensor::zeros_per_row(backend, [2, 128], ScaleLayout::RowMajor).expect("act");
    let out = SwigluOut {
        row_weights: Some(three.view()),
        ..SwigluOut::new(act.view_mut(), ScaleFormat::Fp32)
    };
    let a = QuantTensor::zeros_per_row(backend, [2, 16], ScaleLayout::RowMajor).expect("a");
    let b = fp8_stack(backend, &[weights(&mut Rng::new(91), [256, 16])]);
    let layout = Tensor::from_host(backend, &[0, 0], [2]).expect("rows");
    let (a, b, rows) = (a.view(), b.view(), GroupRows::PerRow(layout.view()));
    let error = m_grouped_fp8_gemm_swiglu_contiguous(backend, &stream, a, b, rows, out);
    let error = error.expect_err("three weights for two rows").to_string();
    assert_eq!(error, format!("{OP}: `row_weights` has shape [3], expected [2]"));
}
