//! 1F1B: as many forwards ahead as there are ranks below, then one forward, one backward.

use super::RankBuilder;

pub(super) fn rank_ops(rank: &mut RankBuilder, num_chunks: usize) {
    let num_warmup = (rank.num_pp_ranks - 1 - rank.rank_idx).min(num_chunks);
    for _ in 0..num_warmup {
        rank.forward(0);
    }
    for _ in num_warmup..num_chunks {
        rank.forward(0);
        rank.backward(0);
    }
    for _ in 0..num_warmup {
        rank.backward(0);
    }
}
