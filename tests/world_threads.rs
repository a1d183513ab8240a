//! Every world case, with threads as ranks, on one and on several nodes.

#[path = "world/cases/mod.rs"]
mod cases;
#[path = "common/moe_model.rs"]
mod moe_model;

use moekit::comm::{World, WorldOptions};

fn all_cases_pass(num_ranks: usize) {
    for ranks_per_node in [None, Some(num_ranks.div_ceil(2)), Some(1)] {
        for (name, case) in cases::all() {
            let options = WorldOptions { ranks_per_node, ..WorldOptions::default() };
            let results = World::run_threads(num_ranks, options, move |world| {
                case(&world)?;
                world.close()
            });
            for (rank_idx, result) in results.expect("a world").into_iter().enumerate() {
                if let Err(error) = result {
                    panic!("{name}: {ranks_per_node:?} ranks per node, rank {rank_idx}: {error}");
                }
            }
        }
    }
}

#[test]
fn one_thread_passes_all_cases() {
    all_cases_pass(1);
}

#[test]
fn two_threads_pass_all_cases() {
    all_cases_pass(2);
}

#[test]
fn three_threads_pass_all_cases() {
    all_cases_pass(3);
}

#[test]
fn eight_threads_pass_all_cases() {
    all_cases_pass(8);
}
