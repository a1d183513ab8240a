//! Every form of quantisation, at DeepSeek-V3's hidden size.

use moekit::cost::Cost;
use moekit::moe::Rows;
use moekit::moe::quant::{
    DequantizeArgs, Granularity, PackScalesArgs, QuantizeArgs, QuantizeBlockArgs,
    QuantizeChannelArgs, QuantizeTransposeArgs, ScaleFormat,
};
use moekit::num::{bf16, ceil_div};
use moekit::tensor::{QuantMut, QuantTensor, ScaleLayout, Tensor};
use moekit::{Backend, Result};

use super::inputs::{codes, moved, noise_bf16};
use super::{Call, Options, Row};

const HIDDEN: usize = 7168;

pub fn rows<B: Backend>(
    backend: &B,
    options: Options<'_>,
    print: &mut impl FnMut(Row<'_, B>),
) -> Result<()> {
    let k = options.extent(HIDDEN, 128);
    for full in [64, 4096] {
        let shape = [options.extent(full, 4), k];
        print(quantize(backend, shape, ScaleFormat::Fp32)?);
        print(quantize(backend, shape, ScaleFormat::Ue8m0)?);
        print(pack_scales(backend, [shape[0], ceil_div(k, 128)])?);
    }
    let shape = [options.extent(4096, 128), k];
    print(quantize_block(backend, shape)?);
    print(quantize_channel(backend, shape)?);
    print(quantize_transpose(backend, shape)?);
    print(dequantize(backend, shape)?);
    Ok(())
}

fn row<'a, B: Backend>(
    name: &'static str,
    [m, k]: [usize; 2],
    cost: Cost,
    call: Call<'a, B>,
) -> Row<'a, B> {
    Row { name, shape: format!("{m} x {k}"), cost, published_tflops: None, call }
}

/// BF16 read, codes and so many scales written.
fn cost_of([m, k]: [usize; 2], num_scales: usize) -> Cost {
    moved(3 * m * k + 4 * num_scales)
}

fn quantize<B: Backend>(
    backend: &B,
    [m, k]: [usize; 2],
    format: ScaleFormat,
) -> Result<Row<'static, B>> {
    let backend = backend.clone();
    let x = Tensor::from_host(&backend, &noise_bf16(m * k), [m, k])?;
    let mut out = QuantTensor::zeros_per_row(&backend, [m, k], ScaleLayout::MnMajor)?;
    let name = match format {
        ScaleFormat::Fp32 => "quantize",
        ScaleFormat::Ue8m0 => "quantize, UE8M0",
    };
    let call = move |stream: &B::Stream| {
        backend.quantize(stream, QuantizeArgs::new(x.view(), out.view_mut(), format, Rows::All)?)
    };
    Ok(row(name, [m, k], cost_of([m, k], m * ceil_div(k, 128)), Box::new(call)))
}

fn pack_scales<B: Backend>(backend: &B, [m, num_blocks]: [usize; 2]) -> Result<Row<'static, B>> {
    let backend = backend.clone();
    let powers: Vec<f32> = (0..m * num_blocks).map(|i| 2.0f32.powi(i as i32 % 17 - 8)).collect();
    let layout = ScaleLayout::MnMajor;
    let mut scales =
        Tensor::<B, f32, 2>::zeros_with_layout(&backend, layout.layout([m, num_blocks]))?;
    scales.view_mut().copy_from_host(&backend, &powers)?;
    let num_words = ceil_div(num_blocks, 4);
    let mut out = Tensor::zeros_with_layout(&backend, layout.layout([m, num_words]))?;
    let cost = moved(4 * m * (num_blocks + num_words));
    let call = move |stream: &B::Stream| {
        backend.pack_scales(stream, PackScalesArgs::new(scales.view(), out.view_mut())?)
    };
    Ok(row("pack_scales", [m, num_blocks], cost, Box::new(call)))
}

fn quantize_block<B: Backend>(backend: &B, [m, k]: [usize; 2]) -> Result<Row<'static, B>> {
    let backend = backend.clone();
    let x = Tensor::from_host(&backend, &noise_bf16(m * k), [m, k])?;
    let mut out = QuantTensor::zeros_per_block(&backend, [m, k])?;
    let cost = cost_of([m, k], ceil_div(m, 128) * ceil_div(k, 128));
    let call = move |stream: &B::Stream| {
        let args = QuantizeBlockArgs::new(x.view(), out.view_mut(), ScaleFormat::Fp32)?;
        backend.quantize_block(stream, args)
    };
    Ok(row("quantize_block", [m, k], cost, Box::new(call)))
}

fn quantize_channel<B: Backend>(backend: &B, [m, k]: [usize; 2]) -> Result<Row<'static, B>> {
    let backend = backend.clone();
    let x = Tensor::from_host(&backend, &noise_bf16(m * k), [m, k])?;
    let mut values = Tensor::zeros(&backend, [m, k])?;
    let mut scales = Tensor::zeros(&backend, [m / 128, k])?;
    let call = move |stream: &B::Stream| {
        let out = QuantMut { values: values.view_mut(), scales: scales.view_mut() };
        let args = QuantizeChannelArgs::new(x.view(), out, ScaleFormat::Fp32)?;
        backend.quantize_channel(stream, args)
    };
    Ok(row("quantize_channel", [m, k], cost_of([m, k], m / 128 * k), Box::new(call)))
}

/// Eight experts, each with all its rows.
fn quantize_transpose<B: Backend>(backend: &B, [m, k]: [usize; 2]) -> Result<Row<'static, B>> {
    let backend = backend.clone();
    let x = Tensor::from_host(&backend, &noise_bf16(m * k), [m, k])?;
    let num_groups = (m / 128).min(8);
    let offset = |group: usize| (m / 128 * group / num_groups * 128) as i32;
    let offsets: Vec<i32> = (0..=num_groups).map(offset).collect();
    let counts: Vec<i32> = offsets.windows(2).map(|it| it[1] - it[0]).collect();
    let offsets = Tensor::from_host(&backend, &offsets, [num_groups + 1])?;
    let counts = Tensor::from_host(&backend, &counts, [num_groups])?;
    let mut values = Tensor::zeros(&backend, [m * k])?;
    let mut scales = Tensor::zeros(&backend, [m / 128 * k])?;
    let call = move |stream: &B::Stream| {
        let out = QuantMut { values: values.view_mut(), scales: scales.view_mut() };
        let format = ScaleFormat::Fp32;
        let (offsets, counts) = (offsets.view(), counts.view());
        let args = QuantizeTransposeArgs::new(x.view(), offsets, counts, out, format)?;
        backend.quantize_transpose(stream, args)
    };
    Ok(row("quantize_transpose", [m, k], cost_of([m, k], m / 128 * k), Box::new(call)))
}

fn dequantize<B: Backend>(backend: &B, [m, k]: [usize; 2]) -> Result<Row<'static, B>> {
    let backend = backend.clone();
    let scale_shape = [ceil_div(m, 128), ceil_div(k, 128)];
    let x = QuantTensor {
        values: Tensor::from_host(&backend, &codes(m * k), [m, k])?,
        scales: Tensor::from_host(
            &backend,
            &vec![0.5f32; scale_shape.iter().product()],
            scale_shape,
        )?,
    };
    let mut out = Tensor::<B, bf16, 2>::zeros(&backend, [m, k])?;
    let cost = cost_of([m, k], scale_shape.iter().product());
    let call = move |stream: &B::Stream| {
        let args = DequantizeArgs::new(x.view(), out.view_mut(), Granularity::PerBlock)?;
        backend.dequantize(stream, args)
    };
    Ok(row("dequantize, per block", [m, k], cost, Box::new(call)))
}
