//! A tile of 128 rows whose columns each have their own scale.

use super::block::{magnitude_bits, scale_and_inverse};
use crate::moe::Activation;
use crate::moe::quant::{GRAN_K, ScaleFormat};
use crate::num::E4M3;

/// Columns of a tile: one cache line of codes.
pub(super) const WIDTH: usize = 64;

/// Codes `[row][column]` and scales of a tile.
pub(super) struct ChannelTile {
    pub codes: [[E4M3; WIDTH]; GRAN_K],
    pub scales: [f32; WIDTH],
}

impl ChannelTile {
    #[inline(always)]
    pub fn new() -> Self {
        Self { codes: [[E4M3(0); WIDTH]; GRAN_K], scales: [0.0; WIDTH] }
    }

    /// Quantises `row(0..num_rows)`, of at most [`WIDTH`] columns; the rows from there on are zeros.
    #[inline(always)]
    pub fn quantize<'x, T: Activation>(
        &mut self,
        row: impl Fn(usize) -> &'x [T],
        num_rows: usize,
        format: ScaleFormat,
    ) {
        let mut amax = [0; WIDTH];
        for idx in 0..num_rows {
            for (amax, x) in amax.iter_mut().zip(row(idx)) {
                *amax = magnitude_bits(x.to_f32()).max(*amax);
            }
        }
        let mut inverse = [0.0; WIDTH];
        for ((amax, sf), inverse) in amax.iter().zip(&mut self.scales).zip(&mut inverse) {
            (*sf, *inverse) = scale_and_inverse(*amax, format);
        }
        for (idx, codes) in self.codes[..num_rows].iter_mut().enumerate() {
            for ((code, x), inverse) in codes.iter_mut().zip(row(idx)).zip(&inverse) {
                *code = E4M3::from_f32(x.to_f32() * inverse);
            }
        }
        self.codes[num_rows..].fill([E4M3(0); WIDTH]);
    }
}
