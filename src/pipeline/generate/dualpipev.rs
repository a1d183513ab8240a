//! DualPipeV: the upper half of DualPipe, whose chunks turn on the last rank.

use super::RankBuilder;
use super::eight_steps::{EightSteps, eight_steps};

pub(super) fn rank_ops(rank: &mut RankBuilder, num_chunks: usize) {
    let place =
        EightSteps { depth: rank.num_pp_ranks, position: rank.rank_idx, num_chunks, near: 0 };
    eight_steps(rank, place);
}
