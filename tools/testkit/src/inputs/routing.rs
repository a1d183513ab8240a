//! Logits, expert choices and token counts, from even to absurd.

use crate::rng::Rng;

/// Which experts the tokens prefer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Skew {
    /// All alike.
    Uniform,
    /// The i-th most loved expert with weight `i^-exponent`; which one that is, is drawn.
    Zipf {
        /// 0 is uniform; real text is near 1.
        exponent: f64,
    },
    /// Every token puts this expert first.
    AllTo {
        /// The loved one.
        expert_idx: usize,
    },
    /// No token takes this expert, as long as there are `num_topk` others.
    Without {
        /// The empty one.
        expert_idx: usize,
    },
}

/// Draws logits FP32 `[num_tokens, num_experts]` whose largest `k` follow the skew.
///
/// A logit is `ln(preference) + Gumbel noise`, so the top-k is a sample of k experts without
/// replacement with the preferences as weights.
///
/// # Panics
///
/// When the skew names an expert that is not there.
pub fn expert_logits(rng: &mut Rng, [num_tokens, num_experts]: [usize; 2], skew: Skew) -> Vec<f32> {
    let preference = log_preferences(rng, num_experts, skew);
    let mut logits = Vec::with_capacity(num_tokens * num_experts);
    for _ in 0..num_tokens {
        logits.extend(preference.iter().map(|&preference| (preference + rng.gumbel()) as f32));
    }
    logits
}

/// Draws `topk_idx` INT32 `[num_tokens, num_topk]`: distinct experts per token, in order of
/// preference.
///
/// # Panics
///
/// When `num_topk > num_experts`, or the skew names an expert that is not there.
pub fn topk_idx(
    rng: &mut Rng,
    num_tokens: usize,
    num_experts: usize,
    num_topk: usize,
    skew: Skew,
) -> Vec<i32> {
    assert!(num_topk <= num_experts, "topk_idx: {num_topk} distinct of {num_experts} experts");
    let logits = expert_logits(rng, [num_tokens, num_experts], skew);
    let mut idx = Vec::with_capacity(num_tokens * num_topk);
    for token in logits.chunks(num_experts.max(1)) {
        let mut experts: Vec<usize> = (0..num_experts).collect();
        experts.sort_by(|&a, &b| token[b].total_cmp(&token[a]));
        idx.extend(experts[..num_topk].iter().map(|&expert_idx| expert_idx as i32));
    }
    idx
}

/// Draws weights FP32 of the shape of `topk_idx`: positive, each token's sum 1.
pub fn topk_weights(rng: &mut Rng, num_tokens: usize, num_topk: usize) -> Vec<f32> {
    let mut weights = Vec::with_capacity(num_tokens * num_topk);
    for _ in 0..num_tokens {
        let token: Vec<f64> = (0..num_topk).map(|_| rng.uniform() + 0.05).collect();
        let sum: f64 = token.iter().sum();
        weights.extend(token.iter().map(|weight| (weight / sum) as f32));
    }
    weights
}

/// Sets each entry to -1 (not selected) with this probability; returns how many.
pub fn unselect(rng: &mut Rng, topk_idx: &mut [i32], probability: f64) -> usize {
    let mut num_unselected = 0;
    for idx in topk_idx {
        if rng.uniform() < probability {
            *idx = -1;
            num_unselected += 1;
        }
    }
    num_unselected
}

/// How many tokens each rank holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RankLoad {
    /// All ranks hold the maximum.
    Full,
    /// Anything from 0 to the maximum, drawn; with two or more ranks one is full and one is empty.
    Ragged,
    /// One rank holds nothing, the others the maximum.
    EmptyOn {
        /// The rank without tokens.
        rank_idx: usize,
    },
    /// One rank holds the maximum, the others nothing.
    OnlyOn {
        /// The rank with tokens.
        rank_idx: usize,
    },
}

impl RankLoad {
    /// Returns `num_tokens` of every rank.
    pub fn num_tokens_per_rank(
        self,
        rng: &mut Rng,
        num_ranks: usize,
        num_max_tokens_per_rank: usize,
    ) -> Vec<usize> {
        let max = num_max_tokens_per_rank;
        match self {
            Self::Full => vec![max; num_ranks],
            Self::EmptyOn { rank_idx } => {
                (0..num_ranks).map(|rank| if rank == rank_idx { 0 } else { max }).collect()
            }
            Self::OnlyOn { rank_idx } => {
                (0..num_ranks).map(|rank| if rank == rank_idx { max } else { 0 }).collect()
            }
            Self::Ragged => {
                let mut counts: Vec<usize> = (0..num_ranks).map(|_| rng.below(max + 1)).collect();
                let order = rng.permutation(num_ranks);
                if let [full, empty, ..] = order[..] {
                    counts[full] = max;
                    counts[empty] = 0;
                }
                counts
            }
        }
    }
}

fn log_preferences(rng: &mut Rng, num_experts: usize, skew: Skew) -> Vec<f64> {
    // Far beyond any Gumbel draw, which stays below 40 for 53-bit uniforms, yet harmless to exp in
    // f32.
    const CERTAIN: f64 = 64.0;
    let mut preference = vec![0.0; num_experts];
    match skew {
        Skew::Uniform => {}
        Skew::Zipf { exponent } => {
            for (place, expert_idx) in rng.permutation(num_experts).into_iter().enumerate() {
                preference[expert_idx] = -exponent * libm::log((place + 1) as f64);
            }
        }
        Skew::AllTo { expert_idx } => preference[expert_idx] = CERTAIN,
        Skew::Without { expert_idx } => preference[expert_idx] = -CERTAIN,
    }
    preference
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loads(skew: Skew) -> Vec<usize> {
        let mut counts = vec![0; 16];
        let idx = topk_idx(&mut Rng::new(9), 500, 16, 4, skew);
        idx.iter().for_each(|&expert_idx| counts[expert_idx as usize] += 1);
        counts
    }

    #[test]
    fn every_token_takes_distinct_experts() {
        let idx = topk_idx(&mut Rng::new(8), 100, 16, 8, Skew::Zipf { exponent: 1.0 });
        for token in idx.chunks(8) {
            let mut sorted = token.to_vec();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(sorted.len(), 8, "{token:?}");
        }
    }

    #[test]
    fn skews_do_what_they_say() {
        let uniform = loads(Skew::Uniform);
        assert!(uniform.iter().all(|&load| (80..170).contains(&load)), "{uniform:?}");
        let mut zipf = loads(Skew::Zipf { exponent: 1.5 });
        zipf.sort_unstable();
        assert!(zipf[15] > 10 * zipf[0], "{zipf:?}");
        assert_eq!(loads(Skew::AllTo { expert_idx: 3 })[3], 500);
        assert_eq!(loads(Skew::Without { expert_idx: 3 })[3], 0);
    }

    #[test]
    fn the_loved_expert_comes_first() {
        let idx = topk_idx(&mut Rng::new(1), 50, 8, 2, Skew::AllTo { expert_idx: 5 });
        assert!(idx.chunks(2).all(|token| token[0] == 5));
    }

    #[test]
    fn unselected_slots_are_minus_one_and_counted() {
        let mut idx = topk_idx(&mut Rng::new(2), 100, 8, 4, Skew::Uniform);
        let num_unselected = unselect(&mut Rng::new(3), &mut idx, 0.25);
        assert_eq!(idx.iter().filter(|&&idx| idx == -1).count(), num_unselected);
        assert!((60..140).contains(&num_unselected), "{num_unselected}");
    }

    #[test]
    fn weights_of_a_token_sum_to_one() {
        for token in topk_weights(&mut Rng::new(4), 20, 8).chunks(8) {
            assert!((token.iter().sum::<f32>() - 1.0).abs() < 1e-6);
            assert!(token.iter().all(|&weight| weight > 0.0));
        }
    }

    #[test]
    fn rank_loads_do_what_they_say() {
        let rng = &mut Rng::new(5);
        assert_eq!(RankLoad::Full.num_tokens_per_rank(rng, 3, 7), [7, 7, 7]);
        assert_eq!(RankLoad::EmptyOn { rank_idx: 1 }.num_tokens_per_rank(rng, 3, 7), [7, 0, 7]);
        assert_eq!(RankLoad::OnlyOn { rank_idx: 1 }.num_tokens_per_rank(rng, 3, 7), [0, 7, 0]);
        let ragged = RankLoad::Ragged.num_tokens_per_rank(rng, 4, 7);
        assert!(ragged.contains(&7) && ragged.contains(&0), "{ragged:?}");
    }
}
