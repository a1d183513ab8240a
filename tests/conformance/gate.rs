//! Gate: which experts, in which order, with which weights.

use moekit::moe::gate::{GateArgs, GateConfig, Scoring};
use moekit::tensor::Tensor;
use moekit::{Backend, Cpu, Result};
use moekit_testkit::inputs::{self, Skew};
use moekit_testkit::rng::Rng;
use moekit_testkit::{compare, gate as oracle};

use crate::case::on_every_backend;

on_every_backend![
    softmax_weights_sum_to_one,
    ties_go_to_the_lower_expert,
    the_bias_chooses_but_does_not_weigh,
    experts_outside_the_best_groups_are_out,
    equal_groups_go_to_the_lower_group,
    a_negative_bias_cannot_bring_a_masked_group_back,
    nan_ranks_last_and_is_reported,
    an_infinity_or_a_nan_bias_is_reported_and_experts_stay_distinct,
    routing_agrees_with_the_oracle_at_v3_size,
    routing_agrees_with_the_oracle_at_other_extents,
    no_tokens_are_fine,
    impossible_constants_are_refused,
];

const PLAIN: GateConfig = GateConfig {
    num_experts: 4,
    num_topk: 2,
    scoring: Scoring::Softmax,
    num_expert_groups: 1,
    num_topk_groups: 1,
    renormalize: false,
    routed_scaling_factor: 1.0,
};

struct Gated {
    idx: Vec<i32>,
    weights: Vec<f32>,
    checked: Result<()>,
}

fn run<B: Backend>(
    backend: &B,
    config: GateConfig,
    logits: &[f32],
    bias: Option<&[f32]>,
) -> Result<Gated> {
    let stream = backend.stream()?;
    let num_tokens = logits.len() / config.num_experts;
    let chosen = [num_tokens, config.num_topk];
    let len = num_tokens * config.num_topk;
    let logits = Tensor::from_host(backend, logits, [num_tokens, config.num_experts])?;
    let bias = bias.map(|bias| Tensor::from_host(backend, bias, [bias.len()])).transpose()?;
    let mut idx = Tensor::from_host(backend, &vec![2_147_480_000; len], chosen)?;
    let mut weights = Tensor::from_host(backend, &vec![f32::NAN; len], chosen)?;
    let args = GateArgs::new(
        logits.view(),
        bias.as_ref().map(Tensor::view),
        config,
        idx.view_mut(),
        weights.view_mut(),
    )?;
    backend.gate(&stream, args)?;
    let checked = backend.check(&stream);
    Ok(Gated { idx: idx.to_host(backend)?, weights: weights.to_host(backend)?, checked })
}

fn softmax_weights_sum_to_one<B: Backend>(backend: &B) {
    let config = GateConfig { num_topk: 4, ..PLAIN };
    let gated = run(backend, config, &[0.0, 3.0f32.ln(), 2.0f32.ln(), 4.0f32.ln()], None);
    let gated = gated.expect("gate");
    gated.checked.expect("no fault");
    assert_eq!(gated.idx, [3, 1, 2, 0]);
    for (got, want) in gated.weights.iter().zip([0.4, 0.3, 0.2, 0.1]) {
        assert!((got - want).abs() < 1e-6, "{:?}", gated.weights);
    }
}

fn ties_go_to_the_lower_expert<B: Backend>(backend: &B) {
    for scoring in [Scoring::Softmax, Scoring::Sigmoid] {
        let config = GateConfig { scoring, num_topk: 3, ..PLAIN };
        let gated = run(backend, config, &[1.0, 2.0, 2.0, 1.0, 5.0, 5.0, 5.0, 5.0], None);
        assert_eq!(gated.expect("gate").idx, [1, 2, 0, 0, 1, 2], "{scoring:?}");
    }
}

fn the_bias_chooses_but_does_not_weigh<B: Backend>(backend: &B) {
    let config = GateConfig {
        scoring: Scoring::Sigmoid,
        renormalize: true,
        routed_scaling_factor: 2.5,
        ..PLAIN
    };
    // Sigmoid of 0 is 1/2, of ln 3 is 3/4.
    let logits = [0.0, 3.0f32.ln(), 3.0f32.ln(), 0.0];
    let gated = run(backend, config, &logits, Some(&[1.0, 0.0, 0.1, 0.0])).expect("gate");
    gated.checked.expect("no fault");
    assert_eq!(gated.idx, [0, 2]);
    for (got, want) in gated.weights.iter().zip([1.0, 1.5]) {
        assert!((got - want).abs() < 1e-6, "{:?}", gated.weights);
    }
}

/// Four groups of two experts.
const GROUPED: GateConfig = GateConfig {
    num_experts: 8,
    scoring: Scoring::Sigmoid,
    num_expert_groups: 4,
    num_topk_groups: 2,
    ..PLAIN
};

fn experts_outside_the_best_groups_are_out<B: Backend>(backend: &B) {
    // Group 1 holds the best single expert, but the sums of groups 0 and 3 are larger.
    let logits = [2.0, 2.0, 3.0, -9.0, -1.0, -1.0, 1.9, 1.9];
    let gated = run(backend, GROUPED, &logits, None).expect("gate");
    assert_eq!(gated.idx, [0, 1]);
    let config = GateConfig { num_topk: 4, ..GROUPED };
    assert_eq!(run(backend, config, &logits, None).expect("gate").idx, [0, 1, 6, 7]);
}

fn equal_groups_go_to_the_lower_group<B: Backend>(backend: &B) {
    let config = GateConfig { num_topk: 4, ..GROUPED };
    let gated = run(backend, config, &[0.5; 8], None).expect("gate");
    assert_eq!(gated.idx, [0, 1, 2, 3]);
}

fn a_negative_bias_cannot_bring_a_masked_group_back<B: Backend>(backend: &B) {
    let config = GateConfig { num_topk: 3, ..GROUPED };
    let bias = [-3.0, -3.0, -2.0, -2.0, -5.0, -5.0, -5.0, -5.0];
    let gated = run(backend, config, &[0.0; 8], Some(&bias)).expect("gate");
    assert_eq!(gated.idx, [2, 3, 0]);
}

fn nan_ranks_last_and_is_reported<B: Backend>(backend: &B) {
    for scoring in [Scoring::Softmax, Scoring::Sigmoid] {
        let config = GateConfig { scoring, num_topk: 4, ..PLAIN };
        let logits = [0.0, 1.0, 2.0, 3.0, f32::NAN, -1.0, -2.0, -3.0];
        let gated = run(backend, config, &logits, None).expect("gate");
        let fault = gated.checked.expect_err("a logit is NaN").to_string();
        assert_eq!(fault, "gate: `logits` is NaN at token 1, expected numbers");
        assert_eq!(gated.idx[4..], [1, 2, 3, 0], "{scoring:?}");
        assert_eq!(gated.weights[7], 0.0);
        assert!(gated.weights.iter().all(|w| w.is_finite()), "{:?}", gated.weights);
    }
}

fn an_infinity_or_a_nan_bias_is_reported_and_experts_stay_distinct<B: Backend>(backend: &B) {
    let faulty = |config: GateConfig, logits: &[f32], bias: Option<&[f32]>, best: i32| {
        let gated = run(backend, config, logits, bias).expect("gate");
        let fault = gated.checked.expect_err("a score is NaN").to_string();
        assert!(fault.starts_with("gate: `scores` is NaN at token 0"), "{fault}");
        assert_eq!(gated.idx[0], best);
        let mut idx = gated.idx;
        idx.sort_unstable();
        assert_eq!(idx, [0, 1, 2, 3], "every expert once");
        assert!(gated.weights.iter().all(|w| w.is_finite()), "{:?}", gated.weights);
    };
    let softmax = GateConfig { num_topk: 4, renormalize: true, ..PLAIN };
    faulty(softmax, &[0.0, f32::INFINITY, 2.0, 3.0], None, 0);
    faulty(softmax, &[f32::NEG_INFINITY; 4], None, 0);
    let sigmoid = GateConfig { scoring: Scoring::Sigmoid, ..softmax };
    faulty(sigmoid, &[0.0, 1.0, 2.0, 3.0], Some(&[0.0, 0.0, 0.0, f32::NAN]), 2);
    // An infinity that gives a score is none of this.
    let gated = run(backend, sigmoid, &[f32::NEG_INFINITY, f32::INFINITY, 0.0, 1.0], None);
    let gated = gated.expect("gate");
    gated.checked.expect("scores 0 and 1");
    assert_eq!(gated.idx, [1, 3, 2, 0]);
    // Opposite infinities in a group make it no better than any other.
    let (up, down) = (f32::INFINITY, f32::NEG_INFINITY);
    let bias = [up, down, 0.0, 0.0, 1.0, 1.0, 0.5, 0.5];
    let gated = run(backend, GROUPED, &[0.0; 8], Some(&bias)).expect("gate");
    gated.checked.expect("no NaN");
    assert_eq!(gated.idx, [4, 5]);
}

fn routing_agrees_with_the_oracle_at_v3_size<B: Backend>(backend: &B) {
    for scoring in [Scoring::Sigmoid, Scoring::Softmax] {
        agrees_with_the_oracle(backend, 300, V3, scoring);
    }
}

fn routing_agrees_with_the_oracle_at_other_extents<B: Backend>(backend: &B) {
    let extents = |num_experts, num_topk, [num_expert_groups, num_topk_groups]: [usize; 2]| {
        GateConfig { num_experts, num_topk, num_expert_groups, num_topk_groups, ..V3 }
    };
    // DeepSeek-V2, Kimi K2, Qwen3; groups of one; groups that no power of two holds; many experts, groups and choices.
    let all = [
        extents(160, 6, [8, 3]),
        extents(384, 8, [1, 1]),
        extents(128, 8, [1, 1]),
        extents(8, 2, [8, 4]),
        extents(57, 5, [19, 4]),
        extents(48, 7, [3, 2]),
        extents(600, 10, [1, 1]),
        extents(132, 6, [33, 5]),
        extents(100, 40, [1, 1]),
    ];
    for config in all {
        for scoring in [Scoring::Sigmoid, Scoring::Softmax] {
            agrees_with_the_oracle(backend, 40, config, scoring);
        }
    }
}

/// DeepSeek-V3's gate.
const V3: GateConfig = GateConfig {
    num_experts: 256,
    num_topk: 8,
    scoring: Scoring::Sigmoid,
    num_expert_groups: 8,
    num_topk_groups: 4,
    renormalize: true,
    routed_scaling_factor: 2.5,
};

/// With the oracle where rounding decides nothing, and with the cpu backend in every bit.
fn agrees_with_the_oracle<B: Backend>(
    backend: &B,
    num_tokens: usize,
    config: GateConfig,
    scoring: Scoring,
) {
    let config = GateConfig { scoring, ..config };
    let GateConfig { num_experts, num_topk, .. } = config;
    let rng = &mut Rng::new(0x9a7e);
    let logits = inputs::expert_logits(rng, [num_tokens, num_experts], Skew::Uniform);
    let bias = inputs::normal(rng, num_experts, 0.05);
    let limit = oracle::GroupLimit {
        num_expert_groups: config.num_expert_groups,
        num_topk_groups: config.num_topk_groups,
    };
    let route = match scoring {
        Scoring::Sigmoid => oracle::deepseek_v3,
        Scoring::Softmax => oracle::group_limited_softmax,
    };
    let constants = oracle::GateConfig {
        num_experts,
        num_topk,
        renormalise: config.renormalize,
        routed_scaling_factor: f64::from(config.routed_scaling_factor),
    };
    let want = route(&logits, &bias, &constants, limit);
    let got = run(backend, config, &logits, Some(&bias)).expect("gate");
    got.checked.expect("numbers");
    let decided: Vec<usize> = (0..num_tokens).filter(|&t| want.is_decided(t, 1e-6)).collect();
    assert!(decided.len() > num_tokens * 8 / 10, "{config:?}: {} are decided", decided.len());
    for token in decided {
        let slots = token * num_topk..(token + 1) * num_topk;
        let name = format!("{config:?}, token {token}");
        assert_eq!(got.idx[slots.clone()], want.topk_idx[slots.clone()], "{name}");
        let weights: Vec<f64> = want.topk_weights[slots.clone()].to_vec();
        compare::assert_relative_error(&name, &got.weights[slots], &weights, 1e-6);
    }
    let on_cpu = run(&Cpu::new(), config, &logits, Some(&bias)).expect("gate");
    assert_eq!(got.idx, on_cpu.idx, "{config:?}");
    compare::assert_bits_eq("weights", &[num_tokens, num_topk], &got.weights, &on_cpu.weights);
}

fn no_tokens_are_fine<B: Backend>(backend: &B) {
    let gated = run(backend, PLAIN, &[], None).expect("gate");
    gated.checked.expect("no fault");
    assert!(gated.idx.is_empty());
}

fn impossible_constants_are_refused<B: Backend>(backend: &B) {
    let refused = |config: GateConfig, wanted: &str| {
        let error = run(backend, config, &[], None).err().expect("refused").to_string();
        assert_eq!(error, wanted);
    };
    refused(
        GateConfig { num_topk: 5, ..GROUPED },
        "gate: `num_topk` is 5, expected 1 to 4 (experts of the chosen groups)",
    );
    refused(
        GateConfig { num_expert_groups: 3, ..GROUPED },
        "gate: `num_experts` is 8, expected a multiple of 3",
    );
    refused(
        GateConfig { num_topk_groups: 5, ..GROUPED },
        "gate: `num_topk_groups` is 5, expected 1 to 4 (num_expert_groups)",
    );
}
