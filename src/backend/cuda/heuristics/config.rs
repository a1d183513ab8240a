//! A launch: tile, cluster, ring; and its shared memory.

use std::fmt;

use serde::Serialize;

use super::split::{partial_bytes, usable_sms};
use super::tile::GemmTile;
use crate::gemm::{GemmFormat, GemmKind, GemmOutFormat, GemmShape};
use crate::num::align;

/// CTAs that share loads by multicast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cluster {
    /// Each CTA loads for itself.
    Single,
    /// Two tiles one below the other: both take the same part of B.
    AlongM,
    /// Two tiles side by side: both take the same part of A.
    AlongN,
}

impl Cluster {
    /// CTAs in a cluster.
    pub const fn num_ctas(self) -> usize {
        match self {
            Self::Single => 1,
            Self::AlongM | Self::AlongN => 2,
        }
    }
}

impl fmt::Display for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Single => "single",
            Self::AlongM => "2 along M",
            Self::AlongN => "2 along N",
        })
    }
}

/// Everything that a launch is decided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct GemmConfig {
    /// Format of A and B.
    pub format: GemmFormat,
    /// Part of D that a CTA computes at a time.
    #[serde(flatten)]
    pub tile: GemmTile,
    /// K of a stage of the ring.
    pub block_k: usize,
    /// Warpgroups that multiply; one more loads.
    pub num_math_warpgroups: usize,
    /// Depth of the ring.
    pub num_stages: usize,
    /// CTAs that share loads.
    pub cluster: Cluster,
    /// Parts that K is cut into, 1, 2, 4 or 8; more than 1 only if asked for. A cluster of as many CTAs computes a
    /// block, so they share nothing else.
    pub split_k: usize,
    /// CTAs, each staying on its SM: no more than the waves need.
    pub num_sms: usize,
    /// Shared memory of a CTA.
    pub smem_bytes: usize,
}

impl GemmConfig {
    /// A tile on its own, one CTA on each of `num_sms`, with a ring of `num_stages`; the rest follows from the shape.
    pub(super) fn new(
        shape: &GemmShape,
        tile: GemmTile,
        num_stages: usize,
        num_sms: usize,
    ) -> Self {
        Self {
            format: shape.format,
            tile,
            block_k: shape.format.block_k(),
            num_math_warpgroups: tile.num_math_warpgroups(),
            num_stages,
            cluster: Cluster::Single,
            split_k: 1,
            num_sms,
            smem_bytes: Smem::new(&tile, shape).bytes(num_stages),
        }
    }

    /// The same with K in parts, on the SMs that such clusters reach, with as many stages as fit.
    pub(super) fn split(self, shape: &GemmShape, split_k: usize, max_smem_bytes: usize) -> Self {
        let smem = Smem::new(&self.tile, shape).with_partials(&self.tile, split_k);
        let num_stages = smem.num_stages(max_smem_bytes);
        let (num_sms, smem_bytes) = (usable_sms(self.num_sms, split_k), smem.bytes(num_stages));
        Self { split_k, num_stages, num_sms, smem_bytes, ..self }
    }

    /// CTAs of a cluster.
    pub const fn cluster_len(&self) -> usize {
        self.cluster.num_ctas() * self.split_k
    }
}

/// Stages at most: the barriers are an array of this length.
pub const MAX_STAGES: usize = 16;
/// Stages at least: less does not hide the way to memory.
pub const MIN_STAGES: usize = 3;
/// Blocks of K whose scales lie together.
pub const SCALE_BLOCKS: usize = 4;
/// Slots of scales start at multiples of this in shared memory, as TMA demands.
const SCALE_ALIGN: usize = 128;
/// Tiles start at multiples of this in shared memory, as the 128-byte swizzle demands.
const TILE_ALIGN: usize = 1024;

/// Shared memory of a CTA, part by part.
///
/// # Examples
///
/// ```
/// use moekit::backend::cuda::heuristics::{GemmTile, Smem};
/// use moekit::gemm::{GemmKind, GemmShape};
///
/// let tile = GemmTile { block_m: 128, block_n: 128, swap_ab: false };
/// let smem = Smem::new(&tile, &GemmShape::new(GemmKind::Dense, 4096, 4096, 7168));
/// assert_eq!(smem.num_stages(227 * 1024), 5);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Smem {
    stage_bytes: usize,
    scale_slot_bytes: usize,
    fixed_bytes: usize,
}

impl Smem {
    /// Sizes for a tile of a shape: those of `csrc/layout/gemm_smem.cuh`, and a test compares.
    ///
    /// A stage holds a block of A and one of B. Beside the stages are the barriers, D's tile on its way out, if it is
    /// BF16 (FP32 goes from registers to memory in whole sectors) or on its way to be activated, and in FP8 a ring of scales: those of A's rows and
    /// of B's columns, which share one within 128 (grouped along K: each has its own), for four blocks of K at a time.
    pub fn new(tile: &GemmTile, shape: &GemmShape) -> Self {
        let row_bytes = shape.format.block_k() * shape.format.element_bytes();
        let num_scales = match (shape.format, shape.kind) {
            (GemmFormat::Bf16, _) => 0,
            (GemmFormat::Fp8, GemmKind::KGrouped) => tile.block_m + tile.block_n,
            (GemmFormat::Fp8, _) => tile.block_m + tile.num_b_scale_rows(),
        };
        let out_bytes = match shape.out {
            GemmOutFormat::Bf16 | GemmOutFormat::SwigluFp8 => tile.block_m * tile.block_n * 2,
            GemmOutFormat::F32 | GemmOutFormat::F32Accumulate => 0,
        };
        let barrier_bytes = 2 * MAX_STAGES * size_of::<u64>();
        Self {
            stage_bytes: (tile.block_m + tile.block_n) * row_bytes,
            scale_slot_bytes: align(num_scales * SCALE_BLOCKS * size_of::<f32>(), SCALE_ALIGN),
            fixed_bytes: align(barrier_bytes, TILE_ALIGN) + out_bytes,
        }
    }

    /// With room for sums that a cluster's CTAs exchange where K is in `split_k` parts.
    #[must_use]
    pub fn with_partials(self, tile: &GemmTile, split_k: usize) -> Self {
        Self { fixed_bytes: self.fixed_bytes + partial_bytes(tile, split_k), ..self }
    }

    /// Stages that fit.
    pub fn num_stages(&self, max_smem_bytes: usize) -> usize {
        (0..=MAX_STAGES).rev().find(|&num| self.bytes(num) <= max_smem_bytes).unwrap_or(0)
    }

    /// Bytes with a ring of that depth.
    pub fn bytes(&self, num_stages: usize) -> usize {
        let num_scale_slots = (num_stages + 2 * (SCALE_BLOCKS - 1)) / SCALE_BLOCKS;
        self.fixed_bytes + num_stages * self.stage_bytes + num_scale_slots * self.scale_slot_bytes
    }
}
