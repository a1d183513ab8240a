//! Launches of FP8 products that the cases run with, whatever would be chosen for their shapes.

use moekit::backend::cuda::heuristics::{Cluster, GemmConfig, GemmTile, Smem, tiles};
use moekit::gemm::{GemmFormat, GemmKind, GemmShape};

/// Shared memory of a CTA on SM 9.0, in bytes.
const MAX_SMEM_BYTES: usize = 227 << 10;

/// The cases that meet every part of a kernel.
pub const CASES: [&str; 4] = [
    "fp8_products_of_every_shape_agree_with_f64",
    "groups_of_every_pattern_agree_with_f64",
    "masked_groups_of_every_size_agree_with_f64",
    "a_row_has_the_same_bits_in_every_layout",
];

/// Every tile with the deepest ring that fits; the shortest rings; clusters.
pub fn all() -> Vec<(String, GemmConfig)> {
    let tiles = tiles(GemmKind::Dense, GemmFormat::Fp8);
    let deepest = tiles.iter().map(|&tile| (tile, usize::MAX, Cluster::Single));
    let some = tiles.iter().filter(|tile| !tile.swap_ab && tile.block_n == 128);
    let shortest = some.clone().map(|&tile| (tile, 1, Cluster::Single));
    let paired = some.map(|&tile| (tile, 2, Cluster::AlongN));
    let all = deepest.chain(shortest).chain(paired);
    all.map(|(tile, num_stages, cluster)| config(tile, num_stages, cluster)).collect()
}

/// A launch and its name, with at most `max_stages`.
fn config(tile: GemmTile, max_stages: usize, cluster: Cluster) -> (String, GemmConfig) {
    // The larger of the two, for any format of D.
    let smem = Smem::new(&tile, &GemmShape::new(GemmKind::Dense, 1, 1, 128));
    let num_stages = smem.num_stages(MAX_SMEM_BYTES).min(max_stages);
    let config = GemmConfig {
        format: GemmFormat::Fp8,
        tile,
        block_k: 128,
        num_math_warpgroups: tile.num_math_warpgroups(),
        num_stages,
        cluster,
        split_k: 1,
        num_sms: 132,
        smem_bytes: smem.bytes(num_stages),
    };
    let cluster = if cluster == Cluster::Single { "" } else { "-pairs" };
    (format!("{}-s{num_stages}{cluster}", tile.name()), config)
}
