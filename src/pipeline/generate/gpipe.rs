//! GPipe: all forwards, then all backwards.

use super::RankBuilder;

pub(super) fn rank_ops(rank: &mut RankBuilder, num_chunks: usize) {
    for _ in 0..num_chunks {
        rank.forward(0);
    }
    for _ in 0..num_chunks {
        rank.backward(0);
    }
}
