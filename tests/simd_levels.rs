//! Every SIMD level gives the bits of the portable one, whatever the input's bits.

use moekit::backend::SimdLevel;
use moekit::moe::quant::{QuantizeArgs, QuantizeBlockArgs, ScaleFormat};
use moekit::moe::swiglu::{SwigluBackwardArgs, SwigluInput, SwigluQuantizeArgs};
use moekit::moe::{Activation, Rows};
use moekit::num::bf16;
use moekit::tensor::{QuantTensor, ScaleLayout, Tensor};
use moekit::{Backend, Cpu, Result};
use proptest::prelude::*;

/// Bits of all results on one level, one stage after the other.
fn results<T: Activation>(
    cpu: &Cpu,
    x: &[T],
    [m, k]: [usize; 2],
    format: ScaleFormat,
) -> Result<Vec<u32>> {
    let stream = cpu.stream()?;
    let x = Tensor::from_host(cpu, x, [m, k])?;
    let mut bits = Vec::new();
    let mut keep = |out: &QuantTensor<Cpu, 2>| -> Result<()> {
        bits.extend(out.values.to_host(cpu)?.iter().map(|code| u32::from(code.0)));
        bits.extend(out.scales.to_host(cpu)?.iter().map(|sf| sf.to_bits()));
        Ok(())
    };

    let mut out = QuantTensor::zeros_per_row(cpu, [m, k], ScaleLayout::RowMajor)?;
    let args = QuantizeArgs::new(x.view(), out.view_mut(), format, Rows::All)?;
    cpu.quantize(&stream, args)?;
    keep(&out)?;

    let mut out = QuantTensor::zeros_per_block(cpu, [m, k])?;
    cpu.quantize_block(&stream, QuantizeBlockArgs::new(x.view(), out.view_mut(), format)?)?;
    keep(&out)?;

    let mut out = QuantTensor::zeros_per_row(cpu, [m, k / 2], ScaleLayout::RowMajor)?;
    let input = SwigluInput { limit: 7.0, ..SwigluInput::new(x.view()) };
    cpu.swiglu_quantize(&stream, SwigluQuantizeArgs::new(input, out.view_mut(), format)?)?;
    keep(&out)?;

    let grad_out = x.to_host(cpu)?.split_off(m * k / 2);
    let grad_out = Tensor::from_host(cpu, &grad_out, [m, k / 2])?;
    let mut grads = Tensor::<_, T, 2>::zeros(cpu, [m, k])?;
    let mut sums = Tensor::zeros(cpu, [m])?;
    let args = SwigluBackwardArgs::new(
        SwigluInput::new(x.view()),
        grad_out.view(),
        grads.view_mut(),
        Some(sums.view_mut()),
    )?;
    cpu.swiglu_backward(&stream, args)?;
    bits.extend(grads.to_host(cpu)?.iter().map(|grad| grad.to_f32().to_bits()));
    bits.extend(sums.to_host(cpu)?.iter().map(|sum: &f32| sum.to_bits()));
    Ok(bits)
}

fn compare_levels<T: Activation>(x: &[T], shape: [usize; 2], format: ScaleFormat) {
    let run = |level| -> Option<Vec<u32>> {
        let cpu = Cpu::with_simd(level).ok()?;
        Some(results(&cpu, x, shape, format).expect("the shapes agree"))
    };
    let want = run(SimdLevel::Portable).expect("portable runs everywhere");
    for level in SimdLevel::ALL {
        if let Some(got) = run(level) {
            let differing = got.iter().zip(&want).position(|(got, want)| got != want);
            assert_eq!(differing, None, "{level} differs from portable for {shape:?}");
        }
    }
}

/// Ordinary values, with arbitrary bits among them.
fn element() -> impl Strategy<Value = f32> {
    prop_oneof![20 => -8.0f32..8.0, 4 => any::<f32>(), 1 => any::<u32>().prop_map(f32::from_bits)]
}

fn matrix() -> impl Strategy<Value = ([usize; 2], Vec<f32>)> {
    (1usize..5, 1usize..12).prop_flat_map(|(m, k)| {
        let shape = [m, 32 * k];
        (Just(shape), prop::collection::vec(element(), m * 32 * k))
    })
}

proptest! {
    #[test]
    fn every_level_gives_the_portable_bits((shape, x) in matrix(), ue8m0: bool) {
        let format = if ue8m0 { ScaleFormat::Ue8m0 } else { ScaleFormat::Fp32 };
        compare_levels(&x, shape, format);
        let x: Vec<bf16> = x.into_iter().map(bf16::from_f32).collect();
        compare_levels(&x, shape, format);
    }
}
