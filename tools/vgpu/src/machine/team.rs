//! The clusters of a launch on several host threads. A cluster stays on one thread; those that live at
//! the same time wait for each other through memory alone, whose accesses are atomic.

use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::grid::{Cluster, Grid};
use crate::asynchrony::Asynchrony;
use crate::checks::Checks;
use crate::fault::Fault;
use crate::program::inst::Op;

/// Instructions after which a launch is worth another thread.
const SPREAD_AFTER: u64 = 20_000;

/// What the threads of a launch share.
pub(super) struct Queue {
    /// Clusters along each dimension.
    pub counts: [u32; 3],
    total: u64,
    next: AtomicU64,
    /// Instructions of all threads.
    spent: AtomicU64,
    is_stopped: AtomicBool,
}

impl Queue {
    fn new(counts: [u32; 3]) -> Self {
        Queue {
            counts,
            total: counts.iter().map(|n| u64::from(*n)).product(),
            next: AtomicU64::new(0),
            spent: AtomicU64::new(0),
            is_stopped: AtomicBool::new(false),
        }
    }

    /// The next cluster that has not begun.
    pub(super) fn take(&self) -> Option<u64> {
        if self.next.load(Ordering::Relaxed) >= self.total {
            return None;
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        (number < self.total).then_some(number)
    }

    /// Clusters that have not begun.
    pub(super) fn num_left(&self) -> u64 {
        self.total.saturating_sub(self.next.load(Ordering::Relaxed))
    }

    /// Counts instructions and returns those of the whole launch.
    pub(super) fn spend(&self, instructions: u64) -> u64 {
        self.spent.fetch_add(instructions, Ordering::Relaxed) + instructions
    }

    /// Some thread has met a fault.
    pub(super) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Relaxed)
    }
}

impl<'g> Grid<'g> {
    /// Runs the launch to its end.
    pub(crate) fn run(&mut self) -> Result<(), Box<Fault>> {
        let queue = Queue::new([0, 1, 2].map(|i| self.shape.grid[i] / self.shape.cluster[i]));
        let mut resident = Vec::new();
        let threads = self.num_threads();
        let budget = if threads > 1 { SPREAD_AFTER } else { u64::MAX };
        self.work(&queue, &mut resident, self.shape.resident, budget)?;
        let left = resident.len() as u64 + queue.num_left();
        if left > 0 {
            let threads = threads.min(left.min(self.shape.resident as u64) as usize);
            self.spread(&queue, resident, threads.max(1))?;
        }
        Ok(())
    }

    /// Host threads for the launch. One if a run must replay, be checked or be counted by place, if text
    /// must come in order, and if the grids before and behind overlap.
    fn num_threads(&self) -> usize {
        let prints = |op: &Op| matches!(op, Op::Printf);
        let shape = self.shape;
        let is_random = matches!(shape.asynchrony, Asynchrony::Random(_));
        let overlaps = shape.front.is_some() || shape.dependents.is_some();
        let is_watched = shape.checks != Checks::NONE || shape.counts || shape.timeline;
        if is_random
            || overlaps
            || is_watched
            || self.kernel.code.iter().any(|inst| prints(&inst.op))
        {
            return 1;
        }
        match self.shape.host_threads {
            0 => std::thread::available_parallelism().map_or(1, NonZero::get),
            threads => threads,
        }
    }

    /// Deals the living clusters to threads; each begins new ones when it has room.
    fn spread(
        &mut self,
        queue: &Queue,
        resident: Vec<Cluster>,
        threads: usize,
    ) -> Result<(), Box<Fault>> {
        let mut hands: Vec<Vec<Cluster>> = (0..threads).map(|_| Vec::new()).collect();
        for (i, cluster) in resident.into_iter().enumerate() {
            hands[i % threads].push(cluster);
        }
        let all = self.shape.resident;
        let capacity = |i: usize| all / threads + usize::from(i < all % threads);
        let run = |grid: &mut Grid<'g>, i: usize, mut hand: Vec<Cluster>| {
            let result = grid.work(queue, &mut hand, capacity(i), u64::MAX);
            if result.is_err() {
                queue.is_stopped.store(true, Ordering::Relaxed);
            }
            result
        };
        let mut hands = hands.into_iter().enumerate();
        let first = hands.next();
        let mut results = Vec::with_capacity(threads);
        std::thread::scope(|scope| {
            let helpers: Vec<_> = hands
                .map(|(i, hand)| {
                    let mut grid = self.sibling();
                    scope.spawn(move || {
                        let result = run(&mut grid, i, hand);
                        (grid, result)
                    })
                })
                .collect();
            if let Some((i, hand)) = first {
                results.push(run(self, i, hand));
            }
            for helper in helpers {
                match helper.join() {
                    Ok((grid, result)) => {
                        self.absorb(&grid);
                        results.push(result);
                    }
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
        });
        // Of several faults, that of the lowest block.
        let place =
            |fault: &Fault| fault.at.as_ref().map(|at| [at.block[2], at.block[1], at.block[0]]);
        let faults = results.into_iter().filter_map(Result::err);
        faults.min_by_key(|fault| place(fault)).map_or(Ok(()), Err)
    }
}
