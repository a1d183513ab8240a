//! The compiled tiles, and how their shared memory is divided: `csrc/layout/gemm_smem.cuh` has the same
//! sums, and a test compares.

use crate::gemm::GemmFormat;

/// Shape of a CTA's block of D; all that a kernel is specialised on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GemmTile {
    /// Rows of D: tokens.
    pub block_m: usize,
    /// Columns of D: weights.
    pub block_n: usize,
    /// Warpgroups that multiply; one more loads.
    pub num_math_warpgroups: usize,
    /// Whether weights are the M side of the tensor core's products, and tokens their N side.
    pub swaps_operands: bool,
    /// Format of A and B.
    pub format: GemmFormat,
}

/// Bytes of K in a stage.
const BLOCK_K_BYTES: usize = 128;
/// Most stages that a ring is given: more hide no further latency.
pub const MAX_STAGES: usize = 16;

/// Every tile that `csrc/instances` compiles for FP8, in each layout.
pub const FP8_TILES: [GemmTile; 1] = [GemmTile::new(GemmFormat::Fp8, 128, 128)];

/// Every tile that `csrc/instances` compiles for BF16, in each layout.
pub const BF16_TILES: [GemmTile; 1] = [GemmTile::new(GemmFormat::Bf16, 128, 128)];

impl GemmTile {
    const fn new(format: GemmFormat, block_m: usize, block_n: usize) -> Self {
        Self { block_m, block_n, num_math_warpgroups: 2, swaps_operands: false, format }
    }

    /// Threads of a CTA.
    pub const fn num_threads(&self) -> u32 {
        128 * (1 + self.num_math_warpgroups as u32)
    }

    /// The kernel's name in a layout of rows, such as "gemm_fp8_dense_m128_n64".
    pub fn kernel_name(&self, layout: &str) -> String {
        let format = match self.format {
            GemmFormat::Fp8 => "fp8",
            GemmFormat::Bf16 => "bf16",
        };
        let swapped = if self.swaps_operands { "swapped_" } else { "" };
        format!("gemm_{format}_{layout}_{swapped}m{}_n{}", self.block_m, self.block_n)
    }

    /// Shared memory of a CTA whose ring has this many stages.
    pub const fn shared_bytes(&self, num_stages: usize) -> usize {
        const ALIGN: usize = 1024;
        let barrier_bytes = (2 * 8 * MAX_STAGES).next_multiple_of(ALIGN);
        let d_bytes = (self.block_m * self.block_n * 2).next_multiple_of(ALIGN);
        let tile_bytes = (self.block_m + self.block_n) * BLOCK_K_BYTES;
        let num_b_scales = self.block_n / greatest_common_divisor(self.block_n, 128);
        let scale_bytes = match self.format {
            GemmFormat::Fp8 => 4 * (self.block_m + num_b_scales),
            GemmFormat::Bf16 => 0,
        };
        let stage_bytes = (tile_bytes + scale_bytes).next_multiple_of(ALIGN);
        barrier_bytes + d_bytes + num_stages * stage_bytes
    }

    /// The most stages that fit.
    pub fn max_stages(&self, max_shared_bytes: usize) -> usize {
        let fits = |num_stages: &usize| self.shared_bytes(*num_stages) <= max_shared_bytes;
        (1..=MAX_STAGES).rev().find(fits).unwrap_or(1)
    }
}

const fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const H100: usize = 227 << 10;

    #[test]
    fn every_tile_has_a_ring_that_fits() {
        for tile in FP8_TILES.into_iter().chain(BF16_TILES) {
            let num_stages = tile.max_stages(H100);
            assert!(num_stages >= 3, "{tile:?} has {num_stages} stages");
            assert!(tile.shared_bytes(num_stages) <= H100, "{tile:?}");
        }
    }
}
