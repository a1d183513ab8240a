//! Rebalancing from the current placement with few expert transfers.

mod layer;
mod relabel;

use rayon::prelude::*;

use self::layer::{Checkpoint, LayerPlan};
use super::balance::check_extents_of_current;
use super::optimized::OptimizedOptions;
use super::{Cluster, ExpertLoad, Placement, place_on_cluster};
use crate::{Error, Result};

const OP: &str = "rebalance_incremental";

/// What an incremental rebalancing is to reach.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Goal {
    /// The lowest maxima that this many expert transfers, over all layers, can buy.
    AtMostMoves(usize),
    /// In every layer a `max_over_mean` of at most this, `>= 1`, with the fewest transfers found; a
    /// layer that cannot reach it is brought as low as found.
    ReachBalance(f64),
}

/// How to rebalance incrementally.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct IncrementalParams {
    /// What to reach.
    pub goal: Goal,
    /// Groups that the experts fall into, in order; 1 if there are none.
    pub num_expert_groups: usize,
    /// What placements may do, as for [`place_on_cluster`].
    pub options: OptimizedOptions,
}

/// Improves the current placement by a bounded number of expert transfers.
///
/// A transfer brings an expert to a GPU that does not hold it yet. Slots that keep their expert keep
/// it in place. The slowest GPU of a layer never gets slower than in `current`, and with 0 moves
/// nothing changes. Groups that `current` keeps on one node stay on nodes.
///
/// GPUs that failed since `current` was made lose their experts: those left without a replica are
/// placed first, which counts as transfers.
///
/// # Numerics
///
/// Deterministic. The number of transfers is the fewest found, not proven minimal: each layer walks
/// from `current` by the best single exchange or replacement, and compares a placement from scratch
/// whose GPUs are renamed to keep what they hold.
///
/// # Errors
///
/// - [`Error::Shape`] unless load, placement and cluster have the same layers, experts and slots.
/// - [`Error::Value`] if `max_moves` is too small to place the experts lost with failed GPUs, or
///   the target is below 1 or NaN.
/// - Those of [`place_on_cluster`].
///
/// # Examples
///
/// ```
/// use moekit::eplb::*;
///
/// let load = ExpertLoad::new([[8, 4, 2, 2]])?;
/// let cluster = Cluster::uniform(4, 1, 2)?;
/// let current = Placement::new(&[vec![0, 1, 2, 3]], 4)?;
/// let params = IncrementalParams {
///     goal: Goal::AtMostMoves(2),
///     num_expert_groups: 1,
///     options: OptimizedOptions::default(),
/// };
/// let next = rebalance_incremental(&load, &current, &cluster, &params)?;
/// let loads = gpu_loads(&load, &next, &cluster)?;
/// assert!(loads[0].iter().all(|&tokens| tokens <= 10.0), "{loads:?}");
/// # Ok::<(), moekit::Error>(())
/// ```
pub fn rebalance_incremental(
    load: &ExpertLoad,
    current: &Placement,
    cluster: &Cluster,
    params: &IncrementalParams,
) -> Result<Placement> {
    check_extents_of_current(OP, load, current, cluster)?;
    if let Goal::ReachBalance(target) = params.goal
        && (target.is_nan() || target < 1.0)
    {
        return Err(Error::value(OP, "target_balance", "at least 1", target));
    }
    let fresh = place_on_cluster(load, cluster, params.num_expert_groups, &params.options)?;
    let plans: Vec<LayerPlan> = (0..load.num_layers())
        .into_par_iter()
        .map(|layer_idx| {
            let weights: Vec<f64> = load.layer(layer_idx).iter().map(|&w| f64::from(w)).collect();
            let rows =
                (current.physical_to_logical(layer_idx), fresh.physical_to_logical(layer_idx));
            LayerPlan::new(weights, rows, cluster, params)
        })
        .collect();
    let chosen = choose(&plans, params.goal)?;
    let rows: Vec<Vec<i32>> = plans
        .par_iter()
        .zip(&chosen)
        .enumerate()
        .map(|(layer_idx, (plan, checkpoint))| {
            plan.row_at(checkpoint, current.physical_to_logical(layer_idx), cluster)
        })
        .collect();
    current.with_rows(&rows)
}

/// Picks one checkpoint a layer.
fn choose(plans: &[LayerPlan], goal: Goal) -> Result<Vec<Checkpoint>> {
    match goal {
        Goal::ReachBalance(target) => {
            Ok(plans.iter().map(|plan| plan.first_to_reach(target)).collect())
        }
        Goal::AtMostMoves(max_moves) => spend(plans, max_moves),
    }
}

/// Spends transfers where one of them lowers a layer's maximum most, until none helps or is left.
fn spend(plans: &[LayerPlan], max_moves: usize) -> Result<Vec<Checkpoint>> {
    let mut chosen: Vec<Checkpoint> = plans.iter().map(|plan| plan.checkpoints[0]).collect();
    let num_needed: usize = chosen.iter().map(|checkpoint| checkpoint.num_transfers).sum();
    let Some(mut num_left) = max_moves.checked_sub(num_needed) else {
        let expected = format!("at least {num_needed}, to place experts lost with failed GPUs");
        return Err(Error::value(OP, "max_moves", expected, max_moves));
    };
    loop {
        let mut best: Option<(f64, usize, Checkpoint)> = None;
        for (layer_idx, plan) in plans.iter().enumerate() {
            let now = chosen[layer_idx];
            for &next in &plan.checkpoints {
                let cost = next.num_transfers.saturating_sub(now.num_transfers);
                let gain = now.time - next.time;
                if cost == 0 || cost > num_left || gain <= 0.0 {
                    continue;
                }
                let rate = gain / cost as f64;
                if best.is_none_or(|(other, ..)| rate > other) {
                    best = Some((rate, layer_idx, next));
                }
            }
        }
        let Some((_, layer_idx, next)) = best else { return Ok(chosen) };
        num_left -= next.num_transfers - chosen[layer_idx].num_transfers;
        chosen[layer_idx] = next;
    }
}
