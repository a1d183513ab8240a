//! Barrier, all-gather, symmetric buffers.

use moekit::comm::World;
use moekit::{Error, Result};

use super::Case;

pub const CASES: &[Case] = &[
    ("a_barrier_lets_nobody_pass_before_the_last_arrives", barrier),
    ("all_gather_returns_ragged_lengths_in_rank_order", ragged_all_gather),
    ("puts_are_there_when_their_signal_is", puts),
    ("a_put_larger_than_what_may_be_under_way_arrives", large_put),
    ("direct_writes_are_there_when_their_signal_is", direct_writes),
    ("a_token_goes_round_the_ring", ring),
    ("a_fresh_buffer_is_zero", fresh_buffer),
    ("many_buffers_come_and_go", many_buffers),
    ("differing_extents_are_refused_on_every_rank_and_name_the_deviant", differing_extents),
    ("a_buffer_beyond_the_machine_is_out_of_memory_on_every_rank", beyond_the_machine),
    ("a_masked_out_rank_is_not_waited_for", masked_rank),
];

fn barrier(world: &World) -> Result<()> {
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
}

fn ragged_all_gather(world: &World) -> Result<()> {
    for round in 0..20 {
        // Empty, short, and longer than one message.
        let length = |rank: usize| [0, 5, 3_000_000][(rank + round) % 3] * usize::from(round < 3);
        let own = vec![world.rank_idx() as u8; length(world.rank_idx())];
        let parts = world.all_gather("test", &own)?;
        for (rank, part) in parts.iter().enumerate() {
            assert_eq!(part.len(), length(rank), "round {round}, rank {rank}");
            assert!(part.iter().all(|&byte| byte == rank as u8), "round {round}, rank {rank}");
        }
    }
    Ok(())
}

fn pattern(byte_idx: usize, rank_idx: usize, round: u64) -> u8 {
    (byte_idx as u64 * 31 + rank_idx as u64 + round) as u8
}

/// Every rank to every rank, in rounds that reuse the memory.
fn puts(world: &World) -> Result<()> {
    // Several messages, the last one short.
    const NUM_BYTES: usize = 2_500_001;
    let (own, num_ranks) = (world.rank_idx(), world.num_ranks());
    let buffer = world.alloc_symmetric(NUM_BYTES * num_ranks, 2)?;
    for round in 1..4 {
        let data: Vec<u8> = (0..NUM_BYTES).map(|byte| pattern(byte, own, round)).collect();
        for dst in 0..num_ranks {
            buffer.put("test", "put", dst, own * NUM_BYTES, &data)?;
            buffer.signal("test", "sent", dst, 0, round)?;
        }
        for src in 0..num_ranks {
            buffer.wait_signal("test", "sent", src, 0, round)?;
            // SAFETY: `src` has written this range, and waits for our signal before it writes
            // again.
            let got = unsafe {
                std::slice::from_raw_parts(buffer.local_ptr().add(src * NUM_BYTES), NUM_BYTES)
            };
            let wrong = (0..NUM_BYTES).find(|&byte| got[byte] != pattern(byte, src, round));
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
}

fn large_put(world: &World) -> Result<()> {
    const NUM_BYTES: usize = 80 << 20;
    let (own, num_ranks) = (world.rank_idx(), world.num_ranks());
    let last = num_ranks - 1;
    let buffer = world.alloc_symmetric(NUM_BYTES, 1)?;
    if own == 0 {
        let data: Vec<u8> = (0..NUM_BYTES).map(|byte| pattern(byte, own, 9)).collect();
        buffer.put("test", "put", last, 0, &data)?;
        buffer.signal("test", "sent", last, 0, 1)?;
    }
    if own == last {
        buffer.wait_signal("test", "sent", 0, 0, 1)?;
        // SAFETY: rank 0 has written the whole buffer, and writes it no more.
        let got = unsafe { std::slice::from_raw_parts(buffer.local_ptr(), NUM_BYTES) };
        let wrong = (0..NUM_BYTES).find(|&byte| got[byte] != pattern(byte, 0, 9));
        assert_eq!(wrong, None, "first wrong byte");
    }
    world.barrier("test")
}

fn direct_writes(world: &World) -> Result<()> {
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
    world.barrier("test")
}

/// Each rank adds its index to what it received and passes it on.
fn ring(world: &World) -> Result<()> {
    let (own, num_ranks) = (world.rank_idx(), world.num_ranks());
    let (previous, next) = ((own + num_ranks - 1) % num_ranks, (own + 1) % num_ranks);
    let buffer = world.alloc_symmetric(8, 1)?;
    for round in 1..100 {
        let mut sum = 0;
        if own != 0 {
            buffer.wait_signal("test", "ring", previous, 0, round)?;
            // SAFETY: `previous` has written the word, and waits for the round to end.
            sum = unsafe { buffer.local_ptr().cast::<u64>().read() };
        }
        buffer.put("test", "ring", next, 0, &(sum + own as u64 + round).to_le_bytes())?;
        buffer.signal("test", "ring", next, 0, round)?;
        if own == 0 {
            buffer.wait_signal("test", "ring", previous, 0, round)?;
            // SAFETY: as above.
            sum = unsafe { buffer.local_ptr().cast::<u64>().read() };
            let num_ranks = num_ranks as u64;
            assert_eq!(sum, num_ranks * (num_ranks - 1) / 2 + num_ranks * round, "round {round}");
        }
        world.barrier("test")?;
    }
    Ok(())
}

fn fresh_buffer(world: &World) -> Result<()> {
    let buffer = world.alloc_symmetric(3 << 20, 3)?;
    assert_eq!((buffer.num_bytes(), buffer.num_signals()), (3 << 20, 3));
    // SAFETY: nobody writes to this buffer.
    let bytes = unsafe { std::slice::from_raw_parts(buffer.local_ptr(), buffer.num_bytes()) };
    assert!(bytes.iter().all(|&byte| byte == 0));
    for src in 0..world.num_ranks() {
        assert!((0..3).all(|signal| buffer.read_signal(src, signal) == 0), "rank {src}");
    }
    Ok(())
}

fn many_buffers(world: &World) -> Result<()> {
    let kept = world.alloc_symmetric(8, 1)?;
    for round in 1..20 {
        let buffer = world.alloc_symmetric(1 << 16, 1)?;
        for dst in 0..world.num_ranks() {
            kept.signal("test", "kept", dst, 0, round)?;
            buffer.signal("test", "fresh", dst, 0, round)?;
        }
        // Each is dropped while others may still write to their view of it.
        for src in 0..world.num_ranks() {
            kept.wait_signal("test", "kept", src, 0, round)?;
        }
    }
    Ok(())
}

fn differing_extents(world: &World) -> Result<()> {
    let deviant = world.num_ranks() - 1;
    if deviant == 0 {
        return Ok(());
    }
    let is_deviant = world.rank_idx() == deviant;
    let bytes = world.alloc_symmetric(if is_deviant { 65 } else { 64 }, 1);
    let signals = world.alloc_symmetric(64, if is_deviant { 1 } else { 2 });
    assert_eq!(
        bytes.expect_err("sizes differ").to_string(),
        format!("alloc_symmetric: `num_bytes` is 65 on rank {deviant}, expected 64 as on rank 0")
    );
    assert_eq!(
        signals.expect_err("signals differ").to_string(),
        format!("alloc_symmetric: `num_signals` is 1 on rank {deviant}, expected 2 as on rank 0")
    );
    Ok(())
}

fn beyond_the_machine(world: &World) -> Result<()> {
    for num_bytes in [1 << 50, usize::MAX - 8] {
        let error = world.alloc_symmetric(num_bytes, 1).expect_err("too large");
        assert!(matches!(error, Error::OutOfMemory { .. }), "{error}");
    }
    // Room on one rank alone is not enough; the failure leaves the world usable.
    world.barrier("test")
}

/// The masked-out rank takes no part, and comes back.
fn masked_rank(world: &World) -> Result<()> {
    let num_ranks = world.num_ranks();
    let masked = num_ranks - 1;
    if masked == 0 {
        return Ok(());
    }
    let old = world.alloc_symmetric(8, 1)?;
    let mask: Vec<bool> = (0..num_ranks).map(|rank| rank != masked).collect();
    world.set_rank_mask(&mask)?;
    if world.rank_idx() == masked {
        let refused = world.barrier("test").expect_err("masked out");
        assert!(matches!(refused, Error::Value { arg: "rank_mask", .. }), "{refused}");
    } else {
        assert!(!world.is_active(masked));
        world.barrier("test")?;
        let parts = world.all_gather("test", &[7])?;
        let lengths: Vec<_> = parts.iter().map(Vec::len).collect();
        assert_eq!(lengths, mask.iter().map(|&active| usize::from(active)).collect::<Vec<_>>());
        old.wait_signal("test", "never", masked, 0, 1)?;
        let fresh = world.alloc_symmetric(8, 1)?;
        assert_eq!(fresh.peer_ptr(masked), None);
        fresh.put("test", "put", masked, 0, &[1])?;
        fresh.signal("test", "signal", masked, 0, 1)?;
    }
    world.set_rank_mask(&vec![true; num_ranks])?;
    world.barrier("test")
}
