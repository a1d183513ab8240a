//! The gradient of the activation.

use std::ops::Range;

use super::{clamp_gate, clamp_up, denominator};
use crate::backend::Cpu;
use crate::backend::cpu::parallel::for_each_range;
use crate::backend::cpu::shared_mut::SharedMut;
use crate::backend::cpu::simd::Kernel;
use crate::moe::Activation;
use crate::moe::swiglu::{CheckedInput, SwigluBackwardArgs};
use crate::tensor::{Layout, TensorRef};

/// Partial sums of a routed weight's gradient.
const LANES: usize = 32;

pub(in crate::backend::cpu) fn backward<T: Activation, D: Activation>(
    cpu: &Cpu,
    mut args: SwigluBackwardArgs<'_, Cpu, T, D>,
) {
    let [num_groups, m, half] = args.grad_out.shape();
    let job = Job {
        input: args.input,
        grad_out: args.grad_out,
        layout: args.grad_gate_up.layout(),
        grad_gate_up: SharedMut::new(args.grad_gate_up.as_mut_span()),
        grad_row_weights: args
            .grad_row_weights
            .as_mut()
            .map(|weights| SharedMut::new(weights.as_mut_span())),
    };
    let row_bytes = half * (2 * size_of::<T>() + 3 * size_of::<D>());
    for_each_range(num_groups * m, row_bytes, |range| {
        cpu.simd().run(RowsOf { job: &job, range });
    });
}

struct Job<'a, T: Activation, D> {
    input: CheckedInput<'a, Cpu, T>,
    grad_out: TensorRef<'a, Cpu, D, 3>,
    layout: Layout<3>,
    grad_gate_up: SharedMut<'a, D>,
    grad_row_weights: Option<SharedMut<'a, f32>>,
}

struct RowsOf<'a, 'b, T: Activation, D> {
    job: &'b Job<'a, T, D>,
    range: Range<usize>,
}

impl<T: Activation, D: Activation> Kernel for RowsOf<'_, '_, T, D> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let job = self.job;
        let [_, m, half] = job.grad_out.shape();
        for flat_row in self.range {
            let row @ [group, row_idx] = [flat_row / m, flat_row % m];
            // SAFETY: each row is in one range alone, and rows do not overlap.
            let grads =
                unsafe { job.grad_gate_up.slice(job.layout.offset([group, row_idx, 0]), 2 * half) };
            let mut grad_weight = 0.0;
            if job.input.has_token(row) {
                let start = job.grad_out.layout().offset([group, row_idx, 0]);
                let grad_out = &job.grad_out.as_span()[start..][..half];
                let (limit, weight) = (job.input.limit, job.input.weight(row));
                let halves = job.input.halves(row);
                write_gradients(halves, grad_out, limit, weight, grads);
                if job.grad_row_weights.is_some() {
                    grad_weight = weight_gradient(halves, grad_out, limit);
                }
            } else {
                grads.fill(D::from_f32(0.0));
            }
            if let Some(grad_row_weights) = &job.grad_row_weights {
                // SAFETY: as above.
                unsafe { grad_row_weights.write(flat_row, f32::from_f32(grad_weight)) };
            }
        }
    }
}

#[inline(always)]
fn write_gradients<T: Activation, D: Activation>(
    (gate, up): (&[T], &[T]),
    grad_out: &[D],
    limit: f32,
    weight: f32,
    grads: &mut [D],
) {
    let (grad_gate, grad_up) = grads.split_at_mut(grad_out.len());
    let outputs = grad_gate.iter_mut().zip(grad_up);
    let inputs = gate.iter().zip(up).zip(grad_out);
    for ((grad_gate, grad_up), ((gate, up), grad_out)) in outputs.zip(inputs) {
        let (gate, up) = (gate.to_f32(), up.to_f32());
        let (g, u) = (clamp_gate(gate, limit), clamp_up(up, limit));
        let s = 1.0 / denominator(g);
        let d = (grad_out.to_f32() * weight) * s;
        let gate_grad = (d * u) * g.mul_add(1.0 - s, 1.0);
        *grad_gate = D::from_f32(if gate > limit { 0.0 } else { gate_grad });
        *grad_up = D::from_f32(if up.abs() > limit { 0.0 } else { d * g });
    }
}

#[inline(always)]
fn weight_gradient<T: Activation, D: Activation>(
    (gate, up): (&[T], &[T]),
    grad_out: &[D],
    limit: f32,
) -> f32 {
    let mut sums = [0.0f32; LANES];
    let inputs = gate.chunks(LANES).zip(up.chunks(LANES)).zip(grad_out.chunks(LANES));
    for ((gate, up), grad_out) in inputs {
        for (((sum, gate), up), grad_out) in sums.iter_mut().zip(gate).zip(up).zip(grad_out) {
            let g = clamp_gate(gate.to_f32(), limit);
            let act = (g / denominator(g)) * clamp_up(up.to_f32(), limit);
            *sum = grad_out.to_f32().mul_add(act, *sum);
        }
    }
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            sums[lane] += sums[lane + half];
        }
        half /= 2;
    }
    sums[0]
}
