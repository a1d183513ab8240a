//! The activation, plain and requantised.

use std::ops::Range;

use super::{clamp_gate, clamp_up, denominator};
use crate::backend::Cpu;
use crate::backend::cpu::parallel::for_each_range;
use crate::backend::cpu::quant::QuantOut;
use crate::backend::cpu::shared_mut::SharedMut;
use crate::backend::cpu::simd::Kernel;
use crate::moe::Activation;
use crate::moe::quant::GRAN_K;
use crate::moe::swiglu::{CheckedInput, SwigluArgs, SwigluQuantizeArgs};
use crate::tensor::Layout;

pub(in crate::backend::cpu) fn forward<T: Activation, U: Activation>(
    cpu: &Cpu,
    mut args: SwigluArgs<'_, Cpu, T, U>,
) {
    let layout = args.out.layout();
    let [num_groups, m, half] = layout.shape();
    if half == 0 {
        return;
    }
    let (input, out) = (args.input, SharedMut::new(args.out.as_mut_span()));
    for_each_range(num_groups * m, half * (2 * size_of::<T>() + size_of::<U>()), |range| {
        cpu.simd().run(Plain { input: &input, layout, out, range });
    });
}

struct Plain<'a, T: Activation, U> {
    input: &'a CheckedInput<'a, Cpu, T>,
    layout: Layout<3>,
    out: SharedMut<'a, U>,
    range: Range<usize>,
}

impl<T: Activation, U: Activation> Kernel for Plain<'_, T, U> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let [_, m, half] = self.layout.shape();
        for row in self.range {
            let row = [row / m, row % m];
            // SAFETY: each row is in one range alone, and rows do not overlap.
            let out = unsafe { self.out.slice(self.layout.offset([row[0], row[1], 0]), half) };
            if !self.input.has_token(row) {
                out.fill(U::from_f32(0.0));
                continue;
            }
            let (gate, up) = self.input.halves(row);
            let (limit, weight) = (self.input.limit, self.input.weight(row));
            for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
                *out = U::from_f32(activation(gate.to_f32(), up.to_f32(), limit, weight));
            }
        }
    }
}

pub(in crate::backend::cpu) fn forward_quantized<T: Activation>(
    cpu: &Cpu,
    mut args: SwigluQuantizeArgs<'_, Cpu, T>,
) {
    let [num_groups, m, half] = args.out.values.shape();
    if half == 0 {
        return;
    }
    let (input, out) = (args.input, QuantOut::new(&mut args.out, args.format));
    for_each_range(num_groups * m, half * (2 * size_of::<T>() + 1), |range| {
        cpu.simd().run(Quantized { input: &input, out: &out, range });
    });
}

struct Quantized<'a, T: Activation> {
    input: &'a CheckedInput<'a, Cpu, T>,
    out: &'a QuantOut<'a>,
    range: Range<usize>,
}

impl<T: Activation> Kernel for Quantized<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let [_, m, _] = self.input.gate_up.shape();
        for row in self.range {
            let row = [row / m, row % m];
            // SAFETY: each row is in one range alone.
            let mut out = unsafe { self.out.row(row) };
            if !self.input.has_token(row) {
                out.write_zeros();
                continue;
            }
            let (gate, up) = self.input.halves(row);
            let (limit, weight) = (self.input.limit, self.input.weight(row));
            let mut block = [0.0; GRAN_K];
            for (idx, (gate, up)) in gate.chunks(GRAN_K).zip(up.chunks(GRAN_K)).enumerate() {
                let block = &mut block[..gate.len()];
                for ((out, gate), up) in block.iter_mut().zip(gate).zip(up) {
                    *out = activation(gate.to_f32(), up.to_f32(), limit, weight);
                }
                out.quantize_block(idx, block);
            }
        }
    }
}

#[inline(always)]
fn activation(gate: f32, up: f32, limit: f32, weight: f32) -> f32 {
    let g = clamp_gate(gate, limit);
    ((g / denominator(g)) * clamp_up(up, limit)) * weight
}
