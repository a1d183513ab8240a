//! Replay of a trace: what a policy and an interval would have reached, and at what cost.

use serde::Serialize;

use super::{
    Cluster, Estimator, ExpertLoad, Goal, Gpu, IncrementalParams, LinkSpeeds, LoadEstimator,
    OptimizedOptions, Placement, deepseek, gpu_loads, place_on_cluster, plan_migration,
    rebalance_incremental, split_tokens,
};
use crate::{Error, Result};

const OP: &str = "simulate_trace";

/// What happens at every interval of a simulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SimulatedPolicy {
    /// Nothing: the first placement stays.
    Fixed,
    /// A new placement by DeepSeek's policy, with all the transfers that it takes.
    DeepSeek,
    /// A new placement by the optimized policy, with all the transfers that it takes.
    Optimized,
    /// At most this many transfers from the placement in use.
    Incremental {
        /// Expert transfers at one interval, over all layers.
        max_moves: usize,
    },
}

/// How a trace is replayed.
#[derive(Debug, Clone, PartialEq)]
pub struct SimulationParams {
    /// The GPUs.
    pub cluster: Cluster,
    /// Groups that the experts fall into, in order; 1 if there are none.
    pub num_expert_groups: usize,
    /// What happens at every interval.
    pub policy: SimulatedPolicy,
    /// What placements may do, for the policies that search.
    pub options: OptimizedOptions,
    /// Steps between two rebalancings, `>= 1`.
    pub interval: usize,
    /// How past steps predict those to come.
    pub estimator: Estimator,
    /// Whether each step's tokens are split exactly over replicas, rather than evenly.
    pub split_tokens: bool,
    /// Bytes of one expert of one layer.
    pub expert_bytes: u64,
    /// Links that migrations use.
    pub links: LinkSpeeds,
    /// Microseconds that a GPU of speed 1 needs for one unit of load of one layer.
    pub us_per_load: f64,
}

/// One step of a simulation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SimulatedStep {
    /// Mean over layers of the slowest GPU's load over the mean load.
    pub mean_max_over_mean: f64,
    /// The largest of them.
    pub worst_max_over_mean: f64,
    /// Time of the step: the slowest GPU of each layer, in microseconds.
    pub time_us: f64,
    /// Expert transfers before the step.
    pub num_moves: usize,
    /// Bytes of these transfers.
    pub moved_bytes: u64,
    /// Time of these transfers, in which no step runs, in microseconds.
    pub stall_us: f64,
}

/// A replayed trace.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Simulation {
    /// One entry a step.
    pub steps: Vec<SimulatedStep>,
    /// Mean of `mean_max_over_mean` over the steps.
    pub mean_max_over_mean: f64,
    /// Largest `worst_max_over_mean` of a step.
    pub worst_max_over_mean: f64,
    /// Transfers of all steps.
    pub num_moves: usize,
    /// Bytes of all transfers.
    pub moved_bytes: u64,
    /// Time of all transfers, in microseconds.
    pub stall_us: f64,
    /// Time of all steps and transfers, in microseconds.
    pub total_us: f64,
    /// The placement after the last step.
    #[serde(skip)]
    pub placement: Placement,
}

/// Replays a trace of expert counts under a policy.
///
/// The first placement is made for an even load. Before every step whose index is a positive
/// multiple of `interval`, the policy acts on the estimate from the steps before.
///
/// # Errors
///
/// [`Error::Value`] for an empty trace, `interval` 0, or a `us_per_load` or link speed that is not
/// finite and positive; [`Error::Shape`] if steps differ in layers or experts; those of the policy
/// and the estimator.
///
/// # Examples
///
/// ```
/// use moekit::eplb::*;
///
/// let trace = vec![ExpertLoad::new([[90, 10, 10, 10]])?; 4];
/// let params = SimulationParams {
///     cluster: Cluster::uniform(6, 1, 2)?,
///     num_expert_groups: 1,
///     policy: SimulatedPolicy::Incremental { max_moves: 2 },
///     options: OptimizedOptions::default(),
///     interval: 2,
///     estimator: Estimator::WindowedMean { window: 2 },
///     split_tokens: false,
///     expert_bytes: 44_000_000,
///     links: LinkSpeeds::default(),
///     us_per_load: 0.1,
/// };
/// let simulation = simulate_trace(&trace, &params)?;
/// let [first, .., last] = simulation.steps[..] else { unreachable!("four steps") };
/// assert!(last.mean_max_over_mean <= first.mean_max_over_mean);
/// assert!(simulation.num_moves <= 2);
/// # Ok::<(), moekit::Error>(())
/// ```
pub fn simulate_trace(trace: &[ExpertLoad], params: &SimulationParams) -> Result<Simulation> {
    let first = check(trace, params)?;
    let experts = vec![1.0; first.num_logical_experts()];
    let even = ExpertLoad::new(vec![experts; first.num_layers()])?;
    let mut placement = params.place(&even)?;
    let mut estimator = LoadEstimator::new(params.estimator)?;
    let mut steps = Vec::with_capacity(trace.len());
    for (step_idx, counts) in trace.iter().enumerate() {
        let due = step_idx > 0 && step_idx % params.interval == 0;
        let mut migration = None;
        if let Some(estimate) = estimator.estimate().filter(|_| due) {
            let next = params.rebalance(&estimate, &placement)?;
            let cluster = &params.cluster;
            migration = Some(plan_migration(&placement, &next, cluster, params.expert_bytes)?);
            placement = next;
        }
        let balance = params.measure(counts, &placement)?;
        let moved = migration.filter(|plan| plan.num_transfers > 0);
        steps.push(SimulatedStep {
            num_moves: moved.as_ref().map_or(0, |plan| plan.num_transfers),
            moved_bytes: moved.as_ref().map_or(0, |plan| plan.total_bytes),
            stall_us: moved.map_or(0.0, |plan| plan.time_us(&params.cluster, &params.links)),
            ..balance
        });
        estimator.push(counts)?;
    }
    let num_steps = steps.len() as f64;
    let stall_us = steps.iter().map(|step| step.stall_us).sum();
    Ok(Simulation {
        mean_max_over_mean: steps.iter().map(|s| s.mean_max_over_mean).sum::<f64>() / num_steps,
        worst_max_over_mean: steps.iter().map(|s| s.worst_max_over_mean).fold(0.0, f64::max),
        num_moves: steps.iter().map(|step| step.num_moves).sum(),
        moved_bytes: steps.iter().map(|step| step.moved_bytes).sum(),
        stall_us,
        total_us: stall_us + steps.iter().map(|step| step.time_us).sum::<f64>(),
        steps,
        placement,
    })
}

fn check<'a>(trace: &'a [ExpertLoad], params: &SimulationParams) -> Result<&'a ExpertLoad> {
    if params.interval == 0 {
        return Err(Error::value(OP, "interval", "at least 1", 0));
    }
    for (arg, value) in [
        ("us_per_load", params.us_per_load),
        ("intra_node_bytes_per_us", params.links.intra_node_bytes_per_us),
        ("inter_node_bytes_per_us", params.links.inter_node_bytes_per_us),
    ] {
        if !(value.is_finite() && value > 0.0) {
            return Err(Error::value(OP, arg, "finite and > 0", value));
        }
    }
    trace.first().ok_or_else(|| Error::value(OP, "trace", "at least one step", "no step"))
}

impl SimulationParams {
    /// Places from scratch.
    fn place(&self, load: &ExpertLoad) -> Result<Placement> {
        match self.policy {
            SimulatedPolicy::DeepSeek => {
                deepseek::rebalance_on(load, &self.cluster, self.num_expert_groups)
            }
            _ => place_on_cluster(load, &self.cluster, self.num_expert_groups, &self.options),
        }
    }

    fn rebalance(&self, load: &ExpertLoad, current: &Placement) -> Result<Placement> {
        match self.policy {
            SimulatedPolicy::Fixed => Ok(current.clone()),
            SimulatedPolicy::DeepSeek | SimulatedPolicy::Optimized => self.place(load),
            SimulatedPolicy::Incremental { max_moves } => {
                let params = IncrementalParams {
                    goal: Goal::AtMostMoves(max_moves),
                    num_expert_groups: self.num_expert_groups,
                    options: self.options,
                };
                rebalance_incremental(load, current, &self.cluster, &params)
            }
        }
    }

    /// Measures one step; nothing has moved.
    fn measure(&self, counts: &ExpertLoad, placement: &Placement) -> Result<SimulatedStep> {
        let gpus = self.cluster.gpus();
        let time = |(gpu, load): (&Gpu, &f64)| load / gpu.speed;
        let slowest = |loads: &[f64]| gpus.iter().zip(loads).map(time).fold(0.0, f64::max);
        let even = gpu_loads(counts, placement, &self.cluster)?;
        let max_loads: Vec<f64> = if self.split_tokens {
            let split = split_tokens(counts, placement, &self.cluster)?;
            (0..split.num_layers()).map(|layer| split.max_load(layer)).collect()
        } else {
            even.iter().map(|loads| slowest(loads)).collect()
        };
        let total_speed: f64 = self.cluster.usable_gpus().map(|gpu| gpus[gpu].speed).sum();
        let means = even.iter().map(|loads| loads.iter().sum::<f64>() / total_speed);
        let ratio = |(max, mean): (&f64, f64)| if mean > 0.0 { max / mean } else { 1.0 };
        let ratios: Vec<f64> = max_loads.iter().zip(means).map(ratio).collect();
        Ok(SimulatedStep {
            mean_max_over_mean: ratios.iter().sum::<f64>() / ratios.len() as f64,
            worst_max_over_mean: ratios.iter().copied().fold(0.0, f64::max),
            time_us: self.us_per_load * max_loads.iter().sum::<f64>(),
            num_moves: 0,
            moved_bytes: 0,
            stall_us: 0.0,
        })
    }
}
