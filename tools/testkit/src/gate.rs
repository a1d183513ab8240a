//! Which experts a token takes, in f64, and how narrowly it was decided.

/// What both gates need to know.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GateConfig {
    /// Experts in the layer.
    pub num_experts: usize,
    /// Experts per token.
    pub num_topk: usize,
    /// Whether the chosen scores are divided by their sum.
    pub renormalise: bool,
    /// Multiplies every weight (2.5 in DeepSeek-V3).
    pub routed_scaling_factor: f64,
}

/// Group-limited routing: only the experts of the best groups may be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupLimit {
    /// Equal runs of consecutive experts (8 in DeepSeek-V3).
    pub num_expert_groups: usize,
    /// Groups that stay (4 in DeepSeek-V3).
    pub num_topk_groups: usize,
}

/// The experts and weights of every token.
#[derive(Debug, Clone, PartialEq)]
pub struct Routing {
    /// INT32 `[num_tokens, num_topk]`, best first.
    pub topk_idx: Vec<i32>,
    /// `[num_tokens, num_topk]`.
    pub topk_weights: Vec<f64>,
    /// `[num_tokens]`; see [`Routing::is_decided`].
    pub margins: Vec<f64>,
}

impl Routing {
    /// Says whether arithmetic with errors below `epsilon` must choose the same experts in the same
    /// order.
    ///
    /// A margin is the smallest difference that decided anything about the token: between two
    /// neighbours among the first k + 1 candidates, or between the last group that stayed and the
    /// first that left. Exact ties do not count, because the lower index settles them in any
    /// precision.
    pub fn is_decided(&self, token_idx: usize, epsilon: f64) -> bool {
        self.margins[token_idx] > epsilon
    }

    /// Rounds the weights to FP32.
    pub fn topk_weights_f32(&self) -> Vec<f32> {
        self.topk_weights.iter().map(|&weight| weight as f32).collect()
    }
}

/// Routes by softmax: the largest logits win, ties to the lower index.
///
/// `weight = softmax(logits)[expert]`, over `sum + 1e-20` of the chosen where renormalised, times
/// the factor.
///
/// # Shapes
///
/// `logits` FP32 `[num_tokens, num_experts]`, without NaN. Margins are in units of logits.
///
/// # Panics
///
/// When `logits` holds no whole number of tokens, or `num_topk > num_experts`.
#[track_caller]
pub fn softmax_topk(logits: &[f32], config: &GateConfig) -> Routing {
    route(logits, config, |logits| {
        let scores = softmax(logits);
        let (order, margin) = topk(logits, config.num_topk);
        (order, scores, margin)
    })
}

/// Routes as DeepSeek-V3 does.
///
/// ```text
/// score   = sigmoid(logit)
/// biased  = score + correction_bias[expert]
/// group   = sum of the two largest biased scores of its experts
/// choice  = the largest biased scores within the best groups, ties to the lower index
/// weight  = score / (sum of the chosen scores + 1e-20) * routed_scaling_factor
/// ```
///
/// # Shapes
///
/// `logits` FP32 `[num_tokens, num_experts]`, without NaN; `correction_bias` FP32 `[num_experts]`.
/// Margins are in units of scores, which lie between 0 and 1.
///
/// # Panics
///
/// When a length does not fit, the groups do not divide the experts, or the best groups hold fewer
/// than `num_topk` experts.
///
/// # Source
///
/// DeepSeek-V3 technical report, section 2.1.2 (equations 12 to 16) and 2.1.3 (node-limited
/// routing), with the group score of the released model (`noaux_tc`).
#[track_caller]
pub fn deepseek_v3(
    logits: &[f32],
    correction_bias: &[f32],
    config: &GateConfig,
    limit: GroupLimit,
) -> Routing {
    let scores = |logits: &[f64]| logits.iter().map(|&logit| sigmoid(logit)).collect();
    group_limited(logits, correction_bias, config, limit, scores)
}

/// Routes as [`deepseek_v3`] with the scores of a softmax over all experts.
///
/// Without groups and bias it chooses as [`softmax_topk`] does.
///
/// # Panics
///
/// As [`deepseek_v3`].
#[track_caller]
pub fn group_limited_softmax(
    logits: &[f32],
    correction_bias: &[f32],
    config: &GateConfig,
    limit: GroupLimit,
) -> Routing {
    group_limited(logits, correction_bias, config, limit, softmax)
}

#[track_caller]
fn group_limited(
    logits: &[f32],
    correction_bias: &[f32],
    config: &GateConfig,
    limit: GroupLimit,
    score: impl Fn(&[f64]) -> Vec<f64>,
) -> Routing {
    let GroupLimit { num_expert_groups, num_topk_groups } = limit;
    assert_eq!(correction_bias.len(), config.num_experts, "gate: length of the bias");
    assert!(config.num_experts.is_multiple_of(num_expert_groups), "groups of equal size");
    let group_size = config.num_experts / num_expert_groups;
    assert!(config.num_topk <= num_topk_groups * group_size, "the best groups hold num_topk");
    route(logits, config, |logits| {
        let scores = score(logits);
        let biased: Vec<f64> =
            scores.iter().zip(correction_bias).map(|(s, &bias)| s + f64::from(bias)).collect();
        let group_scores: Vec<f64> = biased.chunks(group_size).map(sum_of_two_largest).collect();
        let (groups, _) = topk(&group_scores, num_topk_groups);
        let group_margin = boundary_margin(&group_scores, num_topk_groups);
        let allowed: Vec<f64> = (0..config.num_experts)
            .map(|e| if groups.contains(&(e / group_size)) { biased[e] } else { f64::NEG_INFINITY })
            .collect();
        let (order, margin) = topk(&allowed, config.num_topk);
        (order, scores, margin.min(group_margin))
    })
}

#[track_caller]
fn route(
    logits: &[f32],
    config: &GateConfig,
    choose: impl Fn(&[f64]) -> (Vec<usize>, Vec<f64>, f64),
) -> Routing {
    assert!(config.num_topk <= config.num_experts, "gate: num_topk of num_experts");
    assert!(logits.len().is_multiple_of(config.num_experts), "gate: logits of whole tokens");
    let mut routing = Routing { topk_idx: vec![], topk_weights: vec![], margins: vec![] };
    for token in logits.chunks(config.num_experts) {
        let token: Vec<f64> = token.iter().map(|&logit| f64::from(logit)).collect();
        let (chosen, scores, margin) = choose(&token);
        let sum: f64 = chosen.iter().map(|&expert_idx| scores[expert_idx]).sum();
        let divisor = if config.renormalise { sum + 1e-20 } else { 1.0 };
        routing.topk_idx.extend(chosen.iter().map(|&expert_idx| expert_idx as i32));
        routing
            .topk_weights
            .extend(chosen.iter().map(|&e| scores[e] / divisor * config.routed_scaling_factor));
        routing.margins.push(margin);
    }
    routing
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + libm::exp(-x))
}

fn softmax(x: &[f64]) -> Vec<f64> {
    let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = x.iter().map(|x| libm::exp(x - max)).collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|power| power / sum).collect()
}

fn sum_of_two_largest(x: &[f64]) -> f64 {
    descending(x).into_iter().take(2).map(|i| x[i]).sum()
}

/// Returns the k best indices, best first, and the smallest nonzero gap among the first k + 1.
fn topk(x: &[f64], k: usize) -> (Vec<usize>, f64) {
    let mut order = descending(x);
    let margin = order
        .windows(2)
        .take(k)
        .map(|pair| gap(x[pair[0]], x[pair[1]]))
        .fold(f64::INFINITY, f64::min);
    order.truncate(k);
    (order, margin)
}

/// Returns the gap between the last that stays and the first that leaves.
fn boundary_margin(x: &[f64], k: usize) -> f64 {
    let order = descending(x);
    if k == 0 || k >= x.len() { f64::INFINITY } else { gap(x[order[k - 1]], x[order[k]]) }
}

fn gap(larger: f64, smaller: f64) -> f64 {
    if larger == smaller { f64::INFINITY } else { larger - smaller }
}

/// Returns all indices by falling value, ties by rising index.
fn descending(x: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..x.len()).collect();
    // -0.0 and 0.0 are a tie, so partial_cmp and not total_cmp; the sort is stable.
    order.sort_by(|&a, &b| x[b].partial_cmp(&x[a]).expect("scores without NaN"));
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(num_experts: usize, num_topk: usize) -> GateConfig {
        GateConfig { num_experts, num_topk, renormalise: true, routed_scaling_factor: 1.0 }
    }

    fn logit(score: f64) -> f32 {
        (score / (1.0 - score)).ln() as f32
    }

    fn close(got: &[f64], want: &[f64]) {
        for (got, want) in got.iter().zip(want) {
            assert!((got - want).abs() < 1e-6, "got {got}, want {want}");
        }
    }

    #[test]
    fn softmax_weights_are_shares_of_the_exponentials() {
        let logits = [0.0, 3f32.ln(), 2f32.ln(), f32::NEG_INFINITY];
        let raw = GateConfig { renormalise: false, ..config(4, 2) };
        let routing = softmax_topk(&logits, &raw);
        assert_eq!(routing.topk_idx, [1, 2]);
        close(&routing.topk_weights, &[3.0 / 6.0, 2.0 / 6.0]);
        close(&softmax_topk(&logits, &config(4, 2)).topk_weights, &[3.0 / 5.0, 2.0 / 5.0]);
    }

    #[test]
    fn ties_go_to_the_lower_index_and_are_decided() {
        let routing = softmax_topk(&[1.0, 2.0, 2.0, 2.0, 0.0, -0.0], &config(6, 2));
        assert_eq!(routing.topk_idx, [1, 2]);
        assert!(routing.is_decided(0, 1.0));
        let routing = softmax_topk(&[-0.0, 0.0], &config(2, 1));
        assert_eq!(routing.topk_idx, [0]);
    }

    #[test]
    fn near_ties_inside_and_at_the_edge_of_the_choice_are_not_decided() {
        let narrow = 1.0 + f32::EPSILON;
        for logits in [[5.0, narrow, 1.0, -3.0], [narrow, 1.0, 0.0, -3.0]] {
            let routing = softmax_topk(&logits, &config(4, 2));
            assert!(!routing.is_decided(0, 1e-6), "{logits:?}: {:?}", routing.margins);
        }
        let routing = softmax_topk(&[5.0, 3.0, -7.0, -7.0 - 1e-6], &config(4, 2));
        assert_eq!(routing.margins, [2.0], "a near-tie among the rest does not matter");
    }

    #[test]
    fn softmax_without_groups_and_bias_is_softmax_topk() {
        let logits = [0.5, -1.0, 3.0, 0.25, 3.0, -7.0];
        let limit = GroupLimit { num_expert_groups: 1, num_topk_groups: 1 };
        let got = group_limited_softmax(&logits, &[0.0; 6], &config(6, 3), limit);
        let want = softmax_topk(&logits, &config(6, 3));
        assert_eq!((got.topk_idx, got.topk_weights), (want.topk_idx, want.topk_weights));
    }

    #[test]
    fn the_bias_chooses_and_the_unbiased_score_weighs() {
        let logits = [logit(0.2), logit(0.6), logit(0.4), logit(0.5)];
        let limit = GroupLimit { num_expert_groups: 1, num_topk_groups: 1 };
        let scaled = GateConfig { routed_scaling_factor: 2.5, ..config(4, 2) };
        let routing = deepseek_v3(&logits, &[1.0, 0.0, 0.0, 0.0], &scaled, limit);
        assert_eq!(routing.topk_idx, [0, 1], "0.2 + 1.0 beats 0.6");
        close(&routing.topk_weights, &[2.5 * 0.2 / 0.8, 2.5 * 0.6 / 0.8]);
    }

    #[test]
    fn the_best_expert_is_out_of_reach_when_its_group_loses() {
        // Group scores: 0.9 + 0.1 = 1.0; 0.6 + 0.5 = 1.1; 0.7 + 0.2 = 0.9.
        let logits: Vec<f32> = [0.9, 0.1, 0.6, 0.5, 0.7, 0.2].map(logit).to_vec();
        let limit = |num_topk_groups| GroupLimit { num_expert_groups: 3, num_topk_groups };
        let routing = deepseek_v3(&logits, &[0.0; 6], &config(6, 2), limit(1));
        assert_eq!(routing.topk_idx, [2, 3]);
        close(&routing.margins, &[0.1]);
        let routing = deepseek_v3(&logits, &[0.0; 6], &config(6, 2), limit(2));
        assert_eq!(routing.topk_idx, [0, 2]);
    }

    #[test]
    fn equal_groups_and_equal_experts_go_to_the_lower_index() {
        let limit = GroupLimit { num_expert_groups: 4, num_topk_groups: 2 };
        let routing = deepseek_v3(&[0.0; 8], &[0.0; 8], &config(8, 3), limit);
        assert_eq!(routing.topk_idx, [0, 1, 2]);
        assert!(routing.is_decided(0, 1.0));
    }

    #[test]
    fn a_negative_bias_leaves_masked_groups_behind() {
        // With 0 instead of -inf for masked experts, they would win against negative biased scores.
        let logits: Vec<f32> = [0.5, 0.5, 0.1, 0.1].map(logit).to_vec();
        let limit = GroupLimit { num_expert_groups: 2, num_topk_groups: 1 };
        let routing = deepseek_v3(&logits, &[-1.0; 4], &config(4, 2), limit);
        assert_eq!(routing.topk_idx, [0, 1]);
    }
}
