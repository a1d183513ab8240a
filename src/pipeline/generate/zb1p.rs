//! ZB1P (ZB-H1): 1F1B whose weight gradients lag by the rank's number.
//!
//! The lag fills the end of the later ranks, which 1F1B leaves idle, and keeps the activations of
//! every rank at 1F1B's peak of the first one: at most `num_pp_ranks` forwards without their W.

use super::RankBuilder;

pub(super) fn rank_ops(rank: &mut RankBuilder, num_chunks: usize) {
    let num_warmup = (rank.num_pp_ranks - 1 - rank.rank_idx).min(num_chunks);
    let lag = rank.rank_idx;
    for _ in 0..num_warmup {
        rank.forward(0);
    }
    for chunk_idx in 0..num_chunks {
        if num_warmup + chunk_idx < num_chunks {
            rank.forward(0);
        }
        rank.backward_input(0);
        if chunk_idx >= lag {
            rank.weight();
        }
    }
    for _ in 0..lag.min(num_chunks) {
        rank.weight();
    }
}
