//! A schedule: every rank's operations in order.

use std::fmt;
use std::str::FromStr;

use crate::pipeline::{Op, Placement};
use crate::{Error, Result};

/// The schedules that moekit generates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScheduleKind {
    /// All forwards, then all backwards.
    GPipe,
    /// One forward, one backward.
    OneFOneB,
    /// 1F1B with several pp_stages on each rank.
    Interleaved {
        /// pp_stages per rank.
        num_virtual_stages: u32,
    },
    /// 1F1B with the weights' gradients split off and put off (ZB-H1).
    Zb1p,
    /// Chunks from both ends at once, forwards and backwards overlapped.
    DualPipe,
    /// DualPipe folded: chunks go down the ranks and up again.
    DualPipeV,
}

impl ScheduleKind {
    /// Returns the name that files and the command line use.
    pub fn name(self) -> &'static str {
        match self {
            Self::GPipe => "gpipe",
            Self::OneFOneB => "1f1b",
            Self::Interleaved { .. } => "interleaved",
            Self::Zb1p => "zb1p",
            Self::DualPipe => "dualpipe",
            Self::DualPipeV => "dualpipev",
        }
    }

    /// Returns how the schedule lays pp_stages on ranks.
    pub fn placement(self) -> Placement {
        match self {
            Self::GPipe | Self::OneFOneB | Self::Zb1p => Placement::Linear,
            Self::Interleaved { num_virtual_stages } => {
                Placement::Interleaved { num_virtual_stages }
            }
            Self::DualPipe => Placement::Bidirectional,
            Self::DualPipeV => Placement::VShape,
        }
    }
}

impl fmt::Display for ScheduleKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interleaved { num_virtual_stages } => {
                write!(f, "{} x{num_virtual_stages}", self.name())
            }
            _ => f.write_str(self.name()),
        }
    }
}

/// Reads the name; `interleaved` gets two pp_stages per rank.
impl FromStr for ScheduleKind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "gpipe" => Ok(Self::GPipe),
            "1f1b" => Ok(Self::OneFOneB),
            "interleaved" => Ok(Self::Interleaved { num_virtual_stages: 2 }),
            "zb1p" => Ok(Self::Zb1p),
            "dualpipe" => Ok(Self::DualPipe),
            "dualpipev" => Ok(Self::DualPipeV),
            _ => {
                let expected = "one of gpipe, 1f1b, interleaved, zb1p, dualpipe, dualpipev";
                Err(Error::value("pipeline", "schedule", expected, format!("`{name}`")))
            }
        }
    }
}

/// Every rank's operations, in order, and where the pp_stages lie.
///
/// Made by [`Schedule::generate`] or, from operations of one's own, by [`Schedule::from_ops`] and
/// [`Schedule::read`]. Such a schedule may be wrong: [`check`](crate::pipeline::check) tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    pub(crate) kind: Option<ScheduleKind>,
    pub(crate) placement: Placement,
    pub(crate) num_chunks: usize,
    pub(crate) ranks: Vec<Vec<Op>>,
}

impl Schedule {
    /// Wraps operations of one's own; `num_chunks` counts both directions together.
    ///
    /// # Errors
    ///
    /// [`Error::Value`] for an empty or oversized schedule, `num_virtual_stages == 0`, and a
    /// bidirectional one with odd `num_chunks`. Wrong operations are found by
    /// [`check`](crate::pipeline::check).
    pub fn from_ops(placement: Placement, num_chunks: usize, ranks: Vec<Vec<Op>>) -> Result<Self> {
        let op = "pipeline schedule";
        if placement == (Placement::Interleaved { num_virtual_stages: 0 }) {
            return Err(Error::value(op, "num_virtual_stages", "at least 1", 0));
        }
        super::generate::check_size(op, placement, ranks.len(), num_chunks)?;
        if !num_chunks.is_multiple_of(placement.num_pipes()) {
            return Err(Error::value(op, "num_chunks", "an even number", num_chunks));
        }
        Ok(Self { kind: None, placement, num_chunks, ranks })
    }

    /// Returns which generator made the schedule; `None` for one's own.
    pub fn kind(&self) -> Option<ScheduleKind> {
        self.kind
    }

    /// Returns the schedule's name, `custom` for one's own.
    pub fn name(&self) -> String {
        self.kind.map_or_else(|| "custom".to_owned(), |kind| kind.to_string())
    }

    /// Returns where the pp_stages lie.
    pub fn placement(&self) -> Placement {
        self.placement
    }

    /// Returns the number of ranks.
    pub fn num_pp_ranks(&self) -> usize {
        self.ranks.len()
    }

    /// Returns the number of pp_stages that the model is cut into.
    pub fn num_pp_stages(&self) -> usize {
        self.placement.num_pp_stages(self.ranks.len())
    }

    /// Returns the number of chunks of a step, both directions together.
    pub fn num_chunks(&self) -> usize {
        self.num_chunks
    }

    /// Returns how many chunks enter at each end that chunks enter at.
    pub fn num_chunks_per_pipe(&self) -> usize {
        self.num_chunks / self.placement.num_pipes()
    }

    /// Returns every rank's operations in order.
    pub fn ranks(&self) -> &[Vec<Op>] {
        &self.ranks
    }
}
