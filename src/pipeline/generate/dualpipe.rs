//! DualPipe: chunks from both ends; the second half of the ranks mirrors the first.

use super::RankBuilder;
use super::eight_steps::{EightSteps, eight_steps};

pub(super) fn rank_ops(rank: &mut RankBuilder, num_chunks: usize) {
    let mirrored_idx = rank.num_pp_ranks - 1 - rank.rank_idx;
    let place = EightSteps {
        depth: rank.num_pp_ranks / 2,
        position: rank.rank_idx.min(mirrored_idx),
        num_chunks: num_chunks / 2,
        near: u8::from(rank.rank_idx > mirrored_idx),
    };
    eight_steps(rank, place);
}
