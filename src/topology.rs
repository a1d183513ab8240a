//! Ranks and experts: who holds which.

use crate::error::{Error, Result};

/// Expert-parallel arithmetic: `num_experts` physical experts in rank order, equally many per rank.
///
/// # Examples
///
/// ```
/// use moekit::Topology;
/// let topology = Topology::new(1, 4, 256)?;
/// assert_eq!(topology.num_local_experts(), 64);
/// assert_eq!(topology.local_experts(), 64..128);
/// assert_eq!(topology.rank_of(200), 3);
/// # Ok::<(), moekit::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Topology {
    rank_idx: usize,
    num_ranks: usize,
    num_experts: usize,
}

impl Topology {
    /// Describes rank `rank_idx` of `num_ranks` that share `num_experts` physical experts.
    ///
    /// # Errors
    ///
    /// [`Error::Value`] unless `rank_idx < num_ranks` and `num_experts > 0`; [`Error::Alignment`]
    /// unless `num_experts % num_ranks == 0`.
    pub fn new(rank_idx: usize, num_ranks: usize, num_experts: usize) -> Result<Self> {
        const OP: &str = "topology";
        if rank_idx >= num_ranks {
            return Err(Error::value(OP, "rank_idx", format!("less than {num_ranks}"), rank_idx));
        }
        if num_experts == 0 {
            return Err(Error::value(OP, "num_experts", "at least 1", 0));
        }
        if !num_experts.is_multiple_of(num_ranks) {
            return Err(Error::Alignment {
                op: OP,
                arg: "num_experts",
                multiple_of: num_ranks,
                got: num_experts,
            });
        }
        Ok(Self { rank_idx, num_ranks, num_experts })
    }

    /// This rank.
    pub const fn rank_idx(&self) -> usize {
        self.rank_idx
    }

    /// Ranks of the expert-parallel group.
    pub const fn num_ranks(&self) -> usize {
        self.num_ranks
    }

    /// Physical experts of all ranks.
    pub const fn num_experts(&self) -> usize {
        self.num_experts
    }

    /// Physical experts of one rank.
    pub const fn num_local_experts(&self) -> usize {
        self.num_experts / self.num_ranks
    }

    /// Physical experts of this rank.
    pub const fn local_experts(&self) -> std::ops::Range<usize> {
        let num_local = self.num_local_experts();
        self.rank_idx * num_local..(self.rank_idx + 1) * num_local
    }

    /// The rank that holds a physical expert.
    pub const fn rank_of(&self, expert_idx: usize) -> usize {
        expert_idx / self.num_local_experts()
    }
}
