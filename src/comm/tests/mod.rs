//! Worlds of threads: what is refused, and what every rank hears when one fails.

mod arguments;
mod failures;

use std::time::Duration;

use super::WorldOptions;

/// Short, so that tests of hanging ranks end soon.
fn impatient(ranks_per_node: Option<usize>) -> WorldOptions {
    WorldOptions { timeout: Duration::from_millis(400), ranks_per_node }
}

/// One node, two nodes, every rank a node of its own.
fn node_sizes(num_ranks: usize) -> [Option<usize>; 3] {
    [None, Some(num_ranks.div_ceil(2)), Some(1)]
}
