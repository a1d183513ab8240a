//! Runs a case on every rank of a world of threads.

use moekit::comm::{World, WorldOptions};
use moekit::num::bf16;
use moekit::{Backend, Result};

/// Runs `f` on `num_ranks` ranks; panics with the first rank's error.
pub fn on_ranks<B: Backend>(
    backend: &B,
    num_ranks: usize,
    f: impl Fn(&B, World) -> Result<()> + Send + Sync + 'static,
) {
    let backend = backend.clone();
    let results =
        World::run_threads(num_ranks, WorldOptions::default(), move |world| f(&backend, world));
    for (rank_idx, result) in results.expect("world").into_iter().enumerate() {
        result.unwrap_or_else(|error| panic!("rank {rank_idx} of {num_ranks}: {error}"));
    }
}

/// A value that names its place: exact in BF16, distinct for neighbours.
pub fn token_value(rank_idx: usize, token: usize, col: usize) -> bf16 {
    bf16::from_f32(((rank_idx * 37 + token * 11 + col * 3) % 251) as f32 - 125.0)
}
