//! One generator for each schedule; every rank's order is a function of its place alone.

mod dualpipe;
mod dualpipev;
mod eight_steps;
mod gpipe;
mod interleaved;
mod one_f_one_b;
mod zb1p;

use std::collections::VecDeque;

use crate::pipeline::{Cell, Op, OpKind, Placement, Schedule, ScheduleKind};
use crate::{Error, Result};

/// Most cells (pp_stages times chunks) of a schedule: 16 ranks by 128 chunks are 2048.
const MAX_NUM_CELLS: usize = 1 << 20;

impl Schedule {
    /// Generates a schedule.
    ///
    /// # Units
    ///
    /// `num_chunks` counts all chunks of a step: for [`ScheduleKind::DualPipe`] both directions
    /// together, half of them each way.
    ///
    /// # Errors
    ///
    /// [`Error::Value`] unless `num_pp_ranks >= 1`, `num_chunks >= 1`, the cells number at most
    /// 2^20, and
    ///
    /// - DualPipe: `num_pp_ranks` and `num_chunks` are even, `num_chunks >= 2 * num_pp_ranks`;
    /// - DualPipeV: `num_chunks >= 2 * num_pp_ranks`;
    /// - interleaved: `num_virtual_stages >= 2`, `num_chunks` a multiple of `num_pp_ranks`.
    ///
    /// # Source
    ///
    /// GPipe (Huang et al. 2019), 1F1B (PipeDream-Flush), interleaved 1F1B (Narayanan et al.
    /// 2021, section 2.2), ZB1P = ZB-H1 (Qi et al. 2024, section 2.1), DualPipe and DualPipeV
    /// (DeepSeek's DualPipe: the eight steps of `step`). Operation order of the last two equals
    /// the reference's on every rank.
    ///
    /// # Examples
    ///
    /// ```
    /// use moekit::pipeline::{Schedule, ScheduleKind};
    ///
    /// let schedule = Schedule::generate(ScheduleKind::DualPipe, 2, 4)?;
    /// let ops: Vec<String> = schedule.ranks()[0].iter().map(|op| op.to_string()).collect();
    /// assert_eq!(ops.join(" "), "F0 F1 F0 B1 F1B0 B1 I0 W");
    /// # Ok::<(), moekit::Error>(())
    /// ```
    pub fn generate(kind: ScheduleKind, num_pp_ranks: usize, num_chunks: usize) -> Result<Self> {
        check_arguments(kind, num_pp_ranks, num_chunks)?;
        let rank_ops: fn(&mut RankBuilder, usize) = match kind {
            ScheduleKind::GPipe => gpipe::rank_ops,
            ScheduleKind::OneFOneB => one_f_one_b::rank_ops,
            ScheduleKind::Interleaved { .. } => interleaved::rank_ops,
            ScheduleKind::Zb1p => zb1p::rank_ops,
            ScheduleKind::DualPipe => dualpipe::rank_ops,
            ScheduleKind::DualPipeV => dualpipev::rank_ops,
        };
        let ranks = (0..num_pp_ranks)
            .map(|rank_idx| {
                let mut builder = RankBuilder::new(kind.placement(), num_pp_ranks, rank_idx);
                rank_ops(&mut builder, num_chunks);
                builder.ops
            })
            .collect();
        Ok(Self { kind: Some(kind), placement: kind.placement(), num_chunks, ranks })
    }
}

fn check_arguments(kind: ScheduleKind, num_pp_ranks: usize, num_chunks: usize) -> Result<()> {
    let op = kind.name();
    check_size(op, kind.placement(), num_pp_ranks, num_chunks)?;
    let bidirectional = kind == ScheduleKind::DualPipe;
    if bidirectional && !num_pp_ranks.is_multiple_of(2) {
        return Err(Error::value(op, "num_pp_ranks", "an even number", num_pp_ranks));
    }
    if bidirectional && !num_chunks.is_multiple_of(2) {
        return Err(Error::value(op, "num_chunks", "an even number", num_chunks));
    }
    if matches!(kind, ScheduleKind::DualPipe | ScheduleKind::DualPipeV)
        && num_chunks < 2 * num_pp_ranks
    {
        let expected = format!("at least 2 * num_pp_ranks = {}", 2 * num_pp_ranks);
        return Err(Error::value(op, "num_chunks", expected, num_chunks));
    }
    if let ScheduleKind::Interleaved { num_virtual_stages } = kind {
        if num_virtual_stages < 2 {
            return Err(Error::value(op, "num_virtual_stages", "at least 2", num_virtual_stages));
        }
        if !num_chunks.is_multiple_of(num_pp_ranks) {
            let expected = format!("a multiple of num_pp_ranks = {num_pp_ranks}");
            return Err(Error::value(op, "num_chunks", expected, num_chunks));
        }
    }
    Ok(())
}

/// Refuses empty schedules and those that would not fit 32-bit indices and memory.
pub(crate) fn check_size(
    op: &'static str,
    placement: Placement,
    num_pp_ranks: usize,
    num_chunks: usize,
) -> Result<()> {
    for (arg, value) in [("num_pp_ranks", num_pp_ranks), ("num_chunks", num_chunks)] {
        if value == 0 {
            return Err(Error::value(op, arg, "at least 1", value));
        }
    }
    let too_many = |value: usize, others: usize| {
        value.checked_mul(others).is_none_or(|num_cells| num_cells > MAX_NUM_CELLS)
    };
    let num_pp_stages_per_rank = placement.num_pp_stages_per_rank();
    if too_many(num_pp_ranks, num_pp_stages_per_rank) {
        let expected = format!("at most {MAX_NUM_CELLS} pp_stages in all");
        return Err(Error::value(op, "num_pp_ranks", expected, num_pp_ranks));
    }
    if too_many(num_chunks, placement.num_pp_stages(num_pp_ranks)) {
        let expected = format!("at most {MAX_NUM_CELLS} cells (pp_stages times chunks)");
        return Err(Error::value(op, "num_chunks", expected, num_chunks));
    }
    Ok(())
}

/// Writes one rank's order of work; numbers the chunks and pairs every W with its I, first in,
/// first out.
pub(crate) struct RankBuilder {
    placement: Placement,
    num_pp_ranks: usize,
    rank_idx: usize,
    num_forwards: [u32; 2],
    num_backwards: [u32; 2],
    deferred: VecDeque<Cell>,
    ops: Vec<Op>,
}

impl RankBuilder {
    fn new(placement: Placement, num_pp_ranks: usize, rank_idx: usize) -> Self {
        Self {
            placement,
            num_pp_ranks,
            rank_idx,
            num_forwards: [0; 2],
            num_backwards: [0; 2],
            deferred: VecDeque::new(),
            ops: Vec::new(),
        }
    }

    fn forward(&mut self, direction: u8) {
        let cell = self.next_forward(direction);
        self.ops.push(Op::Single(OpKind::F, cell));
    }

    fn backward(&mut self, direction: u8) {
        let cell = self.next_backward(direction);
        self.ops.push(Op::Single(OpKind::B, cell));
    }

    fn backward_input(&mut self, direction: u8) {
        let cell = self.next_backward(direction);
        self.deferred.push_back(cell);
        self.ops.push(Op::Single(OpKind::I, cell));
    }

    fn weight(&mut self) {
        let cell = self.deferred.pop_front().expect("a W should follow its I");
        self.ops.push(Op::Single(OpKind::W, cell));
    }

    fn overlapped(&mut self, forward: u8, backward: u8) {
        let forward = self.next_forward(forward);
        let backward = self.next_backward(backward);
        self.ops.push(Op::Overlapped { forward, backward });
    }

    fn next_forward(&mut self, direction: u8) -> Cell {
        let chunk_idx = next(&mut self.num_forwards[usize::from(direction)]);
        self.cell(direction, chunk_idx)
    }

    fn next_backward(&mut self, direction: u8) -> Cell {
        let chunk_idx = next(&mut self.num_backwards[usize::from(direction)]);
        self.cell(direction, chunk_idx)
    }

    fn cell(&self, direction: u8, chunk_idx: u32) -> Cell {
        let pp_stage_idx = self
            .placement
            .only_stage_of(self.num_pp_ranks, self.rank_idx, direction)
            .expect("the generator should use the placement's directions");
        Cell { direction, pp_stage_idx, chunk_idx }
    }
}

fn next(counter: &mut u32) -> u32 {
    *counter += 1;
    *counter - 1
}
