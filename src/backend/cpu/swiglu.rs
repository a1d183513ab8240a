//! SwiGLU on the cpu.

mod backward;
mod forward;

pub(super) use backward::backward;
pub(super) use forward::{forward, forward_quantized};

use super::Cpu;
use crate::moe::Activation;
use crate::moe::swiglu::CheckedInput;
use crate::num::exp;

/// `1 + exp(-g)`: what the gate is divided by.
#[inline(always)]
fn denominator(g: f32) -> f32 {
    1.0 + exp(-g)
}

/// The gate, cut above; NaN stays.
#[inline(always)]
fn clamp_gate(gate: f32, limit: f32) -> f32 {
    if gate > limit { limit } else { gate }
}

/// The up-projection, cut on both sides; NaN stays.
#[inline(always)]
fn clamp_up(up: f32, limit: f32) -> f32 {
    let up = if up > limit { limit } else { up };
    if up < -limit { -limit } else { up }
}

impl<'a, T: Activation> CheckedInput<'a, Cpu, T> {
    fn intermediate_hidden(&self) -> usize {
        self.gate_up.shape()[2] / 2
    }

    /// Gate and up of a row.
    #[inline(always)]
    fn halves(&self, [group, row]: [usize; 2]) -> (&'a [T], &'a [T]) {
        let half = self.intermediate_hidden();
        let start = self.gate_up.layout().offset([group, row, 0]);
        self.gate_up.as_span()[start..][..2 * half].split_at(half)
    }

    fn weight(&self, [group, row]: [usize; 2]) -> f32 {
        let [_, m, _] = self.gate_up.shape();
        self.row_weights.map_or(1.0, |weights| weights.as_span()[group * m + row])
    }

    fn has_token(&self, row: [usize; 2]) -> bool {
        self.rows.has_token(row, self.gate_up.shape()[1])
    }
}
