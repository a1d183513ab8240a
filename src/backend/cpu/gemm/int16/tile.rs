//! The inner loop: six rows times 64 columns, 24 vectors of INT32 sums in registers.

use std::arch::x86_64::*;

use super::PANEL;
use crate::backend::cpu::gemm::BLOCK_K;
use crate::backend::cpu::gemm::arith::Tile;

/// Rows multiplied at once: 6 x 4 sums, 4 vectors of B and a few of A fill the 32 registers.
const STRIP: usize = 6;
/// Vectors of a panel.
const VECTORS: usize = PANEL / 16;
/// Pairs of K in a row of a block.
const PAIRS: usize = BLOCK_K / 2;

/// Adds one K-block's products.
///
/// # Safety
///
/// The processor has AVX-512 F and VNNI.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) unsafe fn multiply(tile: Tile<'_, i16>) {
    tile.assert_extents(PANEL);
    let num_pairs = tile.k_len.div_ceil(64) * 32;
    let (a, acc) = (tile.a.as_ptr().cast::<i32>(), tile.acc.as_mut_ptr());
    let mut row = 0;
    while row < tile.num_rows() {
        // SAFETY: the attribute above; `assert_extents` checked that the slices hold `num_rows` rows, of
        // which a strip takes no more than are left.
        unsafe {
            let strip = Strip {
                a: a.add(row * PAIRS),
                a_factors: tile.a_factors.as_ptr().add(row),
                b: tile.b.as_ptr().cast(),
                b_factors: tile.b_factors.as_ptr(),
                acc: acc.add(row * PANEL),
                num_pairs,
            };
            match tile.num_rows() - row {
                1 => strip.multiply::<1>(),
                2 => strip.multiply::<2>(),
                3 => strip.multiply::<3>(),
                4 => strip.multiply::<4>(),
                5 => strip.multiply::<5>(),
                _ => strip.multiply::<STRIP>(),
            }
        }
        row += STRIP;
    }
}

/// The operands of some rows times one panel.
struct Strip {
    a: *const i32,
    a_factors: *const f32,
    b: *const i32,
    b_factors: *const f32,
    acc: *mut f32,
    num_pairs: usize,
}

impl Strip {
    /// # Safety
    ///
    /// The processor has the features; `a` has `ROWS` rows of 64 pairs, `b` is a packed panel of at least
    /// `num_pairs` pairs, the factors and `acc` have `ROWS` and `PANEL` to match.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    #[expect(clippy::needless_range_loop, reason = "constant trip counts keep `sums` in registers")]
    unsafe fn multiply<const ROWS: usize>(&self) {
        // SAFETY: the contract above.
        unsafe {
            let mut sums = [[_mm512_setzero_si512(); VECTORS]; ROWS];
            for pair in 0..self.num_pairs {
                let b: [__m512i; VECTORS] = std::array::from_fn(|v| {
                    _mm512_load_si512(self.b.add(pair * PANEL + v * 16).cast())
                });
                for row in 0..ROWS {
                    let a = _mm512_set1_epi32(*self.a.add(row * PAIRS + pair));
                    for v in 0..VECTORS {
                        sums[row][v] = _mm512_dpwssd_epi32(sums[row][v], a, b[v]);
                    }
                }
            }
            for v in 0..VECTORS {
                let b_factor = _mm512_loadu_ps(self.b_factors.add(v * 16));
                for row in 0..ROWS {
                    let factor = _mm512_mul_ps(_mm512_set1_ps(*self.a_factors.add(row)), b_factor);
                    let acc = self.acc.add(row * PANEL + v * 16);
                    let sum = _mm512_cvtepi32_ps(sums[row][v]);
                    _mm512_storeu_ps(acc, _mm512_fmadd_ps(sum, factor, _mm512_loadu_ps(acc)));
                }
            }
        }
    }
}
