//! What `moekit moe` reports, as JSON has it.

use std::collections::BTreeMap;

use moekit::backend::Limits;
use moekit::comm::World;
use moekit::cost::Cost;
use moekit::moe::{Stage, WireFormat};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::args::{BackendArg, LayoutArg, MoeArgs, ReduceArg, WorldArg};
use super::model::Model;
use super::rank::RankReport;
use super::reference::{Errors, Squares};
use crate::output::num_cores;

/// A run of a layer.
#[derive(Debug, Serialize)]
pub struct Report {
    pub backend: &'static str,
    #[serde(flatten)]
    pub machine: Machine,
    pub world: &'static str,
    pub num_ranks: usize,
    pub num_nodes: usize,
    pub layer: LayerShape,
    pub num_tokens: usize,
    /// Bytes of all ranks' weights.
    pub weight_bytes: usize,
    /// Of the fastest step.
    pub stages: Vec<StageReport>,
    /// Time of the fastest step: that of its slowest rank.
    pub total_us: f64,
    pub tokens_per_s: f64,
    pub load: Load,
    /// Against the f64 reference that quantises where the layer does; none if nothing was checked.
    pub relative_error: Option<f64>,
    /// Against the f64 reference that does not quantise activations.
    pub relative_error_unquantized: Option<f64>,
    pub num_checked_tokens: usize,
    /// Tokens not checked because FP32 may choose another expert than f64.
    pub num_undecided_tokens: usize,
    /// SHA-256 of the output's bits in token order.
    pub output_digest: String,
}

/// What the layer ran on.
#[derive(Debug, Serialize)]
pub struct Machine {
    /// The processor's instructions.
    pub simd: Option<String>,
    /// The first rank's CUDA device.
    pub device: Option<String>,
    /// The processor's, measured here.
    pub limits: Option<Limits>,
}

impl Machine {
    /// This processor, whose limits it measures.
    pub fn processor(simd: String) -> Self {
        Self { simd: Some(simd), device: None, limits: Some(machine_limits()) }
    }

    /// A CUDA device.
    pub fn device(name: String) -> Self {
        Self { simd: None, device: Some(name), limits: None }
    }
}

#[derive(Debug, Serialize)]
pub struct LayerShape {
    pub layer_idx: usize,
    pub hidden: usize,
    pub intermediate_hidden: usize,
    pub num_experts: usize,
    pub num_topk: usize,
    pub num_shared_experts: usize,
    pub dtype: &'static str,
    pub layout: &'static str,
    pub reduce: &'static str,
}

#[derive(Debug, Serialize)]
pub struct StageReport {
    pub name: &'static str,
    /// The stage's share of the step: every moment is divided equally among the ranks that are in the
    /// step, so the stages of all ranks add up to the step. The rates refer to it.
    pub time_us: f64,
    /// From the stage's start to its end on a rank, waits and the time of ranks on the same cores
    /// included; mean over ranks.
    pub rank_us: f64,
    /// Of all ranks, as `bytes`.
    pub flops: u64,
    pub bytes: u64,
    pub gflop_per_s: f64,
    pub gb_per_s: f64,
    /// The time that the limits allow, over `time_us`: 1 = at the limit; none without limits.
    pub x_of_limit: Option<f64>,
}

/// Where the tokens went.
#[derive(Debug, Serialize)]
pub struct Load {
    /// `[num_experts]`.
    pub num_tokens_per_expert: Vec<usize>,
    /// `[num_ranks]`.
    pub num_tokens_per_rank: Vec<usize>,
    pub expert_max_over_mean: f64,
    pub rank_max_over_mean: f64,
}

impl Report {
    /// Puts the ranks' reports together.
    pub fn new(
        args: &MoeArgs,
        model: &Model,
        world: &World,
        machine: Machine,
        format: WireFormat,
        ranks: &[RankReport],
    ) -> Self {
        let (step_idx, total_us) = fastest_step(ranks);
        let stages = stages(model, format, ranks, step_idx, machine.limits.as_ref());
        let errors = ranks.iter().filter_map(|rank| rank.errors).reduce(Errors::merge);
        let errors = errors.unwrap_or_default();
        let relative_error =
            |squares: Squares| (errors.num_tokens > 0).then(|| squares.relative_error());
        let mut digest = Sha256::new();
        ranks.iter().flat_map(|rank| &rank.token_digests).for_each(|token| digest.update(token));
        Self {
            backend: match args.backend {
                BackendArg::Cpu => "cpu",
                BackendArg::Cuda => "cuda",
            },
            machine,
            world: match args.world {
                WorldArg::Threads => "threads",
                WorldArg::Mpi => "mpi",
            },
            num_ranks: world.num_ranks(),
            num_nodes: world.num_nodes(),
            layer: LayerShape::new(args, model, format),
            num_tokens: args.num_tokens,
            weight_bytes: ranks.iter().map(|rank| rank.weight_bytes).sum(),
            stages,
            total_us,
            tokens_per_s: args.num_tokens as f64 / (total_us / 1e6),
            load: Load::new(model.config.gate.num_experts, ranks),
            relative_error: relative_error(errors.quantized),
            relative_error_unquantized: relative_error(errors.unquantized),
            num_checked_tokens: errors.num_tokens,
            num_undecided_tokens: errors.num_undecided,
            output_digest: digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }
}

impl LayerShape {
    fn new(args: &MoeArgs, model: &Model, format: WireFormat) -> Self {
        let config = &model.config;
        Self {
            layer_idx: model.layer_idx,
            hidden: config.hidden,
            intermediate_hidden: config.intermediate_hidden,
            num_experts: config.gate.num_experts,
            num_topk: config.gate.num_topk,
            num_shared_experts: config.num_shared_experts,
            dtype: match format {
                WireFormat::Fp8 => "fp8",
                WireFormat::Bf16 => "bf16",
            },
            layout: match args.layout {
                LayoutArg::Contiguous => "contiguous",
                LayoutArg::Masked => "masked",
            },
            reduce: match args.reduce {
                ReduceArg::Slot => "slot",
                ReduceArg::Rank => "rank",
            },
        }
    }
}

/// Limits of all cores, also where this process computes on its share of them.
fn machine_limits() -> Limits {
    let all_cores = rayon::ThreadPoolBuilder::new().num_threads(num_cores()).build();
    all_cores.map_or_else(|_| Limits::measure(), |pool| pool.install(Limits::measure))
}

/// The step whose slowest rank was fastest, and that rank's time.
fn fastest_step(ranks: &[RankReport]) -> (usize, f64) {
    let num_steps = ranks.iter().map(|rank| rank.stage_us.len()).min().unwrap_or(0);
    let total = |step_idx: usize| {
        let totals = ranks.iter().map(|rank| rank.stage_us[step_idx].iter().sum());
        (step_idx, totals.fold(0.0, f64::max))
    };
    (0..num_steps).map(total).min_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or_default()
}

fn stages(
    model: &Model,
    format: WireFormat,
    ranks: &[RankReport],
    step_idx: usize,
    limits: Option<&Limits>,
) -> Vec<StageReport> {
    let times: Vec<&[f64]> = ranks.iter().map(|rank| &rank.stage_us[step_idx][..]).collect();
    let shares = shares(&times);
    let stage = |(stage_idx, stage): (usize, Stage)| {
        let rank_us = times.iter().map(|times| times[stage_idx]).sum::<f64>() / ranks.len() as f64;
        let loads = ranks.iter().map(|rank| rank.load(ranks.len()));
        let cost = loads.map(|load| model.config.stage_cost(stage, format, &load)).sum();
        StageReport::new(stage.name(), [shares[stage_idx], rank_us], cost, limits)
    };
    let stages = Stage::ALL.into_iter().enumerate().map(stage);
    stages.filter(|stage| stage.rank_us > 0.0).collect()
}

/// Divides every moment of a step equally among the ranks that are in it; returns what each stage got.
///
/// `times` has each rank's `[num_stages]` times; all ranks leave the barrier before the step together.
fn shares(times: &[&[f64]]) -> Vec<f64> {
    let ends: Vec<Vec<f64>> = times
        .iter()
        .map(|times| {
            let ends = times.iter().scan(0.0, |end, time| {
                *end += time;
                Some(*end)
            });
            ends.collect()
        })
        .collect();
    let mut moments: Vec<f64> = ends.iter().flatten().copied().collect();
    moments.sort_by(f64::total_cmp);
    let mut shares = vec![0.0; times.first().map_or(0, |times| times.len())];
    let mut from = 0.0;
    for to in moments {
        let current: Vec<usize> =
            ends.iter().filter_map(|ends| ends.iter().position(|&end| end > from)).collect();
        current.iter().for_each(|&stage| shares[stage] += (to - from) / current.len() as f64);
        from = to;
    }
    shares
}

impl StageReport {
    fn new(
        name: &'static str,
        [time_us, rank_us]: [f64; 2],
        cost: Cost,
        limits: Option<&Limits>,
    ) -> Self {
        let (gflops, gigabytes) = (cost.flops() as f64 / 1e9, cost.hbm_bytes as f64 / 1e9);
        let seconds = time_us / 1e6;
        let floor = |limits: &Limits| {
            (gflops / limits.fma_gflop_per_s).max(gigabytes / limits.memcpy_gb_per_s)
        };
        Self {
            name,
            time_us,
            rank_us,
            flops: cost.flops(),
            bytes: cost.hbm_bytes,
            gflop_per_s: gflops / seconds,
            gb_per_s: gigabytes / seconds,
            x_of_limit: limits.map(|limits| floor(limits) / seconds),
        }
    }
}

impl Load {
    fn new(num_experts: usize, ranks: &[RankReport]) -> Self {
        // Physical experts beyond the logical ones are unused.
        let per_expert = ranks.iter().flat_map(|rank| &rank.num_recv_tokens_per_expert);
        let num_tokens_per_expert: Vec<usize> =
            per_expert.take(num_experts).map(|&count| count.max(0) as usize).collect();
        let num_tokens_per_rank: Vec<usize> =
            ranks.iter().map(|rank| rank.load(ranks.len()).num_recv_tokens).collect();
        Self {
            expert_max_over_mean: max_over_mean(&num_tokens_per_expert),
            rank_max_over_mean: max_over_mean(&num_tokens_per_rank),
            num_tokens_per_expert,
            num_tokens_per_rank,
        }
    }

    /// Experts in each of `num_bins` equal ranges of load: upper end (included) and number of experts.
    pub fn histogram(&self, num_bins: usize) -> Vec<(usize, usize)> {
        let max = self.num_tokens_per_expert.iter().copied().max().unwrap_or(0);
        let step = (max + 1).div_ceil(num_bins).max(1);
        let mut bins: BTreeMap<usize, usize> = (0..=max / step).map(|bin| (bin, 0)).collect();
        for count in &self.num_tokens_per_expert {
            *bins.entry(count / step).or_default() += 1;
        }
        bins.into_iter().map(|(bin, experts)| ((bin + 1) * step - 1, experts)).collect()
    }
}

fn max_over_mean(counts: &[usize]) -> f64 {
    let (max, sum) = (counts.iter().max().copied().unwrap_or(0), counts.iter().sum::<usize>());
    if sum == 0 { 1.0 } else { max as f64 * counts.len() as f64 / sum as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(counts: &[usize]) -> Load {
        Load {
            num_tokens_per_expert: counts.to_vec(),
            num_tokens_per_rank: vec![counts.iter().sum()],
            expert_max_over_mean: max_over_mean(counts),
            rank_max_over_mean: 1.0,
        }
    }

    #[test]
    fn every_expert_falls_into_one_bin() {
        assert_eq!(load(&[0, 0, 1, 9]).histogram(5), [(1, 3), (3, 0), (5, 0), (7, 0), (9, 1)]);
        assert_eq!(load(&[0, 0]).histogram(5), [(0, 2)]);
    }

    #[test]
    fn every_moment_is_divided_among_the_ranks_in_the_step() {
        assert_eq!(shares(&[&[1.0, 0.0, 3.0]]), [1.0, 0.0, 3.0]);
        // Until 2 both ranks are in the first stage, until 4 in different ones, then one is alone.
        assert_eq!(shares(&[&[2.0, 2.0], &[4.0, 3.0]]), [3.0, 4.0]);
        let all = [[3.0, 0.5, 9.0], [0.1, 8.0, 0.0], [2.0, 2.0, 2.0]];
        let step = 12.5;
        let sum: f64 = shares(&all.each_ref().map(|times| &times[..])).iter().sum();
        assert!((sum - step).abs() < 1e-12, "{sum}");
        assert_eq!(shares(&[]), [0.0; 0]);
    }

    #[test]
    fn the_balance_is_the_largest_over_the_mean() {
        assert_eq!(load(&[4, 0, 2, 2]).expert_max_over_mean, 2.0);
        assert_eq!(load(&[0, 0]).expert_max_over_mean, 1.0);
    }
}
