//! INT16 fixed-point arithmetic for FP8 on AVX-512: exact sums over a 128-block of K.
//!
//! In every row (of A or B) and block, E4M3 values become `round(value * 2^e)`, to nearest even, with the
//! largest `e` in 3..=9 for which no sum of products can leave INT32: by Cauchy-Schwarz it is
//! enough that the norm of either side's 128 values, times `2^e`, is at most `2^15.5`. With e = 9 the
//! conversion is exact; else it loses what lies some 2^-16 below the row's norm. The INT32 sum is exact, so
//! its order does not matter; the block's factor is `sf * 2^-e`.

mod exponent;
mod few_rows;
mod pack;
mod tile;

use std::ops::Range;

use super::arith::{Ahead, Arith, PanelMut, Step, Tile};
use super::view::{Fp8Mat, KBlock, Operand};
use crate::backend::cpu::SimdLevel;

/// Columns of a panel: four vectors of INT32 sums.
const PANEL: usize = 64;

/// FP8 by INT16 fixed point.
#[derive(Debug, Clone, Copy)]
pub(super) struct Avx512Int16 {
    /// Whether FP16 instructions convert; the same bits either way.
    has_fp16: bool,
}

impl Avx512Int16 {
    /// Panics unless the processor has the level [`SimdLevel::Avx512`].
    pub(super) fn new() -> Self {
        assert!(SimdLevel::detect() >= SimdLevel::Avx512, "AVX-512 was asked for");
        Self { has_fp16: std::is_x86_feature_detected!("avx512fp16") }
    }

    /// As on a processor that lacks the FP16 instructions.
    #[cfg(test)]
    pub(super) fn without_fp16() -> Self {
        let Self { has_fp16: _ } = Self::new();
        Self { has_fp16: false }
    }
}

impl Arith<Fp8Mat<'_>> for Avx512Int16 {
    type Packed = i16;

    const PANEL: usize = PANEL;

    fn pack_row(self, a: &Fp8Mat<'_>, row: usize, block: KBlock, packed: &mut [i16]) -> f32 {
        let packed = packed.try_into().expect("a block of 128");
        let codes = a.block(row, block);
        // SAFETY: `new` found the instructions.
        let factor = unsafe {
            if self.has_fp16 {
                pack::pack_row_fp16(codes, packed)
            } else {
                pack::pack_row(codes, packed)
            }
        };
        a.scale(row, block.idx) * factor
    }

    fn pack_panel(
        self,
        b: &Fp8Mat<'_>,
        cols: Range<usize>,
        block: KBlock,
        ahead: Ahead,
        panel: PanelMut<'_, i16>,
    ) {
        let packed = panel.packed.try_into().expect("128 x 64");
        let factors: &mut [f32; PANEL] = panel.factors.try_into().expect("64 factors");
        // SAFETY: `new` found the instructions.
        unsafe {
            if self.has_fp16 {
                pack::pack_panel_fp16(b, cols.clone(), block, &ahead, packed, factors);
            } else {
                pack::pack_panel(b, cols.clone(), block, &ahead, packed, factors);
            }
        }
        for (factor, col) in factors.iter_mut().zip(cols) {
            *factor *= b.scale(col, block.idx);
        }
    }

    fn multiply(self, tile: Tile<'_, i16>) {
        // SAFETY: `new` found the instructions.
        unsafe { tile::multiply(tile) }
    }

    fn num_cols_at_once(num_rows: usize) -> usize {
        if num_rows <= few_rows::MAX_ROWS { few_rows::NUM_COLS } else { PANEL }
    }

    fn add_block(self, step: Step<'_, Fp8Mat<'_>, i16>) {
        if step.a_factors.len() > few_rows::MAX_ROWS {
            return self.pack_and_multiply(step);
        }
        // SAFETY: `new` found the instructions.
        unsafe {
            if self.has_fp16 {
                few_rows::multiply_fp16(step);
            } else {
                few_rows::multiply(step);
            }
        }
    }
}
