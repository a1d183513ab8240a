//! Runs a case on every rank of a world of threads.

use moekit::comm::{World, WorldOptions};
use moekit::num::bf16;
use moekit::{Backend, Result};

/// Runs `f` on `num_ranks` ranks of one node; panics with the first rank's error.
pub fn on_ranks<B: Backend>(
    backend: &B,
    num_ranks: usize,
    f: impl Fn(&B, World) -> Result<()> + Send + Sync + 'static,
) {
    on_nodes(backend, num_ranks, None, f);
}

/// As [`on_ranks`], with every `ranks_per_node` ranks on a node of their own.
pub fn on_nodes<B: Backend>(
    backend: &B,
    num_ranks: usize,
    ranks_per_node: Option<usize>,
    f: impl Fn(&B, World) -> Result<()> + Send + Sync + 'static,
) {
    let options = WorldOptions { ranks_per_node, ..WorldOptions::default() };
    let backend = backend.clone();
    let results = World::run_threads(num_ranks, options, move |world| f(&backend, world));
    for (rank_idx, result) in results.expect("world").into_iter().enumerate() {
        result.unwrap_or_else(|error| {
            panic!("rank {rank_idx} of {num_ranks}, {ranks_per_node:?} per node: {error}")
        });
    }
}

/// A value that names its place: exact in BF16, distinct for neighbours.
pub fn token_value(rank_idx: usize, token: usize, col: usize) -> bf16 {
    bf16::from_f32(((rank_idx * 37 + token * 11 + col * 3) % 251) as f32 - 125.0)
}
