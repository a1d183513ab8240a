//! Which rank holds which pp_stage.

use crate::pipeline::Cell;

/// How the model's pp_stages lie on the ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Placement {
    /// pp_stage `s` on rank `s`; everything runs in direction 0.
    Linear,
    /// pp_stage `s` on rank `s % num_pp_ranks`; everything runs in direction 0.
    Interleaved {
        /// pp_stages per rank.
        num_virtual_stages: u32,
    },
    /// Two copies of the model: pp_stage `s` on rank `s` for direction 0 and on rank
    /// `num_pp_ranks - 1 - s` for direction 1. Half of the chunks go each way.
    Bidirectional,
    /// `2 * num_pp_ranks` pp_stages down the ranks (direction 0) and up again (direction 1).
    VShape,
}

impl Placement {
    /// Returns how many pp_stages the model is cut into.
    pub fn num_pp_stages(self, num_pp_ranks: usize) -> usize {
        num_pp_ranks
            * match self {
                Self::Linear | Self::Bidirectional => 1,
                Self::Interleaved { num_virtual_stages } => num_virtual_stages as usize,
                Self::VShape => 2,
            }
    }

    /// Returns how many pp_stages' parameters a rank holds.
    pub fn num_pp_stages_per_rank(self) -> usize {
        match self {
            Self::Linear => 1,
            Self::Interleaved { num_virtual_stages } => num_virtual_stages as usize,
            Self::Bidirectional | Self::VShape => 2,
        }
    }

    /// Returns the part of the model's parameters that a rank holds.
    pub fn model_share(self, num_pp_ranks: usize) -> f64 {
        self.num_pp_stages_per_rank() as f64 / self.num_pp_stages(num_pp_ranks) as f64
    }

    /// Returns how many chunks enter the pipeline at each end: directions that start a chunk.
    pub fn num_pipes(self) -> usize {
        match self {
            Self::Bidirectional => 2,
            Self::Linear | Self::Interleaved { .. } | Self::VShape => 1,
        }
    }

    /// Returns the rank that holds `cell`'s pp_stage.
    pub fn rank_of(self, num_pp_ranks: usize, cell: Cell) -> usize {
        let stage = cell.pp_stage_idx as usize;
        match self {
            Self::Linear => stage,
            Self::Interleaved { .. } => stage % num_pp_ranks,
            Self::Bidirectional if cell.direction == 0 => stage,
            Self::Bidirectional => num_pp_ranks - 1 - stage,
            Self::VShape if stage < num_pp_ranks => stage,
            Self::VShape => 2 * num_pp_ranks - 1 - stage,
        }
    }

    /// Returns whether a pp_stage of the given number runs in the given direction.
    pub fn holds(self, num_pp_ranks: usize, direction: u8, pp_stage_idx: u32) -> bool {
        let stage = pp_stage_idx as usize;
        let exists = stage < self.num_pp_stages(num_pp_ranks);
        exists
            && match self {
                Self::Linear | Self::Interleaved { .. } => direction == 0,
                Self::Bidirectional => direction < 2,
                Self::VShape => direction == u8::from(stage >= num_pp_ranks),
            }
    }

    /// Returns the cell of the same chunk on another pp_stage.
    pub(crate) fn at_stage(self, num_pp_ranks: usize, cell: Cell, pp_stage_idx: u32) -> Cell {
        let direction = match self {
            Self::VShape => u8::from(pp_stage_idx as usize >= num_pp_ranks),
            _ => cell.direction,
        };
        Cell { direction, pp_stage_idx, ..cell }
    }

    /// Returns the pp_stage that `rank_idx` runs in `direction`, where that is a single one.
    pub(crate) fn only_stage_of(
        self,
        num_pp_ranks: usize,
        rank_idx: usize,
        direction: u8,
    ) -> Option<u32> {
        let stage = match (self, direction) {
            (Self::Linear | Self::Bidirectional | Self::VShape, 0) => rank_idx,
            (Self::Bidirectional, 1) => num_pp_ranks - 1 - rank_idx,
            (Self::VShape, 1) => 2 * num_pp_ranks - 1 - rank_idx,
            _ => return None,
        };
        Some(stage as u32)
    }

    /// Returns which independent stream of chunks a cell belongs to, below
    /// [`num_pipes`](Self::num_pipes).
    pub(crate) fn pipe_of(self, cell: Cell) -> usize {
        match self {
            Self::Bidirectional => usize::from(cell.direction),
            _ => 0,
        }
    }

    /// Returns the name that files and the command line use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Interleaved { .. } => "interleaved",
            Self::Bidirectional => "bidirectional",
            Self::VShape => "v",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_has_one_rank_and_ranks_hold_equal_numbers() {
        let num_pp_ranks = 4;
        for placement in [
            Placement::Linear,
            Placement::Interleaved { num_virtual_stages: 3 },
            Placement::Bidirectional,
            Placement::VShape,
        ] {
            let mut held = vec![0; num_pp_ranks];
            for direction in 0..2 {
                for pp_stage_idx in 0..placement.num_pp_stages(num_pp_ranks) as u32 + 2 {
                    if placement.holds(num_pp_ranks, direction, pp_stage_idx) {
                        let cell = Cell { direction, pp_stage_idx, chunk_idx: 0 };
                        held[placement.rank_of(num_pp_ranks, cell)] += 1;
                    }
                }
            }
            assert_eq!(held, vec![placement.num_pp_stages_per_rank(); 4], "{placement:?}");
        }
    }

    #[test]
    fn the_v_turns_on_the_last_rank() {
        let turn = |pp_stage_idx| {
            let cell = Cell { direction: 0, pp_stage_idx: 0, chunk_idx: 5 };
            let cell = Placement::VShape.at_stage(4, cell, pp_stage_idx);
            (cell.direction, Placement::VShape.rank_of(4, cell))
        };
        assert_eq!([turn(3), turn(4), turn(7)], [(0, 3), (1, 3), (1, 0)]);
    }
}
