//! Ranks as threads of this process.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use rayon::{ThreadPool, ThreadPoolBuilder};

use super::control::CONTROL_BYTES;
use super::engine::Engine;
use super::rank::{Neighbours, Rank, RankParts, Ticket};
use super::segment::Segment;
use super::transport::channels;
use super::world::{World, WorldOptions};
use crate::error::{Error, Result};

/// Segments that threads offer to each other, by buffer and rank.
#[derive(Default)]
struct Board {
    segments: Mutex<HashMap<(u64, usize), Weak<Segment>>>,
}

/// One thread's access to the board.
struct ThreadNeighbours {
    rank_idx: usize,
    board: Arc<Board>,
}

impl Neighbours for ThreadNeighbours {
    fn allocate(&self, op: &'static str, num_bytes: usize) -> Result<Segment> {
        Segment::anonymous(op, "num_bytes", num_bytes)
    }

    fn offer(&self, buffer_id: u64, segment: &Arc<Segment>) -> Result<Ticket> {
        let mut segments = self.board.segments.lock().unwrap_or_else(PoisonError::into_inner);
        segments.retain(|_, segment| segment.strong_count() > 0);
        segments.insert((buffer_id, self.rank_idx), Arc::downgrade(segment));
        Ok(Ticket::default())
    }

    fn attach(&self, buffer_id: u64, src: usize, _ticket: Ticket) -> Result<Arc<Segment>> {
        let segments = self.board.segments.lock().unwrap_or_else(PoisonError::into_inner);
        segments.get(&(buffer_id, src)).and_then(Weak::upgrade).ok_or_else(|| Error::Unavailable {
            op: "alloc_symmetric",
            what: "a peer's memory",
            reason: format!("rank {src} gave it up"),
        })
    }

    /// A thread's end shows in its status: its world is dropped while it unwinds or returns.
    fn find_ended(&self, _ranks: &mut dyn Iterator<Item = usize>) -> Option<usize> {
        None
    }
}

/// Makes the worlds of `num_ranks` threads.
pub(super) fn worlds(num_ranks: usize, options: &WorldOptions) -> Result<Vec<World>> {
    const OP: &str = "World::threads";
    if num_ranks == 0 {
        return Err(Error::value(OP, "num_ranks", "at least 1", num_ranks));
    }
    let ranks_per_node = options.checked_ranks_per_node(OP)?.unwrap_or(num_ranks);
    let node_of: Vec<usize> = (0..num_ranks).map(|rank| rank / ranks_per_node).collect();
    let page = || Segment::anonymous(OP, "control page", CONTROL_BYTES).map(Arc::new);
    let shared = (0..num_ranks).map(|_| page()).collect::<Result<Vec<_>>>()?;
    let board = Arc::new(Board::default());

    let make = |(rank_idx, transport)| {
        let control = |peer: usize| {
            if node_of[peer] == node_of[rank_idx] { Ok(Arc::clone(&shared[peer])) } else { page() }
        };
        Ok(World::new(Rank::new(RankParts {
            rank_idx,
            node_of: node_of.clone(),
            options: options.clone(),
            controls: (0..num_ranks).map(control).collect::<Result<_>>()?,
            neighbours: Box::new(ThreadNeighbours { rank_idx, board: Arc::clone(&board) }),
            engine: Engine::new(transport, num_ranks),
        })))
    };
    let mut worlds = Vec::with_capacity(num_ranks);
    for (rank_idx, transport) in channels(num_ranks).into_iter().enumerate() {
        worlds.push(make((rank_idx, transport))?);
    }
    Ok(worlds)
}

/// Runs `f` once per rank, each on its own thread; see [`World::run_threads`].
pub(super) fn run<T, F>(num_ranks: usize, options: WorldOptions, f: F) -> Result<Vec<Result<T>>>
where
    F: Fn(World) -> Result<T> + Send + Sync + 'static,
    T: Send + 'static,
{
    let worlds = worlds(num_ranks, &options)?;
    let ranks: Vec<Arc<Rank>> = worlds.iter().map(World::rank).collect();
    let f = Arc::new(f);
    let (sender, receiver) = channel();
    for world in worlds {
        let (f, sender, rank_idx) = (Arc::clone(&f), sender.clone(), world.rank_idx());
        let pool = pool(rank_idx, num_ranks)?;
        let body = move || {
            let outcome = catch_unwind(AssertUnwindSafe(|| pool.install(|| f(world))));
            let outcome = outcome.unwrap_or_else(|panic| Err(panicked(rank_idx, &*panic)));
            // The caller has given up on this rank if it no longer listens.
            let _ = sender.send((rank_idx, outcome));
        };
        std::thread::Builder::new()
            .name(format!("rank {rank_idx}"))
            .spawn(body)
            .map_err(|error| Error::io("World::run_threads", "thread", error))?;
    }
    drop(sender);

    let mut outcomes: Vec<Option<Result<T>>> = (0..num_ranks).map(|_| None).collect();
    let mut first_failure: Option<Instant> = None;
    while outcomes.iter().any(Option::is_none) {
        // Short, because a rank may fail without returning.
        match receiver.recv_timeout(Duration::from_millis(10)) {
            Ok((rank_idx, outcome)) => outcomes[rank_idx] = Some(outcome),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        let failed = outcomes.iter().flatten().any(Result::is_err)
            || ranks.iter().any(|rank| rank.own_status().cause_of_death().is_some());
        if failed {
            let since = first_failure.get_or_insert_with(Instant::now);
            if since.elapsed() > options.timeout {
                break;
            }
        }
    }
    let waited = first_failure.map_or(Duration::ZERO, |since| since.elapsed());
    let hung = |(peer, outcome): (usize, Option<Result<T>>)| {
        outcome.unwrap_or_else(|| {
            Err(Error::Timeout {
                op: "World::run_threads".into(),
                step: "return".into(),
                peer,
                expected: 1,
                got: 0,
                waited,
            })
        })
    };
    Ok(outcomes.into_iter().enumerate().map(hung).collect())
}

/// A rank's share of the cores. The rank itself runs on one of these threads, so that its stages start
/// without a queue between.
fn pool(rank_idx: usize, num_ranks: usize) -> Result<ThreadPool> {
    let num_cores = std::thread::available_parallelism().map_or(1, usize::from);
    ThreadPoolBuilder::new()
        .num_threads((num_cores / num_ranks).max(1))
        .thread_name(move |idx| format!("rank {rank_idx} thread {idx}"))
        .build()
        .map_err(|error| Error::Unavailable {
            op: "World::run_threads",
            what: "threads",
            reason: error.to_string(),
        })
}

fn panicked(peer: usize, panic: &(dyn std::any::Any + Send)) -> Error {
    let message = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    Error::PeerDied {
        op: "World::run_threads".into(),
        step: "return".into(),
        peer,
        cause: format!("its thread panicked: {message}"),
    }
}
