//! What every rank hears when one fails.

use std::time::{Duration, Instant};

use bytemuck::Zeroable;

use super::{impatient, node_sizes};
use crate::comm::control::AbortRecord;
use crate::comm::{SymmetricBuffer, World};
use crate::error::{Error, Result};

const NUM_RANKS: usize = 4;
const CULPRIT: usize = 2;

/// How a rank fails.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Failure {
    Panic,
    Error,
    ReturnsEarly,
    Hang,
}

/// Where it fails.
#[derive(Clone, Copy, Debug)]
enum At {
    Barrier,
    AllGather,
    Alloc,
    Signal,
    /// Only the rank after the culprit waits for it; the others wait for each other.
    Ring,
    Close,
}

/// The rank and the step that an error names.
fn blamed(error: &Error) -> (usize, String) {
    match error {
        Error::Timeout { peer, step, .. } | Error::PeerDied { peer, step, .. } => {
            (*peer, step.to_string())
        }
        other => panic!("an error that names no rank: {other}"),
    }
}

/// Takes part in a step; a world that fails is dropped by its caller.
fn take_part(world: &World, buffer: &SymmetricBuffer, at: At) -> Result<()> {
    let (own, num_ranks) = (world.rank_idx(), world.num_ranks());
    match at {
        At::Barrier => world.barrier("test"),
        At::AllGather => world.all_gather("test", &[1, 2, 3]).map(drop),
        At::Alloc => world.alloc_symmetric(100, 1).map(drop),
        At::Signal => {
            for dst in 0..num_ranks {
                buffer.put("test", "exchange", dst, own, &[1])?;
                buffer.signal("test", "exchange", dst, 0, 1)?;
            }
            (0..num_ranks).try_for_each(|src| buffer.wait_signal("test", "exchange", src, 0, 1))
        }
        At::Ring => {
            // Passed from rank to rank, starting after the culprit: only one rank waits for it.
            let previous = (own + num_ranks - 1) % num_ranks;
            if own != CULPRIT {
                buffer.wait_signal("test", "ring", previous, 0, 1)?;
            }
            buffer.signal("test", "ring", (own + 1) % num_ranks, 0, 1)
        }
        At::Close => Ok(()),
    }
}

fn fail(failure: Failure) -> Result<()> {
    match failure {
        Failure::Panic => panic!("this rank panics on purpose"),
        Failure::Error => Err(Error::value("test", "rank", "no failure", "a failure")),
        Failure::ReturnsEarly => Ok(()),
        Failure::Hang => {
            std::thread::sleep(Duration::from_secs(5));
            Ok(())
        }
    }
}

fn every_rank_names_the_culprit(failure: Failure) {
    for at in [At::Barrier, At::AllGather, At::Alloc, At::Signal, At::Ring, At::Close] {
        for ranks_per_node in node_sizes(NUM_RANKS) {
            let case = format!("{failure:?} at {at:?}, {ranks_per_node:?} a node");
            let started = Instant::now();
            let results = World::run_threads(NUM_RANKS, impatient(ranks_per_node), move |world| {
                let buffer = world.alloc_symmetric(64, 1)?;
                world.barrier("test")?;
                if world.rank_idx() == CULPRIT {
                    return fail(failure);
                }
                take_part(&world, &buffer, at)?;
                world.close()
            })
            .expect("a world");
            assert!(started.elapsed() < Duration::from_secs(4), "{case}: not within the timeout");
            let mut steps = Vec::new();
            for (rank, result) in results.iter().enumerate() {
                if rank == CULPRIT {
                    assert_eq!(result.is_ok(), failure == Failure::ReturnsEarly, "{case}: culprit");
                    continue;
                }
                let error = result.as_ref().expect_err(&format!("{case}: rank {rank} must fail"));
                let (peer, step) = blamed(error);
                assert_eq!(peer, CULPRIT, "{case}: rank {rank} says: {error}");
                let is_timeout = matches!(error, Error::Timeout { .. });
                assert_eq!(is_timeout, failure == Failure::Hang, "{case}: rank {rank}: {error}");
                steps.push(step);
            }
            steps.dedup();
            assert_eq!(steps.len(), 1, "{case}: the ranks name different steps {steps:?}");
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
fn every_rank_names_one_that_returns_without_closing() {
    every_rank_names_the_culprit(Failure::ReturnsEarly);
}

#[test]
fn every_rank_names_one_that_hangs() {
    every_rank_names_the_culprit(Failure::Hang);
}

#[test]
fn a_panic_becomes_the_result_of_its_own_rank() {
    let results = World::run_threads(1, impatient(None), |_world| -> Result<()> {
        panic!("a reason of {} words", 4)
    });
    let error = results.expect("a world").remove(0).expect_err("a panic is a failure");
    assert_eq!(
        error.to_string(),
        "World::run_threads: rank 0 died (its thread panicked: a reason of 4 words) while this \
         rank waited for step `return`"
    );
}

#[test]
fn a_hung_rank_that_wakes_up_hears_that_it_was_given_up() {
    for ranks_per_node in node_sizes(2) {
        let mut worlds = World::threads_with(2, impatient(ranks_per_node)).expect("a world");
        let (sleeper, waiter) = (worlds.remove(1), worlds.remove(0));
        let error = waiter.barrier("test").expect_err("the other rank sleeps");
        assert_eq!(blamed(&error), (1, "barrier".into()));
        let own = sleeper.all_gather("test", &[]).expect_err("the world has stopped");
        assert_eq!(blamed(&own), (1, "barrier".into()), "{own}");
    }
}

#[test]
fn ranks_that_wait_for_each_other_all_name_the_same_rank() {
    for ranks_per_node in node_sizes(3) {
        let results = World::run_threads(3, impatient(ranks_per_node), |world| {
            let buffer = world.alloc_symmetric(0, 1)?;
            let next = (world.rank_idx() + 1) % 3;
            buffer.wait_signal("test", "circle", next, 0, 1)
        });
        for result in results.expect("a world") {
            let error = result.expect_err("nobody signals");
            assert_eq!(blamed(&error), (0, "circle".into()), "{error}");
        }
    }
}

#[test]
fn a_put_to_a_node_that_takes_nothing_is_bounded() {
    let results = World::run_threads(2, impatient(Some(1)), |world| {
        let buffer = world.alloc_symmetric(64 << 20, 1)?;
        world.barrier("test")?;
        if world.rank_idx() == 1 {
            return fail(Failure::Hang);
        }
        buffer.put("test", "put", 1, 0, &vec![1; 64 << 20])
    });
    let error = results.expect("a world").remove(0).expect_err("nobody receives");
    assert_eq!(blamed(&error), (1, "put".into()), "{error}");
}

#[test]
fn the_survivors_go_on_once_the_dead_rank_is_masked_out() {
    for ranks_per_node in node_sizes(NUM_RANKS) {
        let results = World::run_threads(NUM_RANKS, impatient(ranks_per_node), |world| {
            let old = world.alloc_symmetric(64, 1)?;
            if world.rank_idx() == CULPRIT {
                return fail(Failure::Error);
            }
            world.barrier("first").expect_err("a rank is dead");
            // Survivors need not have begun equally many operations.
            for _ in 0..world.rank_idx() {
                world.all_gather("again", &[]).expect_err("it stays dead");
            }
            world.set_rank_mask(&[true, true, false, true])?;
            old.put("test", "put", CULPRIT, 0, &[1])?;
            old.signal("test", "signal", CULPRIT, 0, 1)?;
            old.wait_signal("test", "signal", CULPRIT, 0, 1)?;

            let parts = world.all_gather("test", &[7])?;
            assert_eq!(parts, [vec![7], vec![7], vec![], vec![7]]);
            let buffer = world.alloc_symmetric(64, 1)?;
            assert_eq!(buffer.peer_ptr(CULPRIT), None);
            take_part(&world, &buffer, At::Signal)?;
            world.barrier("last")?;
            world.close()
        });
        for (rank, result) in results.expect("a world").into_iter().enumerate() {
            assert_eq!(result.is_ok(), rank != CULPRIT, "{ranks_per_node:?}, {rank}: {result:?}");
        }
    }
}

#[test]
fn a_second_death_is_named_after_the_first_was_masked_out() {
    let results = World::run_threads(4, impatient(None), |world| {
        if world.rank_idx() == 3 {
            return fail(Failure::Error);
        }
        world.barrier("first").expect_err("rank 3 is dead");
        world.set_rank_mask(&[true, true, true, false])?;
        world.barrier("between")?;
        if world.rank_idx() == 1 {
            return fail(Failure::Panic);
        }
        world.barrier("second")
    });
    let results = results.expect("a world");
    for rank in [0, 2] {
        let error = results[rank].as_ref().expect_err("rank 1 is dead");
        assert_eq!(blamed(error), (1, "barrier".into()), "rank {rank}: {error}");
    }
}

#[test]
fn the_first_record_of_a_failure_counts_until_its_culprit_is_masked_out() {
    let worlds = World::threads(3).expect("a world");
    let record = |culprit, reporter| AbortRecord { culprit, reporter, ..AbortRecord::zeroed() };
    let (first, second) = (record(2, 0), record(0, 1));
    assert!(worlds[0].rank().publish_abort(&first) == first);
    assert!(worlds[1].rank().publish_abort(&second) == first, "the first counts");
    assert!(worlds[1].rank().abort() == Some(first));
    worlds[1].set_rank_mask(&[true, true, false]).expect("a mask");
    assert!(worlds[1].rank().abort().is_none(), "a masked-out culprit is of no concern");
    assert!(worlds[1].rank().publish_abort(&second) == second);
    // Nor is what a masked-out rank has to report.
    assert!(worlds[0].rank().abort() == Some(second));
    worlds[0].set_rank_mask(&[true, false, true]).expect("a mask");
    assert!(worlds[0].rank().abort().is_none());
}

#[test]
fn a_masked_out_rank_that_lives_can_only_close() {
    let results = World::run_threads(3, impatient(None), |world| {
        world.set_rank_mask(&[true, false, true])?;
        assert!(!world.is_active(1));
        if world.rank_idx() == 1 {
            let refused = world.barrier("test").expect_err("masked out");
            assert!(matches!(refused, Error::Value { arg: "rank_mask", .. }), "{refused}");
            return world.close();
        }
        world.barrier("test")?;
        world.close()
    });
    for result in results.expect("a world") {
        result.expect("nobody waits for rank 1");
    }
}
