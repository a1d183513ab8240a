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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::SimdLevel;
    use crate::backend::cpu::simd::Kernel;

    struct ExpOfBits<'a> {
        first_bits: u32,
        stride: u32,
        out: &'a mut [f32],
    }

    impl Kernel for ExpOfBits<'_> {
        type Output = ();

        #[inline(always)]
        fn run(self) {
            for (idx, out) in self.out.iter_mut().enumerate() {
                *out = exp(f32::from_bits(self.first_bits.wrapping_add(idx as u32 * self.stride)));
            }
        }
    }

    /// Compares `exp` of every `stride`-th bit pattern between each level's vectors and plain code.
    fn compare_levels(stride: u32) {
        const CHUNK: u32 = 1 << 16;
        let [mut got, mut want] = [vec![0.0; CHUNK as usize], vec![0.0; CHUNK as usize]];
        let levels = SimdLevel::ALL.into_iter().filter(|&level| level <= SimdLevel::detect());
        let levels: Vec<SimdLevel> = levels.skip(1).collect();
        for first_bits in (0..=u32::MAX).step_by((CHUNK * stride) as usize) {
            SimdLevel::Portable.run(ExpOfBits { first_bits, stride, out: &mut want });
            for &level in &levels {
                level.run(ExpOfBits { first_bits, stride, out: &mut got });
                for (idx, (got, want)) in got.iter().zip(&want).enumerate() {
                    let bits = first_bits.wrapping_add(idx as u32 * stride);
                    let same = got.to_bits() == want.to_bits() || (got.is_nan() && want.is_nan());
                    assert!(same, "exp of bits {bits:#010x}: {got} at {level}, {want} portable");
                }
            }
        }
    }

    #[test]
    fn exp_has_the_same_bits_at_every_level() {
        compare_levels(1021);
    }

    #[test]
    #[ignore = "all 2^32 inputs: minutes"]
    fn exp_has_the_same_bits_at_every_level_for_every_input() {
        compare_levels(1);
    }
}
