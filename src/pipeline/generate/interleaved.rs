//! Interleaved 1F1B: each rank holds several pp_stages and walks them in groups of `num_pp_ranks`
//! chunks.

use super::RankBuilder;
use crate::pipeline::{Cell, Op, OpKind};

pub(super) fn rank_ops(rank: &mut RankBuilder, num_chunks: usize) {
    let num_virtual_stages = rank.placement.num_pp_stages_per_rank();
    let num_cells = num_chunks * num_virtual_stages;
    let num_ranks_below = rank.num_pp_ranks - 1 - rank.rank_idx;
    let num_warmup =
        (2 * num_ranks_below + (num_virtual_stages - 1) * rank.num_pp_ranks).min(num_cells);
    for step in 0..num_warmup {
        push(rank, OpKind::F, step);
    }
    for step in num_warmup..num_cells {
        push(rank, OpKind::F, step);
        push(rank, OpKind::B, step - num_warmup);
    }
    for step in num_cells - num_warmup..num_cells {
        push(rank, OpKind::B, step);
    }
}

/// Pushes the rank's `step`-th forward or backward.
fn push(rank: &mut RankBuilder, kind: OpKind, step: usize) {
    let num_virtual_stages = rank.placement.num_pp_stages_per_rank();
    let (group, within) = (
        step / (rank.num_pp_ranks * num_virtual_stages),
        step % (rank.num_pp_ranks * num_virtual_stages),
    );
    let position = within / rank.num_pp_ranks;
    let virtual_stage_idx = match kind {
        OpKind::F => position,
        _ => num_virtual_stages - 1 - position,
    };
    let chunk_idx = group * rank.num_pp_ranks + within % rank.num_pp_ranks;
    let cell = Cell {
        direction: 0,
        pp_stage_idx: (virtual_stage_idx * rank.num_pp_ranks + rank.rank_idx) as u32,
        chunk_idx: chunk_idx as u32,
    };
    rank.ops.push(Op::Single(kind, cell));
}
