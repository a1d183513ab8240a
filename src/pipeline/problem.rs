//! What can be wrong with a schedule, and where.

use std::fmt;

use crate::pipeline::{Cell, Op, OpKind};

/// A schedule's first fault: the rank, the operation and what is wrong with it.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// Rank at fault.
    pub rank_idx: usize,
    /// Position in the rank's order and the operation there; `None` if one is lacking.
    pub op: Option<(usize, Op)>,
    /// What is wrong.
    pub fault: Fault,
}

/// What is wrong with an operation.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// The placement has no such pp_stage in this direction.
    NoSuchStage(Cell),
    /// The chunk's number is not below the number of chunks that enter on this side.
    NoSuchChunk {
        /// Cell at fault.
        cell: Cell,
        /// Number of chunks that enter there.
        num_chunks: usize,
    },
    /// The pp_stage lies on another rank.
    WrongRank {
        /// Cell at fault.
        cell: Cell,
        /// Rank that holds its pp_stage.
        expected: usize,
    },
    /// The same work was done before; a B counts as I and W.
    Twice {
        /// Work at fault.
        work: (OpKind, Cell),
        /// Where in the rank's order it was done first.
        first_op_idx: usize,
    },
    /// Work is never done.
    Missing(OpKind, Cell),
    /// Work comes before what it needs on its own rank.
    BeforeItsInput {
        /// Work at fault.
        work: (OpKind, Cell),
        /// Work that must come first.
        needs: (OpKind, Cell),
    },
    /// Ranks wait for each other in a circle. The first wait is that of [`Problem::op`].
    Deadlock(Vec<Wait>),
    /// More activations are alive than allowed.
    Memory {
        /// Activations alive after the operation, in chunks on one pp_stage.
        num_activations: f64,
        /// The limit.
        max_activations: f64,
    },
}

/// One link of a deadlock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wait {
    /// Rank that waits.
    pub rank_idx: usize,
    /// Operation that it cannot start.
    pub op_idx: usize,
    /// That operation.
    pub op: Op,
    /// Why.
    pub reason: WaitReason,
    /// Rank that it waits for.
    pub for_rank_idx: usize,
}

/// Why a rank waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitReason {
    /// An input has not come.
    Input,
    /// A result of the operation before has not been taken.
    Send,
}

impl std::error::Error for Problem {}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rank {}", self.rank_idx)?;
        if let Some((op_idx, op)) = self.op {
            write!(f, ", op {op_idx} (`{op}`)")?;
        }
        write!(f, ": {}", self.fault)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchStage(cell) => write!(
                f,
                "direction {} has no pp_stage {} in this placement",
                cell.direction, cell.pp_stage_idx
            ),
            Self::NoSuchChunk { cell, num_chunks } => write!(
                f,
                "chunk {} of direction {} does not exist, there are {num_chunks}",
                cell.chunk_idx, cell.direction
            ),
            Self::WrongRank { cell, expected } => {
                write!(f, "{} belongs on rank {expected}", Named(*cell))
            }
            Self::Twice { work: (kind, cell), first_op_idx } => {
                write!(f, "{kind:?} of {} was done before, by op {first_op_idx}", Named(*cell))
            }
            Self::Missing(kind, cell) => {
                write!(f, "{kind:?} of {} is never done", Named(*cell))
            }
            Self::BeforeItsInput { work: (kind, cell), needs: (needed, of) } => write!(
                f,
                "{kind:?} of {} comes before {needed:?} of {}, which it needs",
                Named(*cell),
                Named(*of)
            ),
            Self::Deadlock(waits) => {
                write!(f, "deadlock: ")?;
                for (wait_idx, wait) in waits.iter().enumerate() {
                    write!(f, "{}{wait}", if wait_idx == 0 { "" } else { "; " })?;
                }
                Ok(())
            }
            Self::Memory { num_activations, max_activations } => {
                write!(f, "{num_activations} activations are alive, the limit is {max_activations}")
            }
        }
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rank_idx, op_idx, op, for_rank_idx, .. } = self;
        match self.reason {
            WaitReason::Input => write!(
                f,
                "rank {rank_idx} waits at op {op_idx} (`{op}`) for an input from rank {for_rank_idx}"
            ),
            WaitReason::Send => write!(
                f,
                "rank {rank_idx} waits before op {op_idx} (`{op}`) until rank {for_rank_idx} \
                 receives"
            ),
        }
    }
}

struct Named(Cell);

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cell { direction, pp_stage_idx, chunk_idx } = self.0;
        write!(f, "chunk {chunk_idx} on pp_stage {pp_stage_idx} (direction {direction})")
    }
}
