//! Vectors of FP32: two per row, as many rows as the registers hold sums for.

use std::marker::PhantomData;
use std::ops::Range;

use super::vector::Vector;
use super::widen::{Widen, widen_row};
use crate::backend::cpu::SimdLevel;
use crate::backend::cpu::gemm::BLOCK_K;
use crate::backend::cpu::gemm::arith::{Ahead, Arith, PanelMut, Tile};
use crate::backend::cpu::gemm::view::KBlock;
use crate::backend::cpu::simd::Kernel;

/// Vectors of a panel.
const VECTORS: usize = 2;

/// FP32 in the vectors `V`.
#[derive(Clone, Copy)]
pub(in crate::backend::cpu::gemm) struct SimdFp32<V>(PhantomData<V>);

impl<V: Vector> SimdFp32<V> {
    /// Panics unless the processor has the instructions.
    pub(in crate::backend::cpu::gemm) fn new() -> Self {
        assert!(SimdLevel::detect() >= V::LEVEL, "{} was asked for", V::LEVEL);
        Self(PhantomData)
    }
}

impl<M: Widen, V: Vector> Arith<M> for SimdFp32<V> {
    type Packed = f32;

    const PANEL: usize = VECTORS * V::LANES;

    fn pack_row(self, a: &M, row: usize, block: KBlock, packed: &mut [f32]) -> f32 {
        V::LEVEL.run(PackRow { a, row, block, packed });
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
        for (factor, col) in panel.factors.iter_mut().zip(cols.clone()) {
            *factor = b.scale(col, block.idx);
        }
        let packed = panel.packed;
        V::LEVEL.run(PackPanel::<V, M> { b, cols, block, ahead, packed, _vector: self.0 });
    }

    fn multiply(self, tile: Tile<'_, f32>) {
        tile.assert_extents(VECTORS * V::LANES);
        V::LEVEL.run(Multiply::<V> { tile, _vector: self.0 });
    }
}

struct PackRow<'a, M> {
    a: &'a M,
    row: usize,
    block: KBlock,
    packed: &'a mut [f32],
}

impl<M: Widen> Kernel for PackRow<'_, M> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        widen_row(self.a, self.row, self.block, self.packed);
    }
}

struct PackPanel<'a, V, M> {
    b: &'a M,
    cols: Range<usize>,
    block: KBlock,
    ahead: Ahead,
    packed: &'a mut [f32],
    _vector: PhantomData<V>,
}

impl<V: Vector, M: Widen> Kernel for PackPanel<'_, V, M> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let panel = VECTORS * V::LANES;
        assert!(self.packed.len() >= panel * BLOCK_K && V::LANES <= 16, "a packed panel");
        let mut rows = [[0.0f32; BLOCK_K]; 16];
        for (vector, first) in self.cols.clone().step_by(V::LANES).enumerate() {
            for (row, col) in rows.iter_mut().zip(first..self.cols.end.min(first + V::LANES)) {
                self.ahead.prefetch(self.b, col - self.cols.start);
                widen_row(self.b, col, self.block, row);
            }
            for k in (0..self.block.len).step_by(V::LANES) {
                // SAFETY: `run` is compiled for the level; the rows have 128 values, and lines
                // `k..k + LANES` of the panel lie within its 128.
                unsafe {
                    let to = self.packed.as_mut_ptr().add(k * panel + vector * V::LANES);
                    V::transpose(rows.as_ptr().cast::<f32>().add(k), BLOCK_K, to, panel);
                }
            }
        }
    }
}

struct Multiply<'a, V> {
    tile: Tile<'a, f32>,
    _vector: PhantomData<V>,
}

impl<V: Vector> Kernel for Multiply<'_, V> {
    type Output = ();

    #[inline(always)]
    fn run(mut self) {
        let num_rows = self.tile.num_rows();
        let mut row = 0;
        while row < num_rows {
            // SAFETY: `run` is compiled for the level; `multiply` of the arithmetic checked the extents,
            // and a strip takes no more rows than are left.
            row += unsafe {
                match num_rows - row {
                    12.. if V::MAX_ROWS >= 12 => strip::<V, 12>(&mut self.tile, row),
                    6.. => strip::<V, 6>(&mut self.tile, row),
                    4.. => strip::<V, 4>(&mut self.tile, row),
                    2.. => strip::<V, 2>(&mut self.tile, row),
                    _ => strip::<V, 1>(&mut self.tile, row),
                }
            };
        }
    }
}

/// Multiplies `ROWS` rows from `row` on with the panel; returns `ROWS`.
///
/// # Safety
///
/// That of [`Vector`]; the tile has the extents that `Tile::assert_extents` checks, and the rows.
#[inline(always)]
#[expect(clippy::needless_range_loop, reason = "constant trip counts keep `sums` in registers")]
unsafe fn strip<V: Vector, const ROWS: usize>(tile: &mut Tile<'_, f32>, row: usize) -> usize {
    let panel = VECTORS * V::LANES;
    // SAFETY: the contract above.
    unsafe {
        let a = tile.a.as_ptr().add(row * BLOCK_K);
        let b = tile.b.as_ptr();
        let mut sums = [[V::zero(); VECTORS]; ROWS];
        for k in 0..tile.k_len {
            let b: [V; VECTORS] = std::array::from_fn(|v| V::load(b.add(k * panel + v * V::LANES)));
            for row in 0..ROWS {
                let a = V::splat(*a.add(row * BLOCK_K + k));
                for v in 0..VECTORS {
                    sums[row][v] = a.mul_add(b[v], sums[row][v]);
                }
            }
        }
        let acc = tile.acc.as_mut_ptr().add(row * panel);
        for v in 0..VECTORS {
            let b_factor = V::load(tile.b_factors.as_ptr().add(v * V::LANES));
            for i in 0..ROWS {
                let factor = V::splat(tile.a_factors[row + i]).mul(b_factor);
                let acc = acc.add(i * panel + v * V::LANES);
                sums[i][v].mul_add(factor, V::load(acc)).store(acc);
            }
        }
    }
    ROWS
}
