//! Quantisation and SwiGLU against memcpy.
//!
//! `cargo bench --bench quant [-- avx2] [-- PART OF A NAME]`; `RAYON_NUM_THREADS` sets the threads. memcpy copies as many bytes
//! as the stage reads and writes, half read and half written.

mod common;

use common::{Limit, Work};
use moekit::moe::Rows;
use moekit::moe::quant::{
    DequantizeArgs, Granularity, QuantizeArgs, QuantizeBlockArgs, QuantizeTransposeArgs,
    ScaleFormat,
};
use moekit::moe::swiglu::{SwigluArgs, SwigluBackwardArgs, SwigluInput, SwigluQuantizeArgs};
use moekit::num::bf16;
use moekit::tensor::{QuantTensor, ScaleLayout, Tensor};
use moekit::{Backend, Cpu, Result};

fn main() -> Result<()> {
    let cpu = common::cpu()?;
    common::header(&format!("simd {}", cpu.simd()));
    for shape in [[4096, 7168], [64, 7168]] {
        quantize(&cpu, shape, ScaleFormat::Fp32, ScaleLayout::RowMajor)?;
        quantize(&cpu, shape, ScaleFormat::Ue8m0, ScaleLayout::MnMajor)?;
    }
    quantize_block(&cpu, [4096, 7168])?;
    dequantize(&cpu, [4096, 7168])?;
    quantize_transpose(&cpu, [4096, 2048])?;
    for shape in [[4096, 2048], [64, 2048]] {
        swiglu(&cpu, shape)?;
    }
    Ok(())
}

fn noise(num: usize) -> Vec<bf16> {
    let mut state = 1u64;
    (0..num)
        .map(|_| {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            bf16::from_f32((state >> 40) as f32 / (1 << 22) as f32 - 2.0)
        })
        .collect()
}

/// Times `stage`, which reads and writes `num_bytes` together, against memcpy.
fn line(name: &str, dtype: &str, [rows, cols]: [usize; 2], num_bytes: usize, stage: impl FnMut()) {
    let work = Work { num_bytes, ..Work::default() };
    common::line(name, &format!("{dtype} {rows} x {cols}"), work, Limit::Memcpy, stage);
}

fn quantize(cpu: &Cpu, [m, k]: [usize; 2], format: ScaleFormat, order: ScaleLayout) -> Result<()> {
    let x = Tensor::from_host(cpu, &noise(m * k), [m, k])?;
    let mut out = QuantTensor::zeros_per_row(cpu, [m, k], order)?;
    let stream = cpu.stream()?;
    let num_bytes = m * k * 3 + m * k / 128 * 4;
    let name = if format == ScaleFormat::Fp32 { "quantize" } else { "quantize ue8m0 mn" };
    line(name, "BF16 > E4M3", [m, k], num_bytes, || {
        let args = QuantizeArgs::new(x.view(), out.view_mut(), format, Rows::All);
        cpu.quantize(&stream, args.expect("shapes agree")).expect("quantize");
    });
    Ok(())
}

fn quantize_block(cpu: &Cpu, [n, k]: [usize; 2]) -> Result<()> {
    let x = Tensor::from_host(cpu, &noise(n * k), [n, k])?;
    let mut out = QuantTensor::zeros_per_block(cpu, [n, k])?;
    let stream = cpu.stream()?;
    line("quantize_block", "BF16 > E4M3", [n, k], n * k * 3, || {
        let args = QuantizeBlockArgs::new(x.view(), out.view_mut(), ScaleFormat::Fp32);
        cpu.quantize_block(&stream, args.expect("shapes agree")).expect("quantize_block");
    });
    Ok(())
}

fn dequantize(cpu: &Cpu, [n, k]: [usize; 2]) -> Result<()> {
    let x = Tensor::from_host(cpu, &noise(n * k), [n, k])?;
    let mut quant = QuantTensor::zeros_per_block(cpu, [n, k])?;
    let stream = cpu.stream()?;
    let args = QuantizeBlockArgs::new(x.view(), quant.view_mut(), ScaleFormat::Fp32)?;
    cpu.quantize_block(&stream, args)?;
    let mut out = Tensor::<_, bf16, 2>::zeros(cpu, [n, k])?;
    line("dequantize block", "E4M3 > BF16", [n, k], n * k * 3, || {
        let args = DequantizeArgs::new(quant.view(), out.view_mut(), Granularity::PerBlock);
        cpu.dequantize(&stream, args.expect("shapes agree")).expect("dequantize");
    });
    Ok(())
}

fn quantize_transpose(cpu: &Cpu, [m, num_features]: [usize; 2]) -> Result<()> {
    let x = Tensor::from_host(cpu, &noise(m * num_features), [m, num_features])?;
    let expert_offsets = Tensor::from_host(cpu, &[0, (m / 2) as i32, m as i32], [3])?;
    let num_tokens = Tensor::from_host(cpu, &[(m / 2) as i32; 2], [2])?;
    let mut out = QuantTensor::<_, 1> {
        values: Tensor::zeros(cpu, [m * num_features])?,
        scales: Tensor::zeros(cpu, [m * num_features / 128])?,
    };
    let stream = cpu.stream()?;
    line("quantize_transpose", "BF16 > E4M3", [m, num_features], m * num_features * 3, || {
        let args = QuantizeTransposeArgs::new(
            x.view(),
            expert_offsets.view(),
            num_tokens.view(),
            out.view_mut(),
            ScaleFormat::Fp32,
        );
        cpu.quantize_transpose(&stream, args.expect("shapes agree")).expect("quantize_transpose");
    });
    Ok(())
}

fn swiglu(cpu: &Cpu, [m, half]: [usize; 2]) -> Result<()> {
    let gate_up = Tensor::from_host(cpu, &noise(m * 2 * half), [m, 2 * half])?;
    let grad_out = Tensor::from_host(cpu, &noise(m * half), [m, half])?;
    let mut plain = Tensor::<_, bf16, 2>::zeros(cpu, [m, half])?;
    let mut quant = QuantTensor::zeros_per_row(cpu, [m, half], ScaleLayout::RowMajor)?;
    let mut grads = Tensor::<_, bf16, 2>::zeros(cpu, [m, 2 * half])?;
    let stream = cpu.stream()?;
    line("swiglu", "BF16 > BF16", [m, half], m * half * 6, || {
        let args = SwigluArgs::new(SwigluInput::new(gate_up.view()), plain.view_mut());
        cpu.swiglu(&stream, args.expect("shapes agree")).expect("swiglu");
    });
    line("swiglu_quantize", "BF16 > E4M3", [m, half], m * half * 5, || {
        let input = SwigluInput::new(gate_up.view());
        let args = SwigluQuantizeArgs::new(input, quant.view_mut(), ScaleFormat::Fp32);
        cpu.swiglu_quantize(&stream, args.expect("shapes agree")).expect("swiglu_quantize");
    });
    line("swiglu_backward", "BF16 > BF16", [m, half], m * half * 10, || {
        let input = SwigluInput::new(gate_up.view());
        let args = SwigluBackwardArgs::new(input, grad_out.view(), grads.view_mut(), None);
        cpu.swiglu_backward(&stream, args.expect("shapes agree")).expect("swiglu_backward");
    });
    Ok(())
}
