//! Seeded inputs: activations and weights, routing, and the awkward cases.

mod activations;
mod routing;

pub use activations::{lognormal, normal, sprinkle, weights, with_outlier_columns, zero_rows};
pub use routing::{RankLoad, Skew, expert_logits, topk_idx, topk_weights, unselect};
