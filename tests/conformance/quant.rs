//! Quantisation: codes and scales, bit by bit.

use moekit::moe::quant::{
    Granularity, QuantizeArgs, QuantizeBlockArgs, QuantizeChannelArgs, ScaleFormat,
};
use moekit::moe::{Activation, Rows};
use moekit::num::{E4M3, bf16};
use moekit::tensor::{Layout, QuantMut, ScaleLayout, Tensor};
use moekit::{Backend, Error, Result};
use moekit_testkit::compare::assert_bits_eq;
use moekit_testkit::quant::Quantised;
use moekit_testkit::rng::Rng;
use moekit_testkit::{inputs, poison, quant};

use crate::case::on_every_backend;
use crate::strided::Strided;

on_every_backend![
    quantize_gives_the_prescribed_bits_for_awkward_shapes,
    quantize_rounds_every_bf16_and_every_tie_as_the_oracle_does,
    quantize_keeps_nan_alone_and_saturates_infinity,
    quantize_writes_padding_rows_as_zeros_and_never_reads_them,
    quantize_of_a_masked_stack_writes_each_group_in_its_place,
    quantize_gives_a_row_the_same_bits_in_any_batch,
    quantize_block_gives_the_prescribed_bits_with_odd_edges,
    quantize_channel_gives_the_prescribed_bits,
    quantize_refuses_bad_arguments,
];

pub const FORMATS: [ScaleFormat; 2] = [ScaleFormat::Fp32, ScaleFormat::Ue8m0];
/// E4M3 `0x55` is an ordinary number: gaps that take it after a call were written.
pub const E4M3_POISON: E4M3 = E4M3(0x55);
pub const F32_POISON: f32 = <f32 as poison::Poison>::POISON;

pub fn oracle_format(format: ScaleFormat) -> quant::ScaleFormat {
    match format {
        ScaleFormat::Fp32 => quant::ScaleFormat::F32,
        ScaleFormat::Ue8m0 => quant::ScaleFormat::Ue8m0,
    }
}

/// Rows of `cols` elements with a gap after each.
pub fn padded<const R: usize>(shape: [usize; R]) -> Layout<R> {
    let mut strides = [1; R];
    for dim in (1..R).rev() {
        strides[dim - 1] = strides[dim] * shape[dim] + if dim == R - 1 { 16 } else { 0 };
    }
    Layout::with_strides(shape, strides)
}

/// Values with outliers, rounded to `T`, as `T` and as the f32 that the oracle takes.
pub fn activations<T: Activation>(seed: u64, len: usize) -> (Vec<T>, Vec<f32>) {
    let mut rng = Rng::new(seed);
    let mut x = inputs::lognormal(&mut rng, len, 2.0);
    inputs::sprinkle(&mut rng, &mut x, len / 50, 0.0);
    let x: Vec<T> = x.into_iter().map(T::from_f32).collect();
    let wide = x.iter().map(|x| x.to_f32()).collect();
    (x, wide)
}

pub fn codes(values: &[E4M3]) -> Vec<u8> {
    values.iter().map(|code| code.0).collect()
}

/// Quantises per token; codes and scales in row-major order.
pub fn run_quantize<B: Backend, T: Activation, const R: usize>(
    backend: &B,
    x: &[T],
    shape: [usize; R],
    scales_layout: Layout<R>,
    format: ScaleFormat,
    rows: Rows<'_, B>,
) -> Result<(Vec<u8>, Vec<f32>)> {
    let x = Strided::new(backend, padded(shape), T::from_f32(f32::NAN), x);
    let mut values = Strided::poisoned(backend, padded(shape), E4M3_POISON);
    let mut scales = Strided::poisoned(backend, scales_layout, F32_POISON);
    let out = QuantMut { values: values.view_mut(), scales: scales.view_mut() };
    let stream = backend.stream()?;
    backend.quantize(&stream, QuantizeArgs::new(x.view(), out, format, rows)?)?;
    backend.check(&stream)?;
    Ok((codes(&values.to_host(backend)), scales.to_host(backend)))
}

fn expect_quantised(got: (Vec<u8>, Vec<f32>), want: &Quantised) {
    let (codes, scales) = got;
    assert_bits_eq("scales", &want.scale_shape(), &scales, &want.scales);
    assert_bits_eq("codes", &[want.rows, want.cols], &codes, &want.codes);
}

fn quantize_gives_the_prescribed_bits_for_awkward_shapes<B: Backend>(backend: &B) {
    fn check<B: Backend, T: Activation>(backend: &B, [m, k]: [usize; 2]) {
        let (x, wide) = activations::<T>((m * k) as u64, m * k);
        for format in FORMATS {
            let want = quant::per_token(&wide, [m, k], oracle_format(format));
            for order in [ScaleLayout::RowMajor, ScaleLayout::MnMajor] {
                let layout = order.layout([m, k.div_ceil(128)]);
                let got = run_quantize(backend, &x, [m, k], layout, format, Rows::All);
                expect_quantised(got.expect("quantize"), &want);
            }
        }
    }
    for shape in [[0, 128], [3, 0], [1, 16], [3, 128], [2, 144], [5, 2880], [7, 7168], [260, 272]] {
        check::<B, bf16>(backend, shape);
        check::<B, f32>(backend, shape);
    }
}

fn quantize_rounds_every_bf16_and_every_tie_as_the_oracle_does<B: Backend>(backend: &B) {
    // A 448 in front of every block makes its scale 1, so that codes show the bare rounding.
    fn check<B: Backend, T: Activation>(backend: &B, x: impl Iterator<Item = T>) {
        let mut with_scale_one = Vec::new();
        for (idx, x) in x.filter(|x| x.to_f32().abs() <= 448.0).enumerate() {
            if idx % 127 == 0 {
                with_scale_one.push(T::from_f32(448.0));
            }
            with_scale_one.push(x);
        }
        with_scale_one.resize(with_scale_one.len().next_multiple_of(128), T::from_f32(448.0));
        let shape = [with_scale_one.len() / 128, 128];
        let layout = Layout::row_major([shape[0], 1]);
        let run =
            run_quantize(backend, &with_scale_one, shape, layout, ScaleFormat::Fp32, Rows::All);
        let (codes, scales) = run.expect("quantize");
        assert!(scales.iter().all(|&sf| sf == 1.0), "448 / 448 is 1");
        let want: Vec<u8> = with_scale_one
            .iter()
            .map(|x| moekit_testkit::e4m3::encode(f64::from(x.to_f32())))
            .collect();
        assert_bits_eq("codes", &shape, &codes, &want);
    }
    check(backend, (0..=u16::MAX).map(bf16::from_bits));
    let ties = (0..0x7eu8).flat_map(|code| {
        let value = |code| moekit_testkit::e4m3::decode(code) as f32;
        let tie = (value(code) + value(code + 1)) / 2.0;
        [value(code), tie.next_down(), tie, tie.next_up()].into_iter().flat_map(|x| [x, -x])
    });
    check(backend, ties);
}

fn quantize_keeps_nan_alone_and_saturates_infinity<B: Backend>(backend: &B) {
    fn check<B: Backend, T: Activation>(backend: &B) {
        let (m, k) = (6, 400);
        let mut wide = activations::<T>(3, m * k).1;
        for (row, values) in [
            (1, &[f32::NAN][..]),
            (2, &[f32::INFINITY]),
            (3, &[f32::NEG_INFINITY, f32::NAN, -f32::NAN]),
            (4, &[f32::MAX, f32::MIN]),
        ] {
            let start = row * k + 130;
            wide[start..start + values.len()].copy_from_slice(values);
            wide[start + 260..start + 260 + values.len()].copy_from_slice(values);
        }
        wide[5 * k..6 * k].fill(f32::NAN);
        let x: Vec<T> = wide.into_iter().map(T::from_f32).collect();
        let wide: Vec<f32> = x.iter().map(|x| x.to_f32()).collect();
        for format in FORMATS {
            let layout = Layout::row_major([m, 4]);
            let got = run_quantize(backend, &x, [m, k], layout, format, Rows::All);
            let want = quant::per_token(&wide, [m, k], oracle_format(format));
            expect_quantised(got.expect("quantize"), &want);
        }
    }
    check::<B, bf16>(backend);
    check::<B, f32>(backend);
}

fn quantize_writes_padding_rows_as_zeros_and_never_reads_them<B: Backend>(backend: &B) {
    let (m, k) = (9, 272);
    let (mut x, mut wide) = activations::<bf16>(5, m * k);
    for row in [2, 5, 6, 7, 8] {
        x[row * k..][..k].fill(bf16::NAN);
        wide[row * k..][..k].fill(0.0);
    }
    let int = |data: &[i32]| Tensor::from_host(backend, data, [data.len()]).expect("from_host");
    let grouped_layout = int(&[0, 0, -1, 2, 2, -1, -1, -1, -1]);
    let expert_offsets = int(&[0, 3, 3, 8]);
    let num_recv_tokens = int(&[2, 0, 2]);
    for format in FORMATS {
        let want = quant::per_token(&wide, [m, k], oracle_format(format));
        for rows in [
            Rows::PerRow(grouped_layout.view()),
            Rows::Offsets {
                expert_offsets: expert_offsets.view(),
                num_recv_tokens_per_expert: num_recv_tokens.view(),
            },
        ] {
            let layout = ScaleLayout::MnMajor.layout([m, 3]);
            let got = run_quantize(backend, &x, [m, k], layout, format, rows);
            expect_quantised(got.expect("quantize"), &want);
        }
    }
}

fn quantize_of_a_masked_stack_writes_each_group_in_its_place<B: Backend>(backend: &B) {
    let [num_groups, max_m, k] = [3, 5, 144];
    let (mut x, mut wide) = activations::<bf16>(6, num_groups * max_m * k);
    let masked_m = [5, 0, 2];
    for (group, &valid) in masked_m.iter().enumerate() {
        for row in valid as usize..max_m {
            x[(group * max_m + row) * k..][..k].fill(bf16::NAN);
            wide[(group * max_m + row) * k..][..k].fill(0.0);
        }
    }
    let masked_m = Tensor::from_host(backend, &masked_m, [num_groups]).expect("from_host");
    let want = quant::per_token(&wide, [num_groups * max_m, k], quant::ScaleFormat::F32);
    let mn_major = Layout::with_strides([num_groups, max_m, 2], [2 * 8, 1, 8]);
    let got = run_quantize(
        backend,
        &x,
        [num_groups, max_m, k],
        mn_major,
        ScaleFormat::Fp32,
        Rows::Masked(masked_m.view()),
    );
    expect_quantised(got.expect("quantize"), &want);
}

fn quantize_gives_a_row_the_same_bits_in_any_batch<B: Backend>(backend: &B) {
    let (m, k) = (700, 1024);
    let (x, _) = activations::<bf16>(8, m * k);
    let run = |rows: std::ops::Range<usize>| {
        let layout = Layout::row_major([rows.len(), k / 128]);
        let shape = [rows.len(), k];
        let x = &x[rows.start * k..rows.end * k];
        run_quantize(backend, x, shape, layout, ScaleFormat::Fp32, Rows::All).expect("quantize")
    };
    let (codes, scales) = run(0..m);
    for row in [0, 1, 333, 699] {
        let (one_codes, one_scales) = run(row..row + 1);
        assert_bits_eq("codes", &[k], &one_codes, &codes[row * k..][..k]);
        assert_bits_eq("scales", &[k / 128], &one_scales, &scales[row * (k / 128)..][..k / 128]);
    }
}

fn quantize_block_gives_the_prescribed_bits_with_odd_edges<B: Backend>(backend: &B) {
    fn check<B: Backend, T: Activation>(backend: &B, [num_groups, n, k]: [usize; 3]) {
        let (x, wide) = activations::<T>(9, num_groups * n * k);
        let shape = [num_groups, n, k];
        let [scale_rows, scale_cols] = Granularity::PerBlock.scale_shape([n, k]);
        let scales_layout = padded([num_groups, scale_rows, scale_cols]);
        for format in FORMATS {
            let x = Strided::new(backend, padded(shape), T::from_f32(f32::NAN), &x);
            let mut values = Strided::poisoned(backend, padded(shape), E4M3_POISON);
            let mut scales = Strided::poisoned(backend, scales_layout, F32_POISON);
            let out = QuantMut { values: values.view_mut(), scales: scales.view_mut() };
            let args = QuantizeBlockArgs::new(x.view(), out, format).expect("args");
            backend.quantize_block(&backend.stream().expect("stream"), args).expect("stage");
            let (codes, scales) = (codes(&values.to_host(backend)), scales.to_host(backend));
            for group in 0..num_groups {
                let part = |len: usize| group * len..(group + 1) * len;
                let want = quant::per_block(&wide[part(n * k)], [n, k], oracle_format(format));
                let got_scales = scales[part(scale_rows * scale_cols)].to_vec();
                expect_quantised((codes[part(n * k)].to_vec(), got_scales), &want);
            }
        }
    }
    for shape in [[1, 1, 16], [2, 128, 128], [1, 130, 272], [3, 257, 2880], [0, 128, 128]] {
        check::<B, bf16>(backend, shape);
        check::<B, f32>(backend, shape);
    }
}

fn quantize_channel_gives_the_prescribed_bits<B: Backend>(backend: &B) {
    fn check<B: Backend, T: Activation>(backend: &B, [m, n]: [usize; 2]) {
        let (mut x, mut wide) = activations::<T>(10, m * n);
        if let (Some(x), Some(wide)) = (x.last_mut(), wide.last_mut()) {
            (*x, *wide) = (T::from_f32(f32::NAN), f32::NAN);
        }
        for format in FORMATS {
            let x = Strided::new(backend, padded([m, n]), T::from_f32(f32::NAN), &x);
            let mut values = Strided::poisoned(backend, padded([m, n]), E4M3_POISON);
            let mut scales = Strided::poisoned(backend, padded([m / 128, n]), F32_POISON);
            let out = QuantMut { values: values.view_mut(), scales: scales.view_mut() };
            let args = QuantizeChannelArgs::new(x.view(), out, format).expect("args");
            backend.quantize_channel(&backend.stream().expect("stream"), args).expect("stage");
            let want = quant::per_channel(&wide, [m, n], oracle_format(format));
            let got = (codes(&values.to_host(backend)), scales.to_host(backend));
            expect_quantised(got, &want);
        }
    }
    for shape in [[128, 1], [256, 64], [128, 200], [0, 64]] {
        check::<B, bf16>(backend, shape);
        check::<B, f32>(backend, shape);
    }
}

fn quantize_refuses_bad_arguments<B: Backend>(backend: &B) {
    let refuse = |x: Layout<2>, values: [usize; 2], scales: Layout<2>| -> Error {
        let x = Strided::poisoned(backend, x, bf16::ZERO);
        let mut values = Strided::poisoned(backend, Layout::row_major(values), E4M3_POISON);
        let mut scales = Strided::poisoned(backend, scales, F32_POISON);
        let out = QuantMut { values: values.view_mut(), scales: scales.view_mut() };
        let args = QuantizeArgs::new(x.view(), out, ScaleFormat::Fp32, Rows::All);
        args.err().expect("the arguments contradict each other")
    };
    let row_major = Layout::row_major;
    assert_eq!(
        refuse(row_major([2, 24]), [2, 24], row_major([2, 1])).to_string(),
        "quantize: `k` is 24, expected a multiple of 16"
    );
    assert_eq!(
        refuse(row_major([2, 144]), [2, 144], row_major([2, 1])).to_string(),
        "quantize: `out.scales` has shape [2, 1], expected [2, 2]"
    );
    assert_eq!(
        refuse(row_major([2, 144]), [2, 128], row_major([2, 2])).to_string(),
        "quantize: `out.values` has shape [2, 128], expected [2, 144]"
    );
    let columns = Layout::with_strides([2, 128], [1, 2]);
    assert!(matches!(refuse(columns, [2, 128], row_major([2, 1])), Error::Stride { arg: "x", .. }));
    let overlapping = Layout::with_strides([2, 2], [1, 1]);
    assert!(matches!(
        refuse(row_major([2, 256]), [2, 256], overlapping),
        Error::Stride { arg: "out.scales", .. }
    ));
}
