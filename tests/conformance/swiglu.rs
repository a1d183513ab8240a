//! SwiGLU: forward, requantised, and backward.

use moekit::backend::SimdLevel;
use moekit::moe::quant::ScaleFormat;
use moekit::moe::swiglu::{SwigluArgs, SwigluBackwardArgs, SwigluInput, SwigluQuantizeArgs};
use moekit::moe::{Activation, Rows};
use moekit::num::{E4M3, bf16};
use moekit::tensor::{Layout, QuantMut, ScaleLayout, Tensor};
use moekit::{Backend, Cpu, Error};
use moekit_testkit::compare::{
    Tolerance, assert_bits_eq, assert_close, assert_codes_near, assert_relative_error,
};
use moekit_testkit::matrix::Matrix;
use moekit_testkit::rng::Rng;
use moekit_testkit::{inputs, swiglu};

use crate::case::on_every_backend;
use crate::quant::{E4M3_POISON, F32_POISON, FORMATS, codes, oracle_format, padded};
use crate::strided::Strided;

on_every_backend![
    swiglu_agrees_with_the_oracle,
    swiglu_has_the_bits_of_the_portable_reference,
    swiglu_has_the_stated_ends,
    swiglu_quantize_is_swiglu_in_fp32_and_then_quantize,
    swiglu_skips_padding_rows_and_writes_zeros,
    swiglu_backward_agrees_with_the_oracle,
    swiglu_refuses_bad_arguments,
];

/// What a run takes; the same on every backend.
struct Case<T> {
    shape: [usize; 2],
    gate_up: Vec<T>,
    grad_out: Vec<T>,
    row_weights: Option<Vec<f32>>,
    limit: f32,
    /// `grouped_layout`, where padding matters.
    grouped_layout: Option<Vec<i32>>,
}

/// Results, flat and row-major.
#[derive(PartialEq)]
struct Outputs<T> {
    out: Vec<T>,
    codes: Vec<u8>,
    scales: Vec<f32>,
    grad_gate_up: Vec<T>,
    grad_row_weights: Vec<f32>,
}

impl<T: Activation> Case<T> {
    fn new([m, half]: [usize; 2], limit: f32, with_weights: bool) -> Self {
        let mut rng = Rng::new((m * half) as u64);
        let round = |x: Vec<f32>| x.into_iter().map(T::from_f32).collect();
        Self {
            shape: [m, half],
            gate_up: round(inputs::normal(&mut rng, m * 2 * half, 4.0)),
            grad_out: round(inputs::normal(&mut rng, m * half, 1.0)),
            row_weights: with_weights.then(|| inputs::normal(&mut rng, m, 0.3)),
            limit,
            grouped_layout: None,
        }
    }

    fn run<B: Backend>(&self, backend: &B, format: ScaleFormat) -> Outputs<T> {
        let [m, half] = self.shape;
        let stream = backend.stream().expect("stream");
        let nan = T::from_f32(f32::NAN);
        let gate_up = Strided::new(backend, padded([m, 2 * half]), nan, &self.gate_up);
        let row_weights = self
            .row_weights
            .as_ref()
            .map(|w| Tensor::from_host(backend, w, [m]).expect("from_host"));
        let grouped_layout = self
            .grouped_layout
            .as_ref()
            .map(|layout| Tensor::from_host(backend, layout, [m]).expect("from_host"));
        let input = || SwigluInput {
            rows: grouped_layout.as_ref().map_or(Rows::All, |layout| Rows::PerRow(layout.view())),
            limit: self.limit,
            row_weights: row_weights.as_ref().map(Tensor::view),
            ..SwigluInput::new(gate_up.view())
        };

        let mut out = Strided::poisoned(backend, padded([m, half]), nan);
        let args = SwigluArgs::new(input(), out.view_mut()).expect("args");
        backend.swiglu(&stream, args).expect("swiglu");

        let mut values = Strided::poisoned(backend, padded([m, half]), E4M3_POISON);
        let scales_layout = ScaleLayout::MnMajor.layout([m, half.div_ceil(128)]);
        let mut scales = Strided::poisoned(backend, scales_layout, F32_POISON);
        let quant = QuantMut { values: values.view_mut(), scales: scales.view_mut() };
        let args = SwigluQuantizeArgs::new(input(), quant, format).expect("args");
        backend.swiglu_quantize(&stream, args).expect("swiglu_quantize");

        let grad_out = Strided::new(backend, padded([m, half]), nan, &self.grad_out);
        let mut grad_gate_up = Strided::poisoned(backend, padded([m, 2 * half]), nan);
        let mut grad_weights = Strided::poisoned(backend, Layout::row_major([m]), F32_POISON);
        let args = SwigluBackwardArgs::new(
            input(),
            grad_out.view(),
            grad_gate_up.view_mut(),
            Some(grad_weights.view_mut()),
        );
        backend.swiglu_backward(&stream, args.expect("args")).expect("swiglu_backward");
        backend.check(&stream).expect("no faults");
        Outputs {
            out: out.to_host(backend),
            codes: codes(&values.to_host(backend)),
            scales: scales.to_host(backend),
            grad_gate_up: grad_gate_up.to_host(backend),
            grad_row_weights: grad_weights.to_host(backend),
        }
    }

    fn wide(x: &[T], shape: [usize; 2]) -> Matrix {
        Matrix::new(&x.iter().map(|x| x.to_f32()).collect::<Vec<f32>>(), shape)
    }

    fn gate_up_matrix(&self) -> Matrix {
        let [m, half] = self.shape;
        Self::wide(&self.gate_up, [m, 2 * half])
    }

    fn weights(&self) -> Option<Vec<f64>> {
        self.row_weights.as_ref().map(|w| w.iter().map(|&w| f64::from(w)).collect())
    }

    fn oracle_limit(&self) -> Option<f64> {
        self.limit.is_finite().then_some(f64::from(self.limit))
    }
}

const SHAPES: [[usize; 2]; 6] = [[1, 16], [3, 128], [4, 144], [5, 2048], [2, 1440], [150, 48]];

fn inputs_of_all_shapes<T: Activation>() -> impl Iterator<Item = Case<T>> {
    let options = [(f32::INFINITY, false), (3.0, true), (f32::INFINITY, true)];
    SHAPES.into_iter().flat_map(move |shape| {
        options.map(|(limit, with_weights)| Case::new(shape, limit, with_weights))
    })
}

fn bits<T: Activation>(x: &[T]) -> Vec<u32> {
    x.iter().map(|x| x.to_f32().to_bits()).collect()
}

fn swiglu_agrees_with_the_oracle<B: Backend>(backend: &B) {
    for case in inputs_of_all_shapes::<f32>() {
        let weights = case.weights();
        let (gate_up, limit) = (case.gate_up_matrix(), case.oracle_limit());
        let want = swiglu::forward(&gate_up, weights.as_deref(), limit);
        for format in FORMATS {
            let got = case.run(backend, format);
            for (idx, (&got, &want)) in got.out.iter().zip(&want.values).enumerate() {
                let ulp = f64::from(want.abs() as f32).max(1e-30) * 2f64.powi(-23);
                let err = (f64::from(got) - want).abs() / ulp;
                assert!(
                    err <= 6.0,
                    "out {idx} of {:?}: {got} is {err} ulp from {want}",
                    case.shape
                );
            }
            let want = swiglu::forward_quantised(
                &gate_up,
                weights.as_deref(),
                limit,
                oracle_format(format),
            );
            assert_codes_near("codes", &case.shape, &got.codes, &want.codes, 1e-3);
            let scales: Vec<f64> = want.scales.iter().map(|&sf| f64::from(sf)).collect();
            assert_relative_error("scales", &got.scales, &scales, 1e-6);
        }
    }
}

fn swiglu_has_the_bits_of_the_portable_reference<B: Backend>(backend: &B) {
    fn check<B: Backend, T: Activation>(backend: &B, portable: &Cpu) {
        for mut case in inputs_of_all_shapes::<T>() {
            let specials = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, 1e38, -100.0];
            for (idx, special) in specials.into_iter().enumerate() {
                let len = case.gate_up.len();
                case.gate_up[(idx * 37 + 5) % len] = T::from_f32(special);
            }
            for format in FORMATS {
                let (got, want) = (case.run(backend, format), case.run(portable, format));
                let [m, half] = case.shape;
                assert_bits_eq("out", &case.shape, &bits(&got.out), &bits(&want.out));
                assert_bits_eq("codes", &case.shape, &got.codes, &want.codes);
                let scale_shape = [m, half.div_ceil(128)];
                assert_bits_eq("scales", &scale_shape, &got.scales, &want.scales);
                let (grads, want_grads) = (bits(&got.grad_gate_up), bits(&want.grad_gate_up));
                assert_bits_eq("grad_gate_up", &[m, 2 * half], &grads, &want_grads);
                let (sums, want_sums) = (bits(&got.grad_row_weights), bits(&want.grad_row_weights));
                assert_bits_eq("grad_row_weights", &[m], &sums, &want_sums);
            }
        }
    }
    let portable = Cpu::with_simd(SimdLevel::Portable).expect("portable runs everywhere");
    check::<B, f32>(backend, &portable);
    check::<B, bf16>(backend, &portable);
}

fn swiglu_has_the_stated_ends<B: Backend>(backend: &B) {
    let gate = [0.0, -0.0, 200.0, -200.0, f32::NAN, 1.0, 1.0, 88.0];
    let up = [5.0, 5.0, 2.0, 2.0, 1.0, f32::NAN, 0.0, 1e38];
    let mut case = Case::<f32>::new([1, 8], f32::INFINITY, false);
    case.gate_up = [gate, up].concat();
    let gate_up = Tensor::from_host(backend, &case.gate_up, [1, 16]).expect("from_host");
    let mut out = Tensor::<B, f32, 2>::zeros(backend, [1, 8]).expect("zeros");
    let args = SwigluArgs::new(SwigluInput::new(gate_up.view()), out.view_mut()).expect("args");
    backend.swiglu(&backend.stream().expect("stream"), args).expect("stage");
    let out = out.to_host(backend).expect("to_host");
    assert_eq!(out[0].to_bits(), 0f32.to_bits(), "silu(0)");
    assert_eq!(out[1].to_bits(), (-0f32).to_bits(), "silu(-0)");
    assert_eq!(out[2], 400.0, "the gate alone where the sigmoid is 1");
    assert_eq!(out[3].to_bits(), (-0f32).to_bits(), "exp overflows, silu vanishes");
    assert!(out[4].is_nan() && out[5].is_nan(), "NaN stays");
    assert_eq!(out[6], 0.0);
    assert_eq!(out[7], f32::INFINITY, "overflow is infinity");
}

fn swiglu_quantize_is_swiglu_in_fp32_and_then_quantize<B: Backend>(backend: &B) {
    for case in inputs_of_all_shapes::<f32>() {
        for format in FORMATS {
            let got = case.run(backend, format);
            let want =
                moekit_testkit::quant::per_token(&got.out, case.shape, oracle_format(format));
            assert_bits_eq("codes", &case.shape, &got.codes, &want.codes);
            assert_bits_eq("scales", &want.scale_shape(), &got.scales, &want.scales);
        }
    }
}

fn swiglu_skips_padding_rows_and_writes_zeros<B: Backend>(backend: &B) {
    let mut case = Case::<bf16>::new([6, 144], f32::INFINITY, true);
    let whole = case.run(backend, ScaleFormat::Fp32);
    case.grouped_layout = Some(vec![0, -1, 1, 1, -1, -1]);
    for row in [1, 4, 5] {
        case.gate_up[row * 288..][..288].fill(bf16::NAN);
        case.grad_out[row * 144..][..144].fill(bf16::NAN);
        case.row_weights.as_mut().expect("weights")[row] = f32::NAN;
    }
    let got = case.run(backend, ScaleFormat::Fp32);
    let zero_scale = 1e-4f32 / 448.0;
    for row in 0..6 {
        let is_padding = [1, 4, 5].contains(&row);
        let expect = |name: &str, width: usize, got: &[u32], whole: &[u32], padding: u32| {
            let part = row * width..(row + 1) * width;
            let want = if is_padding { vec![padding; width] } else { whole[part.clone()].to_vec() };
            assert_bits_eq(&format!("{name} of row {row}"), &[width], &got[part], &want);
        };
        let wide = |codes: &[u8]| codes.iter().map(|&code| u32::from(code)).collect::<Vec<_>>();
        expect("out", 144, &bits(&got.out), &bits(&whole.out), 0);
        expect("codes", 144, &wide(&got.codes), &wide(&whole.codes), 0);
        expect("scales", 2, &bits(&got.scales), &bits(&whole.scales), zero_scale.to_bits());
        expect("grad_gate_up", 288, &bits(&got.grad_gate_up), &bits(&whole.grad_gate_up), 0);
        let weights = (bits(&got.grad_row_weights), bits(&whole.grad_row_weights));
        expect("grad_row_weights", 1, &weights.0, &weights.1, 0);
    }
}

fn swiglu_backward_agrees_with_the_oracle<B: Backend>(backend: &B) {
    for case in inputs_of_all_shapes::<f32>() {
        let [m, half] = case.shape;
        let grad_out = Case::wide(&case.grad_out, case.shape);
        let want = swiglu::backward(
            &case.gate_up_matrix(),
            case.weights().as_deref(),
            case.oracle_limit(),
            &grad_out,
        );
        let got = case.run(backend, ScaleFormat::Fp32);
        let shape = [m, 2 * half];
        let tolerance = Tolerance { absolute: 1e-6, relative: 1e-6 };
        assert_close("grad_gate_up", &shape, &got.grad_gate_up, &want.gate_up.values, tolerance);
        assert_relative_error("grad_gate_up", &got.grad_gate_up, &want.gate_up.values, 3e-7);
        assert_relative_error("grad_row_weights", &got.grad_row_weights, &want.row_weights, 1e-6);
    }
}

fn swiglu_refuses_bad_arguments<B: Backend>(backend: &B) {
    let zeros = |shape| Tensor::<B, bf16, 2>::zeros(backend, shape).expect("zeros");
    let plain = |gate_up: [usize; 2], out: [usize; 2], limit: f32| -> String {
        let (gate_up, mut out) = (zeros(gate_up), zeros(out));
        let input = SwigluInput { limit, ..SwigluInput::new(gate_up.view()) };
        SwigluArgs::new(input, out.view_mut()).err().expect("contradiction").to_string()
    };
    assert_eq!(
        plain([2, 32], [2, 32], f32::INFINITY),
        "swiglu: `out` has shape [2, 32], expected [2, 16]"
    );
    assert_eq!(
        plain([2, 33], [2, 16], f32::INFINITY),
        "swiglu: `gate_up columns` is 33, expected a multiple of 2"
    );
    assert_eq!(plain([2, 32], [2, 16], -1.0), "swiglu: `limit` is -1, expected at least 0");
    assert!(plain([2, 32], [2, 16], f32::NAN).contains("limit"));

    let gate_up = zeros([2, 48]);
    let mut values = Tensor::<B, E4M3, 2>::zeros(backend, [2, 24]).expect("zeros");
    let mut scales = Tensor::zeros(backend, [2, 1]).expect("zeros");
    let out = QuantMut { values: values.view_mut(), scales: scales.view_mut() };
    let args = SwigluQuantizeArgs::new(SwigluInput::new(gate_up.view()), out, ScaleFormat::Fp32);
    assert!(matches!(args, Err(Error::Alignment { arg: "intermediate_hidden", .. })));

    let weights = Tensor::<B, f32, 1>::zeros(backend, [3]).expect("zeros");
    let input =
        SwigluInput { row_weights: Some(weights.view()), ..SwigluInput::new(gate_up.view()) };
    let mut out = zeros([2, 24]);
    let args = SwigluArgs::new(input, out.view_mut());
    assert!(matches!(args, Err(Error::Shape { arg: "row_weights", .. })));
}
