//! Gate on the cpu: one token at a time, tokens in parallel.

use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use super::scratch::with_scratch;
use super::simd::{Kernel, SimdLevel};
use super::{Cpu, CpuStream};
use crate::error::Error;
use crate::moe::gate::{GateArgs, GateConfig, Scoring};
use crate::num::{exp, sigmoid};

/// Tokens per task: some 50 µs of work.
const TOKENS_PER_TASK: usize = 16;

pub(super) fn gate(simd: SimdLevel, stream: &CpuStream, args: GateArgs<'_, Cpu>) {
    let GateArgs { logits, bias, config, mut topk_idx, mut topk_weights } = args;
    let bias = bias.map(|bias| bias.as_span());
    let nan_token = AtomicUsize::new(usize::MAX);
    topk_idx
        .as_mut_span()
        .par_chunks_mut(config.num_topk)
        .zip(topk_weights.as_mut_span().par_chunks_mut(config.num_topk))
        .with_min_len(TOKENS_PER_TASK)
        .enumerate()
        .for_each(|(token, (idx, weights))| {
            let logits = logits.row([token]);
            with_scratch(2 * config.num_experts, |scratch| {
                let (scores, biased) = scratch.split_at_mut(config.num_experts);
                if simd.run(Score { scoring: config.scoring, logits, bias, scores, biased }) {
                    nan_token.fetch_min(token, Ordering::Relaxed);
                }
                mask_groups(&config, biased);
                choose(&config, scores, biased, idx, weights);
            });
        });
    let token = nan_token.into_inner();
    if token != usize::MAX {
        let is_logit = logits.row([token]).iter().any(|x| x.is_nan());
        let (arg, cause) = if is_logit {
            ("logits", "")
        } else {
            ("scores", ", of an infinite logit or a NaN in the bias")
        };
        stream.report(Error::value("gate", arg, "numbers", format!("NaN at token {token}{cause}")));
    }
}

/// Writes every expert's score and its biased score; returns whether one was NaN.
struct Score<'a> {
    scoring: Scoring,
    logits: &'a [f32],
    bias: Option<&'a [f32]>,
    scores: &'a mut [f32],
    biased: &'a mut [f32],
}

impl Kernel for Score<'_> {
    type Output = bool;

    #[inline(always)]
    fn run(self) -> bool {
        match self.scoring {
            Scoring::Sigmoid => {
                for (score, &logit) in self.scores.iter_mut().zip(self.logits) {
                    *score = sigmoid(logit);
                }
            }
            Scoring::Softmax => softmax(self.logits, self.scores),
        }
        match self.bias {
            None => self.biased.copy_from_slice(self.scores),
            Some(bias) => {
                for ((biased, score), bias) in self.biased.iter_mut().zip(&*self.scores).zip(bias) {
                    *biased = score + bias;
                }
            }
        }
        let mut has_nan = false;
        for ((biased, score), logit) in self.biased.iter_mut().zip(self.scores).zip(self.logits) {
            let is_nan = logit.is_nan() | biased.is_nan();
            has_nan |= is_nan;
            if is_nan {
                (*biased, *score) = (f32::NEG_INFINITY, 0.0);
            }
        }
        has_nan
    }
}

#[inline(always)]
fn softmax(logits: &[f32], scores: &mut [f32]) {
    // NOTE: `f32::max` passes over NaN, so one NaN leaves the other scores alone.
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for (score, &logit) in scores.iter_mut().zip(logits) {
        *score = if logit.is_nan() { 0.0 } else { exp(logit - max) };
    }
    let mut sum = 0.0;
    for &score in scores.iter() {
        sum += score;
    }
    for score in scores {
        *score /= sum;
    }
}

/// Sets the biased scores outside the best groups to -inf.
fn mask_groups(config: &GateConfig, biased: &mut [f32]) {
    if config.num_topk_groups == config.num_expert_groups {
        return;
    }
    let group_len = config.num_experts / config.num_expert_groups;
    with_scratch(config.num_expert_groups, |group_scores| {
        for (score, group) in group_scores.iter_mut().zip(biased.chunks(group_len)) {
            *score = top2_sum(group);
        }
        for _ in 0..config.num_topk_groups {
            let best = first_max(group_scores);
            // NOTE: NaN marks a chosen group: it is no maximum, and no sum of scores is NaN.
            group_scores[best] = f32::NAN;
        }
        for (score, group) in group_scores.iter().zip(biased.chunks_mut(group_len)) {
            if !score.is_nan() {
                group.fill(f32::NEG_INFINITY);
            }
        }
    });
}

/// Sum of the two largest; the largest alone in a group of one. Opposite infinities count as -inf.
fn top2_sum(group: &[f32]) -> f32 {
    let (mut first, mut second) = (f32::NEG_INFINITY, f32::NEG_INFINITY);
    for &x in group {
        if x > first {
            (first, second) = (x, first);
        } else if x > second {
            second = x;
        }
    }
    match first + second {
        _ if group.len() == 1 => first,
        sum if sum.is_nan() => f32::NEG_INFINITY,
        sum => sum,
    }
}

/// Picks experts by descending biased score and weighs them by their unbiased score.
fn choose(
    config: &GateConfig,
    scores: &[f32],
    biased: &mut [f32],
    idx: &mut [i32],
    weights: &mut [f32],
) {
    for (idx, weight) in idx.iter_mut().zip(&mut *weights) {
        let best = first_max(biased);
        *idx = best as i32;
        *weight = scores[best];
        biased[best] = f32::NAN;
    }
    if config.renormalize {
        let mut sum = 0.0;
        for weight in &*weights {
            sum += weight;
        }
        for weight in &mut *weights {
            *weight /= sum + 1e-20;
        }
    }
    for weight in weights {
        *weight *= config.routed_scaling_factor;
    }
}

/// Position of the first largest element that is not NaN (taken); 0 if all are.
fn first_max(values: &[f32]) -> usize {
    let mut best: Option<usize> = None;
    for (i, &x) in values.iter().enumerate() {
        if !x.is_nan() && best.is_none_or(|best| x > values[best]) {
            best = Some(i);
        }
    }
    best.unwrap_or(0)
}
