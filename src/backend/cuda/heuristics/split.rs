//! K in parts: the CTAs of a cluster compute one block of D together, each along its part of K, and add their sums up.

use super::config::SCALE_BLOCKS;
use super::tile::GemmTile;
use crate::gemm::{GemmOutFormat, GemmShape};
use crate::moe::quant::GRAN_K;
use crate::num::ceil_div;

/// Parts that K may be cut into: as many CTAs make a cluster.
pub const SPLITS: [usize; 4] = [1, 2, 4, 8];

/// SMs of a part of the device that holds clusters whole, less those that are over: there are 16 or 18, and a cluster of
/// two leaves none.
const CLUSTER_SMS: usize = 16;

/// Cycles from a CTA's last product to the sums of its part of a block, and bytes that it sends to other SMs in a cycle
/// meanwhile. Assumed, not fitted: neither was measured.
const EXCHANGE_CYCLES: f64 = 1000.0;
const EXCHANGE_BYTES_PER_CYCLE: f64 = 32.0;

/// Whether a tile's K can be cut: with few rows, in products without an activation.
pub fn splits_k(tile: &GemmTile, shape: &GemmShape) -> bool {
    tile.swap_ab && shape.out != GemmOutFormat::SwigluFp8
}

/// SMs that run clusters of `split_k` CTAs at once, of `num_sms`.
pub fn usable_sms(num_sms: usize, split_k: usize) -> usize {
    let in_wholes = |len| num_sms - num_sms % len;
    if split_k > 2 && num_sms >= CLUSTER_SMS { in_wholes(CLUSTER_SMS) } else { in_wholes(split_k) }
}

/// Blocks of K of the shortest and of the longest part: `csrc/kernels/gemm/k_part.cuh`.
pub fn part_lens(shape: &GemmShape, split_k: usize) -> [usize; 2] {
    let in_fours = ceil_div(shape.k, GRAN_K).is_multiple_of(SCALE_BLOCKS);
    let step = if in_fours { SCALE_BLOCKS * GRAN_K } else { GRAN_K };
    let num_steps = ceil_div(shape.k, step);
    let num_blocks = |steps: usize| ceil_div((steps * step).min(shape.k), shape.format.block_k());
    [num_steps / split_k, ceil_div(num_steps, split_k)].map(num_blocks)
}

/// Shared memory for sums of some rows of a tile, from all CTAs of the cluster, which share them in whole eights.
pub fn partial_bytes(tile: &GemmTile, split_k: usize) -> usize {
    if split_k == 1 { 0 } else { tile.block_n * tile.block_m.max(8 * split_k) * size_of::<f32>() }
}

/// Cycles that adding up a block's parts takes.
pub fn exchange_cycles(tile: &GemmTile, split_k: usize) -> f64 {
    if split_k == 1 {
        return 0.0;
    }
    EXCHANGE_CYCLES + partial_bytes(tile, split_k) as f64 / EXCHANGE_BYTES_PER_CYCLE
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gemm::{GemmFormat, GemmKind};

    #[test]
    fn parts_are_made_of_fours_where_k_is() {
        let lens = |k, split_k| part_lens(&GemmShape::new(GemmKind::Dense, 1, 1, k), split_k);
        assert_eq!(lens(7168, 1), [56, 56]);
        assert_eq!(lens(7168, 2), [28, 28]);
        assert_eq!(lens(7168, 4), [12, 16]);
        assert_eq!(lens(7168, 8), [4, 8]);
        assert_eq!(lens(1536, 2), [4, 8]);
        assert_eq!(lens(1408, 4), [2, 3]);
        assert_eq!(lens(272, 8), [0, 1]);
        assert_eq!(lens(400, 2), [0, 4]);
        let bf16 =
            GemmShape { format: GemmFormat::Bf16, ..GemmShape::new(GemmKind::Dense, 1, 1, 7168) };
        assert_eq!(part_lens(&bf16, 4), [24, 32]);
    }

    #[test]
    fn clusters_leave_sms_over() {
        assert_eq!([1, 2, 4, 8].map(|split_k| usable_sms(132, split_k)), [132, 132, 128, 128]);
        assert_eq!([1, 2, 4, 8].map(|split_k| usable_sms(6, split_k)), [6, 6, 4, 0]);
    }
}
