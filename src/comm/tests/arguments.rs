//! Where ranks stand, what is refused; tests/world has what arrives.

use std::time::Duration;

use crate::comm::{World, WorldOptions};
use crate::error::Error;

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
fn an_empty_world_an_empty_node_and_an_absurd_number_of_threads_are_refused() {
    for num_ranks in [0, 1025, usize::MAX] {
        assert!(matches!(World::threads(num_ranks), Err(Error::Value { arg: "num_ranks", .. })));
    }
    let options = WorldOptions { ranks_per_node: Some(0), ..WorldOptions::default() };
    let world = World::threads_with(2, options);
    assert!(matches!(world, Err(Error::Value { arg: "ranks_per_node", .. })));
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
fn a_timeout_may_lie_beyond_the_clock() {
    let options = WorldOptions { timeout: Duration::MAX, ..WorldOptions::default() };
    let results = World::run_threads(2, options, |world| {
        // Long enough that the other rank looks for failures meanwhile.
        std::thread::sleep(Duration::from_millis(20) * world.rank_idx() as u32);
        world.barrier("test")?;
        world.close()
    });
    for result in results.expect("a world") {
        result.expect("no rank fails");
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
