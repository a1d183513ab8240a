//! A thread fails between two halves of a step: every other rank names it, in time.

#[path = "common/ep_step.rs"]
mod ep_step;

use std::time::{Duration, Instant};

use ep_step::{HALVES, Step};
use moekit::Error;
use moekit::comm::{World, WorldOptions};

const NUM_RANKS: usize = 4;
const CULPRIT: usize = 2;
const TIMEOUT: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Failure {
    Panic,
    Error,
    Hang,
}

fn every_rank_names_the_culprit(failure: Failure) {
    for ranks_per_node in [None, Some(2), Some(1)] {
        for half in HALVES {
            let case = format!("{failure:?} before {half}, {ranks_per_node:?} a node");
            let options = WorldOptions { timeout: TIMEOUT, ranks_per_node };
            let started = Instant::now();
            let results = World::run_threads(NUM_RANKS, options, move |world| {
                let mut step = Step::new(&world)?;
                step.run_until("")?;
                if world.rank_idx() != CULPRIT {
                    return step.run();
                }
                step.run_until(half)?;
                match failure {
                    Failure::Panic => panic!("this rank panics on purpose"),
                    Failure::Error => Err(Error::value("test", "rank", "no failure", "a failure")),
                    Failure::Hang => {
                        std::thread::sleep(8 * TIMEOUT);
                        Ok(())
                    }
                }
            });
            assert!(started.elapsed() < 8 * TIMEOUT, "{case}: not within the timeout");
            let mut steps = Vec::new();
            for (rank, result) in results.expect("a world").into_iter().enumerate() {
                if rank == CULPRIT {
                    continue;
                }
                let error = result.expect_err(&case);
                let (Error::Timeout { op, step, peer, .. }
                | Error::PeerDied { op, step, peer, .. }) = &error
                else {
                    panic!("{case}: rank {rank} names no rank: {error}");
                };
                assert_eq!(*peer, CULPRIT, "{case}: rank {rank} says: {error}");
                let is_timeout = matches!(error, Error::Timeout { .. });
                assert_eq!(is_timeout, failure == Failure::Hang, "{case}: rank {rank}: {error}");
                steps.push(format!("{op}: {step}"));
            }
            steps.dedup();
            assert_eq!(steps.len(), 1, "{case}: the ranks name different steps {steps:?}");
            // Which half, that depends on whom each rank waits for when it hears of the end.
            let is_half = ["dispatch: ", "combine: "].iter().any(|op| steps[0].starts_with(op));
            assert!(is_half, "{case}: {steps:?}");
        }
    }
}

#[test]
fn every_rank_names_one_that_panics() {
    every_rank_names_the_culprit(Failure::Panic);
}

#[test]
fn every_rank_names_one_that_returns_an_error() {
    every_rank_names_the_culprit(Failure::Error);
}

#[test]
fn every_rank_names_one_that_hangs() {
    every_rank_names_the_culprit(Failure::Hang);
}
