//! One rank's handle.

use std::sync::Arc;
use std::time::Duration;

use super::alloc::alloc_symmetric;
use super::control::Status;
use super::rank::Rank;
use super::symmetric::SymmetricBuffer;
use super::threads;
use crate::error::{Error, Result};

/// How the ranks of a world wait and group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorldOptions {
    /// Longest that any wait lasts before it ends with an error; 30 s by default.
    pub timeout: Duration,
    /// Treats every this many consecutive ranks of a machine as a node of their own, so that the
    /// path between nodes runs on one machine; `None` (default): a machine is a node.
    pub ranks_per_node: Option<usize>,
}

impl Default for WorldOptions {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(30), ranks_per_node: None }
    }
}

impl WorldOptions {
    pub(super) fn checked_ranks_per_node(&self, op: &'static str) -> Result<Option<usize>> {
        match self.ranks_per_node {
            Some(0) => Err(Error::value(op, "ranks_per_node", "at least 1", 0)),
            ranks_per_node => Ok(ranks_per_node),
        }
    }
}

/// One rank's handle on the group of ranks that compute together.
///
/// Ranks are threads of one process ([`threads`](Self::threads)) or processes under MPI
/// (`World::mpi`, feature `mpi`); the rest of the crate does not see which. The ranks of a *node*
/// share memory; between nodes, data travels in messages.
///
/// Collective operations ([`barrier`](Self::barrier), [`all_gather`](Self::all_gather),
/// [`alloc_symmetric`](Self::alloc_symmetric), [`close`](Self::close)) are called by every active
/// rank in the same order.
///
/// # Errors
///
/// Every wait is bounded by [`WorldOptions::timeout`], and no failure stays with one rank. A rank
/// that panics, ends, or drops its world without `close` makes the waits of all others end with
/// [`Error::PeerDied`]; one that does not come in time, with [`Error::Timeout`]. All name the same
/// rank and the step that it did not reach: the first record of a failure counts for all. A world
/// that failed so stays failed, until the rank at fault is masked out by
/// [`set_rank_mask`](Self::set_rank_mask). Between nodes a process that was killed is seen by its
/// own node, or by the timeout.
///
/// # Examples
///
/// ```
/// use moekit::comm::{World, WorldOptions};
///
/// let totals = World::run_threads(3, WorldOptions::default(), |world| {
///     let parts = world.all_gather("example", &[world.rank_idx() as u8])?;
///     world.close()?;
///     Ok(parts.concat())
/// })?;
/// assert!(totals.into_iter().all(|total| total.is_ok_and(|total| total == [0, 1, 2])));
/// # Ok::<(), moekit::Error>(())
/// ```
pub struct World {
    rank: Arc<Rank>,
    is_closed: bool,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World")
            .field("rank_idx", &self.rank_idx())
            .field("num_ranks", &self.num_ranks())
            .field("num_nodes", &self.num_nodes())
            .finish()
    }
}

impl World {
    pub(super) fn new(rank: Rank) -> Self {
        Self { rank: Arc::new(rank), is_closed: false }
    }

    pub(super) fn rank(&self) -> Arc<Rank> {
        Arc::clone(&self.rank)
    }

    /// Makes a world of `num_ranks` ranks in this process; each handle goes to a thread of its own.
    ///
    /// On the cpu, a rank computes on the threads of the rayon pool that its thread belongs to. From a thread
    /// of no pool each stage goes through the global pool's queue, which all such ranks share.
    ///
    /// # Errors
    ///
    /// - [`Error::Value`] unless `1 <= num_ranks <= 1024`.
    /// - [`Error::OutOfMemory`] if the ranks' control pages cannot be mapped.
    pub fn threads(num_ranks: usize) -> Result<Vec<Self>> {
        Self::threads_with(num_ranks, WorldOptions::default())
    }

    /// Makes a world like [`threads`](Self::threads), with other options.
    ///
    /// # Errors
    ///
    /// As [`threads`](Self::threads), and [`Error::Value`] if `ranks_per_node` is 0.
    pub fn threads_with(num_ranks: usize, options: WorldOptions) -> Result<Vec<Self>> {
        threads::worlds(num_ranks, &options)
    }

    /// Joins this process to the world of all processes that one `mpirun` started.
    ///
    /// Collective. Initialises MPI unless the application has, in which case the application must
    /// have asked for threads (serialized or multiple) and finalises MPI itself. Ranks of one
    /// machine share memory; they must run as the same user and see each other under /proc, else
    /// each counts as a node. MPI starts once per process, so the world can be made once; `close`
    /// finalises MPI and belongs on the thread that made the world. After a failure MPI is not
    /// finalised, which would wait for the rank that failed: end the process. Plain `mpirun` ends
    /// all ranks when the first one fails; `--enable-recovery` lets the others report it.
    ///
    /// # Errors
    ///
    /// - [`Error::Unavailable`] if MPI cannot start, or the ranks cannot map each other's memory.
    /// - [`Error::Value`] if `ranks_per_node` is 0.
    /// - [`Error::PeerDied`] or [`Error::Timeout`] if a rank fails meanwhile.
    #[cfg(feature = "mpi")]
    pub fn mpi(options: WorldOptions) -> Result<Self> {
        super::processes::world(&options)
    }

    /// Runs `f` once per rank, each on a thread of its own, and returns each rank's result.
    ///
    /// `f` ends with [`close`](Self::close) when all went well. A panic becomes
    /// [`Error::PeerDied`] that names the rank itself. Once a rank has failed, the others get the
    /// world's timeout to return; the thread of one that does not is left behind (it cannot be
    /// stopped), and its result is [`Error::Timeout`]. While no rank has failed, there is no limit.
    ///
    /// Each rank gets an equal share of the cores, at least one: a rayon pool of its own, in which `f` runs.
    /// So the cpu backend's stages start without a queue between threads, and allocate nothing once warm.
    ///
    /// # Errors
    ///
    /// As [`threads_with`](Self::threads_with), and [`Error::Io`] or [`Error::Unavailable`] if a thread cannot
    /// be started.
    pub fn run_threads<T, F>(
        num_ranks: usize,
        options: WorldOptions,
        f: F,
    ) -> Result<Vec<Result<T>>>
    where
        F: Fn(Self) -> Result<T> + Send + Sync + 'static,
        T: Send + 'static,
    {
        threads::run(num_ranks, options, f)
    }

    /// This rank's index.
    pub fn rank_idx(&self) -> usize {
        self.rank.rank_idx
    }

    /// Ranks in the world, masked-out ones included.
    pub fn num_ranks(&self) -> usize {
        self.rank.num_ranks()
    }

    /// Nodes in the world.
    pub fn num_nodes(&self) -> usize {
        self.rank.node_of.iter().max().map_or(0, |last| last + 1)
    }

    /// Node of a rank; nodes are numbered by their first rank. `num_nodes` for a rank that does not
    /// exist.
    pub fn node_of(&self, rank_idx: usize) -> usize {
        self.rank.node_of.get(rank_idx).copied().unwrap_or(self.num_nodes())
    }

    /// Whether a rank is on this rank's node, and so shares memory with it.
    pub fn is_local(&self, rank_idx: usize) -> bool {
        self.rank.is_local(rank_idx)
    }

    /// Whether a rank takes part, which a rank mask can end. `false` for one that does not exist.
    pub fn is_active(&self, rank_idx: usize) -> bool {
        rank_idx < self.num_ranks() && self.rank.is_active(rank_idx)
    }

    /// Longest that a wait lasts.
    pub fn timeout(&self) -> Duration {
        self.rank.options.timeout
    }

    /// Waits until every active rank has called it; `op` names the caller in errors.
    ///
    /// # Errors
    ///
    /// [`Error::PeerDied`] or [`Error::Timeout`] with step `barrier` if a rank fails;
    /// [`Error::Value`] if this rank is masked out.
    pub fn barrier(&self, op: &'static str) -> Result<()> {
        self.rank.barrier(op)
    }

    /// Returns the bytes of every rank, in rank order; lengths may differ. A masked-out rank's are
    /// empty. For set-up and reports: it copies and allocates.
    ///
    /// # Errors
    ///
    /// [`Error::PeerDied`] or [`Error::Timeout`] with step `all_gather` if a rank fails;
    /// [`Error::Value`] if this rank is masked out.
    pub fn all_gather(&self, op: &'static str, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.rank.all_gather(op, bytes)
    }

    /// Allocates `num_bytes` of zeroed data and `num_signals` signals (at 0) on every active rank.
    ///
    /// Collective. The memory goes when the last clone of the buffer does, on each rank alone.
    ///
    /// # Errors
    ///
    /// The same on every rank:
    /// - [`Error::Value`] unless all ranks ask for the same extents; it names the first rank that
    ///   differs from the lowest one.
    /// - [`Error::OutOfMemory`] if a rank lacks room.
    /// - [`Error::PeerDied`] or [`Error::Timeout`] if a rank fails meanwhile.
    pub fn alloc_symmetric(&self, num_bytes: usize, num_signals: usize) -> Result<SymmetricBuffer> {
        alloc_symmetric(&self.rank, num_bytes, num_signals).map(SymmetricBuffer::new)
    }

    /// Sets which ranks take part from now on, `active[rank_idx]`.
    ///
    /// Every active rank calls it, with the same mask, at the same point in the order of its
    /// collective operations; it does not wait. A masked-out rank is never waited for, nothing is
    /// sent to it, and its death is no error; a failure that names it no longer stops the world.
    /// After a failure, signal words stand wherever the failed step left them: allocate buffers
    /// anew. A rank that masks itself out can only [`close`](Self::close).
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] unless `active.len() == num_ranks`.
    pub fn set_rank_mask(&self, active: &[bool]) -> Result<()> {
        if active.len() != self.num_ranks() {
            return Err(Error::Shape {
                op: "set_rank_mask",
                arg: "active",
                expected: vec![self.num_ranks()],
                got: vec![active.len()],
            });
        }
        self.rank.set_active(active);
        Ok(())
    }

    /// Ends the world, once every active rank has called it. A masked-out rank leaves at once.
    ///
    /// Buffers of this world stay mapped until dropped, but reach no rank of another node any more.
    ///
    /// # Errors
    ///
    /// [`Error::PeerDied`] or [`Error::Timeout`] if a rank fails before it closes its world.
    pub fn close(mut self) -> Result<()> {
        let rank = &self.rank;
        if rank.is_active(rank.rank_idx) {
            rank.barrier("close")?;
        }
        rank.control(rank.rank_idx).set_status(Status::Closed);
        let is_whole = (0..rank.num_ranks()).all(|peer| rank.is_active(peer));
        rank.engine().transport.finish(is_whole);
        self.is_closed = true;
        Ok(())
    }
}

impl Drop for World {
    /// A world that was not closed tells its peers, which would wait for it in vain.
    fn drop(&mut self) {
        if self.is_closed {
            return;
        }
        let rank_idx = self.rank_idx();
        let is_panicking = std::thread::panicking();
        if !is_panicking && self.rank.abort().is_none() {
            tracing::warn!(rank_idx, "a world was dropped without close: its peers will fail");
        }
        self.rank.leave(if is_panicking { Status::Panicked } else { Status::Left });
        self.rank.engine().transport.finish(false);
    }
}
