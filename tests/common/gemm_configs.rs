//! Launches of products that tests ask for, whatever would be chosen for the shapes.

use moekit::backend::cuda::heuristics::{
    Cluster, GemmConfig, GemmTile, Smem, splits_k, tiles, tiles_of,
};
use moekit::gemm::{GemmFormat, GemmKind, GemmOutFormat, GemmShape};

/// Shared memory of a CTA on SM 9.0, in bytes.
const MAX_SMEM_BYTES: usize = 227 << 10;

/// Every tile with the deepest ring that fits; the shortest rings; clusters.
pub fn all(format: GemmFormat) -> Vec<(String, GemmConfig)> {
    let tiles = tiles(GemmKind::Dense, format);
    let deepest = tiles.iter().map(|&tile| (tile, usize::MAX, Cluster::Single));
    let some = tiles.iter().filter(|tile| !tile.swap_ab && tile.block_n == 128);
    // A stage is released when the next has come.
    let shortest = some.clone().map(|&tile| (tile, 2, Cluster::Single));
    let paired = some.map(|&tile| (tile, 2, Cluster::AlongN));
    let all = deepest.chain(shortest).chain(paired);
    // The larger of the two, for any format of D.
    let shape = GemmShape { format, ..GemmShape::new(GemmKind::Dense, 1, 1, 128) };
    all.map(|(tile, num_stages, cluster)| config(shape, tile, num_stages, cluster)).collect()
}

/// Some tiles whose K is cut: with more CTAs than eights of rows, and with fewer; short rings, that go round. The kernels
/// are those of all tiles, and the exchange depends on the number of eights alone.
#[allow(dead_code, reason = "each test uses its part")]
pub fn some_split(format: GemmFormat) -> Vec<(String, GemmConfig)> {
    let shape = GemmShape { format, ..GemmShape::new(GemmKind::Dense, 1, 1, 128) };
    let tiles = tiles(GemmKind::Dense, format).iter().filter(|tile| splits_k(tile, &shape));
    let tiles: Vec<&GemmTile> = tiles.collect();
    let all = [(0, 8), (3, 2), (4, 4), (5, 8)];
    all.into_iter().map(|(idx, split_k)| split(shape, *tiles[idx], 3, split_k)).collect()
}

/// A launch that cuts K, and its name, with at most `max_stages`.
#[allow(dead_code, reason = "each test uses its part")]
pub fn split(
    shape: GemmShape,
    tile: GemmTile,
    max_stages: usize,
    split_k: usize,
) -> (String, GemmConfig) {
    let (name, whole) = config(shape, tile, max_stages, Cluster::Single);
    (format!("{name}-k{split_k}"), GemmConfig { split_k, ..whole })
}

/// The same of kernels that activate.
#[allow(dead_code, reason = "each test uses its part")]
pub fn all_swiglu() -> Vec<(String, GemmConfig)> {
    let shape = GemmShape {
        out: GemmOutFormat::SwigluFp8,
        ..GemmShape::new(GemmKind::Contiguous, 1, 256, 128)
    };
    let tiles = tiles_of(&shape).iter();
    let deepest = tiles.clone().map(|&tile| (tile, usize::MAX, Cluster::Single));
    let shortest = tiles.clone().map(|&tile| (tile, 2, Cluster::Single));
    let paired = tiles.filter(|tile| !tile.swap_ab).map(|&tile| (tile, 2, Cluster::AlongN));
    let all = deepest.chain(shortest).chain(paired);
    let named = all.map(|(tile, num_stages, cluster)| config(shape, tile, num_stages, cluster));
    named.map(|(name, config)| (format!("swiglu-{name}"), config)).collect()
}

/// A launch and its name, with at most `max_stages`.
fn config(
    shape: GemmShape,
    tile: GemmTile,
    max_stages: usize,
    cluster: Cluster,
) -> (String, GemmConfig) {
    let format = shape.format;
    let smem = Smem::new(&tile, &shape);
    let num_stages = smem.num_stages(MAX_SMEM_BYTES).min(max_stages);
    let config = GemmConfig {
        format,
        tile,
        block_k: format.block_k(),
        num_math_warpgroups: tile.num_math_warpgroups(),
        num_stages,
        cluster,
        split_k: 1,
        num_sms: 132,
        smem_bytes: smem.bytes(num_stages),
    };
    let cluster = if cluster == Cluster::Single { "" } else { "-pairs" };
    let format = match format {
        GemmFormat::Fp8 => "fp8",
        GemmFormat::Bf16 => "bf16",
    };
    (format!("{format}-{}-s{num_stages}{cluster}", tile.name()), config)
}
