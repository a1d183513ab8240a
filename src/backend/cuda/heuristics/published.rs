//! Rates that DeepGEMM published for an H800, and what ran there.

use serde::Serialize;

use super::config::Cluster::{self, AlongM, AlongN, Single};
use super::config::GemmConfig;
use super::tile::GemmTile;
use crate::gemm::GemmKind::{self, Contiguous, Dense, Masked};
use crate::gemm::GemmShape;

/// A row of the published tables.
///
/// # Source
///
/// DeepGEMM, README of April 2025 ("Performance", H800 SXM5, cold L2). The tables do not tell the tiles; those here follow
/// from the rules that the repository had when each figure came in: February 2025 for up to 128 rows and for
/// the masked layout, March for the contiguous one and for 4096 x 7168 x 2048, April for the others.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PublishedProduct {
    /// Layout.
    pub kind: GemmKind,
    /// Groups.
    pub num_groups: usize,
    /// Rows of a group, columns, depth.
    pub mnk: [usize; 3],
    /// 10^12 operations per second.
    pub tflops: f64,
    /// How it ran.
    pub launch: PublishedLaunch,
}

/// Tile, depth of the ring, CTAs that share loads, all CTAs.
pub type PublishedLaunch = ([usize; 2], usize, Cluster, usize);

impl PublishedProduct {
    /// What was multiplied: FP8 into BF16, all groups of the same size.
    pub const fn shape(&self) -> GemmShape {
        let [m, n, k] = self.mnk;
        let mut shape = GemmShape::new(self.kind, m, n, k);
        shape.num_groups = self.num_groups;
        shape.m_deviation = 0;
        shape
    }

    /// How it ran.
    pub fn config(&self) -> GemmConfig {
        let ([block_m, block_n], num_stages, cluster, num_sms) = self.launch;
        let tile = GemmTile { block_m, block_n, swap_ab: false };
        let alone = GemmConfig::new(&self.shape(), tile, num_stages, num_sms);
        GemmConfig { cluster, ..alone }
    }
}

const fn row(
    kind: GemmKind,
    num_groups: usize,
    mnk: [usize; 3],
    tflops: f64,
    launch: PublishedLaunch,
) -> PublishedProduct {
    PublishedProduct { kind, num_groups, mnk, tflops, launch }
}

/// The published tables.
#[rustfmt::skip]
pub const PUBLISHED: [PublishedProduct; 28] = [
    row(Dense, 1, [64, 2112, 7168], 206.0, ([64, 16], 8, Single, 132)),
    row(Dense, 1, [64, 24576, 1536], 289.0, ([64, 96], 6, Single, 132)),
    row(Dense, 1, [64, 32768, 512], 219.0, ([64, 128], 8, Single, 132)),
    row(Dense, 1, [64, 7168, 16384], 336.0, ([64, 56], 6, Single, 132)),
    row(Dense, 1, [64, 4096, 7168], 287.0, ([64, 32], 8, Single, 132)),
    row(Dense, 1, [64, 7168, 2048], 295.0, ([64, 56], 6, Single, 132)),
    row(Dense, 1, [128, 2112, 7168], 352.0, ([128, 16], 8, Single, 132)),
    row(Dense, 1, [128, 24576, 1536], 535.0, ([128, 96], 6, Single, 132)),
    row(Dense, 1, [128, 32768, 512], 358.0, ([128, 128], 5, Single, 132)),
    row(Dense, 1, [128, 7168, 16384], 645.0, ([128, 56], 6, Single, 132)),
    row(Dense, 1, [128, 4096, 7168], 533.0, ([128, 32], 8, Single, 132)),
    row(Dense, 1, [128, 7168, 2048], 510.0, ([128, 56], 6, Single, 132)),
    row(Dense, 1, [4096, 2112, 7168], 1127.0, ([256, 88], 4, AlongN, 128)),
    row(Dense, 1, [4096, 24576, 1536], 1212.0, ([256, 128], 3, AlongN, 128)),
    row(Dense, 1, [4096, 32768, 512], 775.0, ([256, 128], 3, AlongN, 128)),
    row(Dense, 1, [4096, 7168, 16384], 1520.0, ([256, 128], 3, AlongN, 128)),
    row(Dense, 1, [4096, 4096, 7168], 1410.0, ([256, 128], 3, AlongN, 128)),
    row(Dense, 1, [4096, 7168, 2048], 1168.0, ([128, 160], 4, AlongM, 132)),
    row(Contiguous, 4, [8192, 4096, 7168], 1346.0, ([128, 160], 4, AlongM, 132)),
    row(Contiguous, 4, [8192, 7168, 2048], 1214.0, ([128, 160], 4, AlongM, 132)),
    row(Contiguous, 8, [4096, 4096, 7168], 1346.0, ([128, 160], 4, AlongM, 132)),
    row(Contiguous, 8, [4096, 7168, 2048], 1214.0, ([128, 160], 4, AlongM, 132)),
    row(Masked, 1, [1024, 4096, 7168], 1233.0, ([128, 128], 5, AlongN, 132)),
    row(Masked, 1, [1024, 7168, 2048], 925.0, ([128, 112], 6, AlongN, 132)),
    row(Masked, 2, [512, 4096, 7168], 1040.0, ([128, 128], 5, Single, 132)),
    row(Masked, 2, [512, 7168, 2048], 916.0, ([128, 112], 6, Single, 132)),
    row(Masked, 4, [256, 4096, 7168], 932.0, ([128, 128], 5, Single, 132)),
    row(Masked, 4, [256, 7168, 2048], 815.0, ([128, 112], 6, Single, 132)),
];
