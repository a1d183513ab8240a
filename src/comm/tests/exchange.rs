//! What arrives when nothing fails.

use super::{impatient, node_sizes};
use crate::comm::{World, WorldOptions};
use crate::error::{Error, Result};

/// Runs `f` on every rank count and node size, and expects success on every rank.
fn everywhere(f: impl Fn(&World) -> Result<()> + Send + Sync + Clone + 'static) {
    for num_ranks in [1, 2, 3, 8] {
        for ranks_per_node in node_sizes(num_ranks) {
            let f = f.clone();
            let options = WorldOptions { ranks_per_node, ..WorldOptions::default() };
            let results = World::run_threads(num_ranks, options, move |world| {
                f(&world)?;
                world.close()
            });
            for (rank_idx, result) in results.expect("a world").into_iter().enumerate() {
                if let Err(error) = result {
                    panic!(
                        "{num_ranks} ranks, {ranks_per_node:?} a node, rank {rank_idx}: {error}"
                    );
                }
            }
        }
    }
}

#[test]
fn ranks_know_their_place() {
    let options = WorldOptions { ranks_per_node: Some(3), ..WorldOptions::default() };
    let worlds = World::threads_with(8, options).expect("a world");
    let world = &worlds[4];
    assert_eq!((world.rank_idx(), world.num_ranks(), world.num_nodes()), (4, 8, 3));
    let nodes: Vec<_> = (0..9).map(|rank| world.node_of(rank)).collect();
    assert_eq!(nodes, [0, 0, 0, 1, 1, 1, 2, 2, 3]);
    let local: Vec<_> = (0..9).filter(|&rank| world.is_local(rank)).collect();
    assert_eq!(local, [3, 4, 5]);
}

#[test]
fn an_empty_world_and_an_empty_node_are_refused() {
    assert!(matches!(World::threads(0), Err(Error::Value { arg: "num_ranks", .. })));
    let options = WorldOptions { ranks_per_node: Some(0), ..WorldOptions::default() };
    let world = World::threads_with(2, options);
    assert!(matches!(world, Err(Error::Value { arg: "ranks_per_node", .. })));
}

#[test]
fn all_gather_returns_ragged_lengths_in_rank_order() {
    everywhere(|world| {
        for round in 0..20 {
            // Empty, short, and longer than one frame.
            let length =
                |rank: usize| [0, 5, 3_000_000][(rank + round) % 3] * usize::from(round < 3);
            let own = vec![world.rank_idx() as u8; length(world.rank_idx())];
            let parts = world.all_gather("test", &own)?;
            for (rank, part) in parts.iter().enumerate() {
                assert_eq!(part.len(), length(rank), "round {round}, rank {rank}");
                assert!(part.iter().all(|&byte| byte == rank as u8), "round {round}, rank {rank}");
            }
        }
        Ok(())
    });
}

#[test]
fn a_barrier_lets_nobody_pass_before_the_last_arrives() {
    everywhere(|world| {
        let buffer = world.alloc_symmetric(0, 1)?;
        for round in 1..50 {
            for dst in 0..world.num_ranks() {
                buffer.signal("test", "round", dst, 0, round)?;
            }
            world.barrier("test")?;
            for src in (0..world.num_ranks()).filter(|&src| world.is_local(src)) {
                assert!(buffer.read_signal(src, 0) >= round, "round {round}, rank {src}");
            }
        }
        Ok(())
    });
}

#[test]
fn puts_are_there_when_their_signal_is() {
    everywhere(|world| {
        let (own, num_ranks) = (world.rank_idx(), world.num_ranks());
        const NUM_BYTES: usize = 2_500_001;
        let buffer = world.alloc_symmetric(NUM_BYTES * num_ranks, 2)?;
        for round in 1..4u64 {
            let data: Vec<u8> =
                (0..NUM_BYTES).map(|byte| (byte as u64 * 31 + own as u64 + round) as u8).collect();
            for dst in 0..num_ranks {
                buffer.put("test", "put", dst, own * NUM_BYTES, &data)?;
                buffer.signal("test", "sent", dst, 0, round)?;
            }
            for src in 0..num_ranks {
                buffer.wait_signal("test", "sent", src, 0, round)?;
                // SAFETY: `src` has written this range, and waits for our signal before the next
                // round.
                let got = unsafe {
                    std::slice::from_raw_parts(buffer.local_ptr().add(src * NUM_BYTES), NUM_BYTES)
                };
                let wrong = (0..NUM_BYTES)
                    .find(|&byte| got[byte] != (byte as u64 * 31 + src as u64 + round) as u8);
                assert_eq!(wrong, None, "round {round}: first wrong byte from rank {src}");
            }
            for dst in 0..num_ranks {
                buffer.signal("test", "read", dst, 1, round)?;
            }
            for src in 0..num_ranks {
                buffer.wait_signal("test", "read", src, 1, round)?;
            }
        }
        Ok(())
    });
}

#[test]
fn direct_writes_are_there_when_their_signal_is() {
    everywhere(|world| {
        let (own, num_ranks) = (world.rank_idx(), world.num_ranks());
        let buffer = world.alloc_symmetric(8 * num_ranks, 1)?;
        assert_eq!(buffer.local_ptr().align_offset(4096), 0);
        assert_eq!(buffer.peer_ptr(own), Some(buffer.local_ptr()));
        assert_eq!(buffer.peer_ptr(num_ranks), None);
        for dst in 0..num_ranks {
            assert_eq!(buffer.peer_ptr(dst).is_some(), world.is_local(dst), "rank {dst}");
            if let Some(peer) = buffer.peer_ptr(dst) {
                // SAFETY: each rank writes its own eight bytes of the peer's buffer.
                unsafe { peer.cast::<u64>().add(own).write(own as u64 + 7) };
                buffer.signal("test", "sent", dst, 0, 1)?;
            }
        }
        for src in (0..num_ranks).filter(|&src| world.is_local(src)) {
            buffer.wait_signal("test", "sent", src, 0, 1)?;
            // SAFETY: `src` has written this word, and writes it no more.
            assert_eq!(unsafe { buffer.local_ptr().cast::<u64>().add(src).read() }, src as u64 + 7);
        }
        Ok(())
    });
}

#[test]
fn a_buffer_outlives_its_world_and_starts_as_zeros() {
    let results = World::run_threads(2, WorldOptions::default(), |world| {
        let buffer = world.alloc_symmetric(10_000, 3)?;
        world.close()?;
        // SAFETY: nobody writes after the close.
        let bytes = unsafe { std::slice::from_raw_parts(buffer.local_ptr(), buffer.num_bytes()) };
        Ok((buffer.num_signals(), bytes.iter().all(|&byte| byte == 0), buffer.read_signal(1, 2)))
    });
    for result in results.expect("a world") {
        assert_eq!(result.expect("a rank's result"), (3, true, 0));
    }
}

#[test]
fn differing_extents_are_refused_on_every_rank_and_name_the_deviant() {
    for ranks_per_node in node_sizes(4) {
        let results = World::run_threads(4, impatient(ranks_per_node), |world| {
            let is_deviant = world.rank_idx() == 2;
            let bytes = world.alloc_symmetric(if is_deviant { 65 } else { 64 }, 1);
            let signals = world.alloc_symmetric(64, if is_deviant { 1 } else { 2 });
            world.close()?;
            Ok((bytes.map(drop), signals.map(drop)))
        });
        for result in results.expect("a world") {
            let (bytes, signals) = result.expect("the world survives");
            assert_eq!(
                bytes.expect_err("sizes differ").to_string(),
                "alloc_symmetric: `num_bytes` is 65 on rank 2, expected 64 as on rank 0"
            );
            assert_eq!(
                signals.expect_err("signals differ").to_string(),
                "alloc_symmetric: `num_signals` is 1 on rank 2, expected 2 as on rank 0"
            );
        }
    }
}

#[test]
fn a_buffer_beyond_the_machine_is_out_of_memory_on_every_rank() {
    for num_bytes in [1 << 50, usize::MAX - 8] {
        let results = World::run_threads(2, WorldOptions::default(), move |world| {
            let buffer = world.alloc_symmetric(num_bytes, 1);
            world.close()?;
            Ok(buffer.map(drop))
        });
        for result in results.expect("a world") {
            let error = result.expect("the world survives").expect_err("too large");
            assert!(matches!(error, Error::OutOfMemory { .. }), "{error}");
        }
    }
}

#[test]
fn what_lies_outside_is_refused() {
    let mut worlds = World::threads(1).expect("a world");
    let world = worlds.remove(0);
    let buffer = world.alloc_symmetric(16, 1).expect("a buffer");
    let put = |rank, offset, len| buffer.put("test", "step", rank, offset, &vec![0; len]);
    assert!(put(0, 8, 8).is_ok());
    assert!(matches!(put(0, 8, 9), Err(Error::Capacity { needed: 17, capacity: 16, .. })));
    assert!(matches!(put(0, usize::MAX, 1), Err(Error::Capacity { .. })));
    assert!(matches!(put(1, 0, 1), Err(Error::Value { arg: "dst_rank_idx", .. })));
    let signal = |rank, signal| buffer.signal("test", "step", rank, signal, 1);
    assert!(matches!(signal(1, 0), Err(Error::Value { arg: "dst_rank_idx", .. })));
    assert!(matches!(signal(0, 1), Err(Error::Value { arg: "signal_idx", .. })));
    let wait = |rank, signal| buffer.wait_signal("test", "step", rank, signal, 1);
    assert!(matches!(wait(1, 0), Err(Error::Value { arg: "src_rank_idx", .. })));
    assert!(matches!(wait(0, 1), Err(Error::Value { arg: "signal_idx", .. })));
    assert_eq!(buffer.read_signal(1, 0), 0);
    assert!(matches!(world.set_rank_mask(&[]), Err(Error::Shape { .. })));
    world.close().expect("a close");
}
