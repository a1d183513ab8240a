//! SwiGLU forward, requantising and backward, at the width of DeepSeek-V3's experts.

use moekit::moe::quant::ScaleFormat;
use moekit::moe::swiglu::{SwigluArgs, SwigluBackwardArgs, SwigluInput, SwigluQuantizeArgs};
use moekit::num::{bf16, ceil_div};
use moekit::tensor::{QuantTensor, ScaleLayout, Tensor};
use moekit::{Backend, Result};

use super::inputs::{moved, noise, noise_bf16};
use super::{Call, Options, Row};

const WIDTH: usize = 2048;

pub fn rows<B: Backend>(
    backend: &B,
    options: Options<'_>,
    print: &mut impl FnMut(Row<'_, B>),
) -> Result<()> {
    for full in [64, 4096] {
        let shape = [options.extent(full, 4), options.extent(WIDTH, 128)];
        print(swiglu_quantize(backend, shape)?);
        print(swiglu(backend, shape)?);
        print(swiglu_backward(backend, shape)?);
    }
    Ok(())
}

fn row<'a, B: Backend>(
    name: &'static str,
    [m, half]: [usize; 2],
    num_bytes: usize,
    call: Call<'a, B>,
) -> Row<'a, B> {
    let shape = format!("{m} x {half}");
    Row { name, shape, cost: moved(num_bytes), published_tflops: None, call }
}

fn swiglu_quantize<B: Backend>(backend: &B, [m, half]: [usize; 2]) -> Result<Row<'static, B>> {
    let backend = backend.clone();
    let gate_up = Tensor::from_host(&backend, &noise_bf16(m * 2 * half), [m, 2 * half])?;
    let mut out = QuantTensor::zeros_per_row(&backend, [m, half], ScaleLayout::MnMajor)?;
    let num_bytes = m * (5 * half + 4 * ceil_div(half, 128));
    let call = move |stream: &B::Stream| {
        let input = SwigluInput::new(gate_up.view());
        let args = SwigluQuantizeArgs::new(input, out.view_mut(), ScaleFormat::Fp32)?;
        backend.swiglu_quantize(stream, args)
    };
    Ok(row("swiglu_quantize", [m, half], num_bytes, Box::new(call)))
}

fn swiglu<B: Backend>(backend: &B, [m, half]: [usize; 2]) -> Result<Row<'static, B>> {
    let backend = backend.clone();
    let gate_up = Tensor::from_host(&backend, &noise_bf16(m * 2 * half), [m, 2 * half])?;
    let mut out = Tensor::<B, bf16, 2>::zeros(&backend, [m, half])?;
    let call = move |stream: &B::Stream| {
        let args = SwigluArgs::new(SwigluInput::new(gate_up.view()), out.view_mut())?;
        backend.swiglu(stream, args)
    };
    Ok(row("swiglu", [m, half], 6 * m * half, Box::new(call)))
}

/// With routed weights and their gradients.
fn swiglu_backward<B: Backend>(backend: &B, [m, half]: [usize; 2]) -> Result<Row<'static, B>> {
    let backend = backend.clone();
    let gate_up = Tensor::from_host(&backend, &noise_bf16(m * 2 * half), [m, 2 * half])?;
    let grad_out = Tensor::from_host(&backend, &noise_bf16(m * half), [m, half])?;
    let weights = Tensor::from_host(&backend, &noise(m), [m])?;
    let mut grad_gate_up = Tensor::<B, bf16, 2>::zeros(&backend, [m, 2 * half])?;
    let mut grad_weights = Tensor::<B, f32, 1>::zeros(&backend, [m])?;
    let call = move |stream: &B::Stream| {
        let row_weights = Some(weights.view());
        let input = SwigluInput { row_weights, ..SwigluInput::new(gate_up.view()) };
        let (grads, grad_weights) = (grad_gate_up.view_mut(), Some(grad_weights.view_mut()));
        let args = SwigluBackwardArgs::new(input, grad_out.view(), grads, grad_weights)?;
        backend.swiglu_backward(stream, args)
    };
    Ok(row("swiglu_backward", [m, half], m * (10 * half + 8), Box::new(call)))
}
