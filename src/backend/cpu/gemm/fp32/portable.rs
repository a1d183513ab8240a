//! Plain Rust: the readable reference, on any processor.

use std::ops::Range;

use super::widen::{Widen, widen_row};
use crate::backend::cpu::gemm::BLOCK_K;
use crate::backend::cpu::gemm::arith::{Ahead, Arith, PanelMut, Tile};
use crate::backend::cpu::gemm::view::KBlock;

/// Columns of a panel: two vectors on processors with 128-bit ones.
const PANEL: usize = 8;
/// Rows multiplied at once.
const STRIP: usize = 4;

/// FP32 without vector intrinsics.
#[derive(Debug, Clone, Copy)]
pub(in crate::backend::cpu::gemm) struct PortableFp32;

impl<M: Widen> Arith<M> for PortableFp32 {
    type Packed = f32;

    const PANEL: usize = PANEL;

    fn pack_row(self, a: &M, row: usize, block: KBlock, packed: &mut [f32]) -> f32 {
        widen_row(a, row, block, packed);
        a.scale(row, block.idx)
    }

    /// `packed` is `[128, PANEL]`.
    fn pack_panel(
        self,
        b: &M,
        cols: Range<usize>,
        block: KBlock,
        ahead: Ahead,
        panel: PanelMut<'_, f32>,
    ) {
        for (lane, col) in cols.enumerate() {
            ahead.prefetch(b, lane);
            for (k, &element) in b.block(col, block).iter().enumerate() {
                panel.packed[k * PANEL + lane] = M::widen(element);
            }
            panel.factors[lane] = b.scale(col, block.idx);
        }
    }

    fn multiply(self, tile: Tile<'_, f32>) {
        tile.assert_extents(PANEL);
        let rows = tile.a.chunks(STRIP * BLOCK_K);
        let factors = tile.a_factors.chunks(STRIP);
        let accs = tile.acc.chunks_mut(STRIP * PANEL);
        let b = &tile.b[..tile.k_len * PANEL];
        for ((a, a_factors), acc) in rows.zip(factors).zip(accs) {
            if a_factors.len() == STRIP {
                multiply_strip::<STRIP>(a, a_factors, b, tile.b_factors, acc);
                continue;
            }
            for row in 0..a_factors.len() {
                multiply_strip::<1>(
                    &a[row * BLOCK_K..][..BLOCK_K],
                    &a_factors[row..][..1],
                    b,
                    tile.b_factors,
                    &mut acc[row * PANEL..][..PANEL],
                );
            }
        }
    }
}

#[inline]
fn multiply_strip<const ROWS: usize>(
    a: &[f32],
    a_factors: &[f32],
    b: &[f32],
    b_factors: &[f32],
    acc: &mut [f32],
) {
    let a: [&[f32]; ROWS] = std::array::from_fn(|row| &a[row * BLOCK_K..][..BLOCK_K]);
    let mut sum = [[0.0f32; PANEL]; ROWS];
    for (k, b) in b.as_chunks::<PANEL>().0.iter().enumerate() {
        for row in 0..ROWS {
            let a = a[row][k];
            for lane in 0..PANEL {
                sum[row][lane] += a * b[lane];
            }
        }
    }
    for row in 0..ROWS {
        for lane in 0..PANEL {
            let acc = &mut acc[row * PANEL + lane];
            *acc = sum[row][lane].mul_add(a_factors[row] * b_factors[lane], *acc);
        }
    }
}
