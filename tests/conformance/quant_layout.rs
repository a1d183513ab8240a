//! Back from E4M3, transposed operands, and the layouts of scales.

use moekit::moe::Activation;
use moekit::moe::quant::{
    DequantizeArgs, Granularity, PackScalesArgs, QuantizeTransposeArgs, RelayoutScalesArgs,
    ScaleFormat, UnpackScalesArgs, packed_scales_layout,
};
use moekit::num::{E4M3, bf16};
use moekit::tensor::{Layout, QuantMut, QuantRef, ScaleLayout, Tensor};
use moekit::{Backend, Error};
use moekit_testkit::compare::assert_bits_eq;
use moekit_testkit::{layout, quant, ue8m0};

use crate::case::on_every_backend;
use crate::quant::{E4M3_POISON, F32_POISON, FORMATS, activations, codes, oracle_format, padded};
use crate::strided::Strided;

on_every_backend![
    dequantize_multiplies_codes_and_scales_of_every_granularity,
    dequantize_knows_every_code,
    quantize_transpose_makes_the_operands_of_the_k_grouped_product,
    quantize_transpose_reports_offsets_that_break_their_rule,
    scales_survive_the_way_to_mn_major_and_back,
    packed_scales_are_bytes_in_words_and_unpack_to_what_they_were,
    packing_reports_a_scale_that_is_no_power_of_two,
];

fn dequantize_multiplies_codes_and_scales_of_every_granularity<B: Backend>(backend: &B) {
    let (rows, k) = (260, 272);
    let (_, wide) = activations::<f32>(1, rows * k);
    for granularity in [Granularity::PerToken, Granularity::PerBlock, Granularity::PerChannel] {
        let want = quant::tiles(&wide, [rows, k], granularity.tile(), quant::ScaleFormat::F32);
        let codes: Vec<E4M3> = want.codes.iter().map(|&code| E4M3(code)).collect();
        let scale_shape = granularity.scale_shape([rows, k]);
        let values = Strided::new(backend, padded([rows, k]), E4M3::NAN, &codes);
        let scales = Strided::new(backend, padded(scale_shape), F32_POISON, &want.scales);
        let x = QuantRef { values: values.view(), scales: scales.view() };
        let stream = backend.stream().expect("stream");

        let mut out = Strided::poisoned(backend, padded([rows, k]), F32_POISON);
        let args = DequantizeArgs::new(x, out.view_mut(), granularity).expect("args");
        backend.dequantize(&stream, args).expect("stage");
        let want_f32 = want.dequantise_f32();
        assert_bits_eq("out", &[rows, k], &out.to_host(backend), &want_f32);

        let mut out = Strided::poisoned(backend, padded([rows, k]), bf16::NAN);
        let args = DequantizeArgs::new(x, out.view_mut(), granularity).expect("args");
        backend.dequantize(&stream, args).expect("stage");
        let want_bf16 = moekit_testkit::bf16::round_f32s(&want_f32);
        assert_bits_eq("out", &[rows, k], &out.to_host(backend), &want_bf16);
    }
}

fn dequantize_knows_every_code<B: Backend>(backend: &B) {
    let codes: Vec<E4M3> = (0..=255).map(E4M3).collect();
    let values = Tensor::from_host(backend, &codes, [1, 256]).expect("from_host");
    let scales = Tensor::from_host(backend, &[1.0f32, 0.25], [1, 2]).expect("from_host");
    let x = QuantRef { values: values.view(), scales: scales.view() };
    let mut out = Tensor::<B, f32, 2>::zeros(backend, [1, 256]).expect("zeros");
    let args = DequantizeArgs::new(x, out.view_mut(), Granularity::PerToken).expect("args");
    backend.dequantize(&backend.stream().expect("stream"), args).expect("stage");
    for (code, got) in out.to_host(backend).expect("to_host").into_iter().enumerate() {
        let sf = if code < 128 { 1.0 } else { 0.25 };
        let want = (moekit_testkit::e4m3::decode(code as u8) * sf) as f32;
        let same = if want.is_nan() { got.is_nan() } else { got.to_bits() == want.to_bits() };
        assert!(same, "code {code:#04x} gives {got}, expected {want}");
    }
}

fn quantize_transpose_makes_the_operands_of_the_k_grouped_product<B: Backend>(backend: &B) {
    fn check<B: Backend, T: Activation>(backend: &B, num_features: usize) {
        // An expert without tokens, one with a whole block of padding, rows beyond the last expert.
        let expert_offsets = [0usize, 256, 256, 640, 768];
        let num_tokens = [130usize, 0, 200, 128];
        let m = 896;
        let (mut x, mut wide) = activations::<T>(num_features as u64, m * num_features);
        for row in 0..m {
            let is_token = (0..4)
                .any(|e| (expert_offsets[e]..expert_offsets[e] + num_tokens[e]).contains(&row));
            if !is_token {
                x[row * num_features..][..num_features].fill(T::from_f32(f32::NAN));
                wide[row * num_features..][..num_features].fill(f32::NAN);
            }
        }
        let int = |data: &[usize]| {
            let data: Vec<i32> = data.iter().map(|&x| x as i32).collect();
            Tensor::from_host(backend, &data, [data.len()]).expect("from_host")
        };
        let (offsets, counts) = (int(&expert_offsets), int(&num_tokens));
        for format in FORMATS {
            let x = Strided::new(backend, padded([m, num_features]), T::from_f32(f32::NAN), &x);
            let row_major = Layout::row_major;
            let mut values = Strided::poisoned(backend, row_major([num_features * m]), E4M3_POISON);
            let mut scales =
                Strided::poisoned(backend, row_major([num_features * m / 128]), F32_POISON);
            let out = QuantMut { values: values.view_mut(), scales: scales.view_mut() };
            let (offsets, counts) = (offsets.view(), counts.view());
            let args = QuantizeTransposeArgs::new(x.view(), offsets, counts, out, format);
            let stream = backend.stream().expect("stream");
            backend.quantize_transpose(&stream, args.expect("args")).expect("stage");
            backend.check(&stream).expect("the offsets keep their rule");

            // The rows beyond the last expert are as one more expert without tokens.
            let [mut offsets, mut counts] = [expert_offsets.to_vec(), num_tokens.to_vec()];
            offsets.push(m);
            counts.push(0);
            let want = layout::k_grouped(&quant::transposed_per_expert(
                &wide,
                num_features,
                &offsets,
                &counts,
                oracle_format(format),
            ));
            let shape = |len: usize| [num_features, len / num_features];
            let (codes, scales) = (codes(&values.to_host(backend)), scales.to_host(backend));
            assert_bits_eq("codes", &shape(codes.len()), &codes, &want.codes);
            assert_bits_eq("scales", &shape(scales.len()), &scales, &want.scales);
        }
    }
    for num_features in [1, 64, 200] {
        check::<B, bf16>(backend, num_features);
        check::<B, f32>(backend, num_features);
    }
}

fn quantize_transpose_reports_offsets_that_break_their_rule<B: Backend>(backend: &B) {
    for (offsets, at_fault) in [
        ([0, 100, 256], "100 at index 1"),
        ([128, 256, 256], "128 at index 0"),
        ([0, 256, 384], "384 at index 2"),
        ([0, 256, 128], "128 at index 2"),
        ([0, -128, 256], "-128 at index 1"),
    ] {
        let x = Tensor::<B, bf16, 2>::zeros(backend, [256, 16]).expect("zeros");
        let offsets = Tensor::from_host(backend, &offsets, [3]).expect("from_host");
        let counts = Tensor::from_host(backend, &[0, 0], [2]).expect("from_host");
        let row_major = Layout::row_major;
        let mut values = Strided::poisoned(backend, row_major([16 * 256]), E4M3_POISON);
        let mut scales = Strided::poisoned(backend, row_major([16 * 2]), F32_POISON);
        let out = QuantMut { values: values.view_mut(), scales: scales.view_mut() };
        let (offsets, counts) = (offsets.view(), counts.view());
        let args = QuantizeTransposeArgs::new(x.view(), offsets, counts, out, ScaleFormat::Fp32);
        let stream = backend.stream().expect("stream");
        backend.quantize_transpose(&stream, args.expect("args")).expect("the stage enqueues");
        let fault = backend.check(&stream).expect_err("the offsets are wrong").to_string();
        assert!(fault.contains("expert_offsets") && fault.contains(at_fault), "{fault}");
        assert!(values.to_host(backend).iter().all(|&code| code == E4M3_POISON), "written");
    }
}

fn scales_survive_the_way_to_mn_major_and_back<B: Backend>(backend: &B) {
    for [num_groups, rows, blocks] in [[1, 1, 1], [1, 5, 56], [3, 130, 23], [2, 64, 33], [0, 4, 4]]
    {
        let data: Vec<f32> = (0..num_groups * rows * blocks).map(|idx| idx as f32 + 0.5).collect();
        let shape = [num_groups, rows, blocks];
        let stride = layout::tma_aligned_rows(rows);
        let mn_major = Layout::with_strides(shape, [blocks * stride, 1, stride]);
        let from = Strided::new(backend, padded(shape), F32_POISON, &data);
        let mut there = Strided::poisoned(backend, mn_major, F32_POISON);
        let mut back = Strided::poisoned(backend, Layout::row_major(shape), F32_POISON);
        let stream = backend.stream().expect("stream");
        let args = RelayoutScalesArgs::new(from.view(), there.view_mut()).expect("args");
        backend.relayout_scales(&stream, args).expect("stage");
        assert_bits_eq("MN-major", &shape, &there.to_host(backend), &data);
        let args = RelayoutScalesArgs::new(there.view(), back.view_mut()).expect("args");
        backend.relayout_scales(&stream, args).expect("stage");
        assert_bits_eq("row-major", &shape, &back.to_host(backend), &data);
    }
    // A matrix: memory as the oracle lays it out.
    let (rows, blocks) = (5, 3);
    let data: Vec<f32> = (0..rows * blocks).map(|idx| idx as f32).collect();
    let from = Tensor::from_host(backend, &data, [rows, blocks]).expect("from_host");
    let layout = ScaleLayout::MnMajor.layout([rows, blocks]);
    let mut out = Tensor::zeros_with_layout(backend, layout).expect("zeros");
    let args = RelayoutScalesArgs::new(from.view(), out.view_mut()).expect("args");
    backend.relayout_scales(&backend.stream().expect("stream"), args).expect("stage");
    let got = out.to_host(backend).expect("to_host");
    let want = layout::mn_major(&data, [rows, blocks], layout::tma_aligned_rows(rows), 0.0);
    assert_bits_eq("memory", &[got.len()], &got, &want[..got.len()]);
}

fn packed_scales_are_bytes_in_words_and_unpack_to_what_they_were<B: Backend>(backend: &B) {
    for [rows, blocks] in [[1, 1], [5, 56], [130, 23], [4, 5], [0, 8]] {
        let codes: Vec<u8> = (0..rows * blocks).map(|idx| (idx * 37 % 255) as u8).collect();
        let data: Vec<f32> = codes.iter().map(|&code| ue8m0::decode(code) as f32).collect();
        let scales = Strided::new(backend, padded([rows, blocks]), F32_POISON, &data);
        let layout = packed_scales_layout([rows, blocks]);
        let mut packed = Tensor::zeros_with_layout(backend, layout).expect("zeros");
        let stream = backend.stream().expect("stream");
        let args = PackScalesArgs::new(scales.view(), packed.view_mut()).expect("args");
        backend.pack_scales(&stream, args).expect("stage");
        backend.check(&stream).expect("powers of two");
        let got = packed.to_host(backend).expect("to_host");
        let want = layout::packed_ue8m0(&codes, [rows, blocks]);
        assert_bits_eq("words", &[got.len()], &got, &want[..got.len()]);

        let mut back = Strided::poisoned(backend, Layout::row_major([rows, blocks]), F32_POISON);
        let args = UnpackScalesArgs::new(packed.view(), back.view_mut()).expect("args");
        backend.unpack_scales(&stream, args).expect("stage");
        assert_bits_eq("scales", &[rows, blocks], &back.to_host(backend), &data);
    }
}

fn packing_reports_a_scale_that_is_no_power_of_two<B: Backend>(backend: &B) {
    for bad in [3.0, -1.0, 0.0, f32::INFINITY, f32::NAN] {
        let scales = Tensor::from_host(backend, &[1.0, 2.0, bad], [1, 3]).expect("from_host");
        let mut packed =
            Tensor::zeros_with_layout(backend, packed_scales_layout([1, 3])).expect("zeros");
        let stream = backend.stream().expect("stream");
        let args = PackScalesArgs::new(scales.view(), packed.view_mut()).expect("args");
        backend.pack_scales(&stream, args).expect("the stage enqueues");
        let fault = backend.check(&stream).expect_err("not a power of two");
        assert!(matches!(fault, Error::Value { op: "pack_scales", .. }), "{bad}: {fault}");
    }
}
