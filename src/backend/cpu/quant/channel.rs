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

    /// Quantises `row(0..num_rows)`, of at most [`WIDTH`] columns; the rows from there on are
    /// zeros.
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

    /// The codes `[column][row]`.
    #[inline(always)]
    pub fn transposed(&self) -> [[E4M3; GRAN_K]; WIDTH] {
        let mut out = [[E4M3(0); GRAN_K]; WIDTH];
        for first_row in (0..GRAN_K).step_by(8) {
            // Eight rows, each as eight words of eight codes.
            let mut rows = [[0u64; WIDTH / 8]; 8];
            for (row, codes) in rows.iter_mut().zip(&self.codes[first_row..]) {
                *row = bytemuck::must_cast(*codes);
            }
            swap_parts::<4>(&mut rows, 0x0000_0000_ffff_ffff);
            swap_parts::<2>(&mut rows, 0x0000_ffff_0000_ffff);
            swap_parts::<1>(&mut rows, 0x00ff_00ff_00ff_00ff);
            // Now word `w` of row `i` is column `8 w + i` of the eight rows.
            for (idx, row) in rows.iter().enumerate() {
                for (word, codes) in row.iter().enumerate() {
                    let column = &mut out[8 * word + idx][first_row..first_row + 8];
                    column.copy_from_slice(bytemuck::cast_slice(&[*codes]));
                }
            }
        }
        out
    }
}

/// One step of transposing 8 x 8 bytes: rows `DISTANCE` apart swap parts of `DISTANCE` bytes.
#[inline(always)]
fn swap_parts<const DISTANCE: usize>(rows: &mut [[u64; WIDTH / 8]; 8], mask: u64) {
    for upper in (0..8).filter(|row| row & DISTANCE == 0) {
        let [a, b] = rows.get_disjoint_mut([upper, upper + DISTANCE]).expect("two of eight rows");
        for (a, b) in a.iter_mut().zip(b) {
            let swapped = ((*a >> (8 * DISTANCE)) ^ *b) & mask;
            *a ^= swapped << (8 * DISTANCE);
            *b ^= swapped;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposing_moves_every_code_to_its_place() {
        let mut tile = ChannelTile::new();
        for (row, codes) in tile.codes.iter_mut().enumerate() {
            *codes = std::array::from_fn(|column| E4M3((row * 31 + column * 7) as u8));
        }
        let transposed = tile.transposed();
        for (row, codes) in tile.codes.iter().enumerate() {
            for (column, code) in codes.iter().enumerate() {
                assert_eq!(transposed[column][row], *code, "row {row}, column {column}");
            }
        }
    }
}
