//! The complete list of compiled tiles.

use serde::Serialize;

use crate::gemm::{GemmFormat, GemmKind, GemmOutFormat, GemmShape};

/// The part of D that a CTA computes at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct GemmTile {
    /// Rows of D.
    pub block_m: usize,
    /// Columns of D.
    pub block_n: usize,
    /// Whether B's rows are the tensor cores' M side, so that few rows of A waste nothing.
    pub swap_ab: bool,
}

/// Rows of one warpgroup's tensor-core instruction.
const WGMMA_M: usize = 64;

impl GemmTile {
    const fn new(block_m: usize, block_n: usize) -> Self {
        Self { block_m, block_n, swap_ab: false }
    }

    const fn swapped(block_m: usize, block_n: usize) -> Self {
        Self { block_m, block_n, swap_ab: true }
    }

    /// Extent of the tensor cores' M side.
    pub const fn mma_m(&self) -> usize {
        if self.swap_ab { self.block_n } else { self.block_m }
    }

    /// Extent of the tensor cores' N side.
    pub const fn mma_n(&self) -> usize {
        if self.swap_ab { self.block_m } else { self.block_n }
    }

    /// Warpgroups that multiply: one for each 64 rows, two at most.
    pub const fn num_math_warpgroups(&self) -> usize {
        if self.mma_m() > WGMMA_M { 2 } else { 1 }
    }

    /// Rows of B's scales, one for 128 columns, that the tile's columns meet at most.
    pub const fn num_b_scale_rows(&self) -> usize {
        if self.block_n > 128 { 2 } else { 1 }
    }

    /// The end of a kernel's name, such as "m128_n192".
    pub fn name(&self) -> String {
        let prefix = if self.swap_ab { "swapped_" } else { "" };
        format!("{prefix}m{}_n{}", self.block_m, self.block_n)
    }

    /// FP32 registers of a thread for sums: those of its part of the tile and, in FP8, those that one
    /// instruction adds up before promotion.
    pub const fn num_accum_registers(&self, format: GemmFormat) -> usize {
        let total = self.block_m * self.block_n / (128 * self.num_math_warpgroups());
        match format {
            GemmFormat::Fp8 => total + WGMMA_M * self.mma_n() / 128,
            GemmFormat::Bf16 => total,
        }
    }
}

/// FP8, dense or grouped along M. Rows ride the narrow side up to 64 of them.
const FP8: &[GemmTile] = &[
    GemmTile::swapped(8, 64),
    GemmTile::swapped(16, 64),
    GemmTile::swapped(32, 64),
    GemmTile::swapped(64, 64),
    GemmTile::swapped(8, 128),
    GemmTile::swapped(16, 128),
    GemmTile::swapped(32, 128),
    GemmTile::swapped(64, 128),
    GemmTile::new(128, 128),
    GemmTile::new(128, 192),
    GemmTile::new(256, 128),
];

/// BF16, in every layout.
const BF16: &[GemmTile] = &[
    GemmTile::swapped(8, 64),
    GemmTile::swapped(16, 64),
    GemmTile::swapped(32, 64),
    GemmTile::swapped(64, 64),
    GemmTile::swapped(16, 128),
    GemmTile::swapped(32, 128),
    GemmTile::swapped(64, 128),
    GemmTile::new(128, 128),
    GemmTile::new(128, 192),
    GemmTile::new(128, 256),
    GemmTile::new(256, 128),
];

/// FP8, groups along K.
const FP8_K_GROUPED: &[GemmTile] = &[GemmTile::new(128, 64), GemmTile::new(128, 128)];

/// The tiles that are compiled for a layout and a format.
pub const fn tiles(kind: GemmKind, format: GemmFormat) -> &'static [GemmTile] {
    match (kind, format) {
        (_, GemmFormat::Bf16) => BF16,
        (GemmKind::KGrouped, GemmFormat::Fp8) => FP8_K_GROUPED,
        (_, GemmFormat::Fp8) => FP8,
    }
}

/// FP8 with its activation: 128 columns of the gate and as many of the up-projection, one a warpgroup.
const FP8_SWIGLU: &[GemmTile] = &[
    GemmTile::swapped(16, 256),
    GemmTile::swapped(32, 256),
    GemmTile::swapped(64, 256),
    GemmTile::new(128, 256),
];

/// The tiles that are compiled for a shape.
pub const fn tiles_of(shape: &GemmShape) -> &'static [GemmTile] {
    match shape.out {
        GemmOutFormat::SwigluFp8 => FP8_SWIGLU,
        _ => tiles(shape.kind, shape.format),
    }
}
