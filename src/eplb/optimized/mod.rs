//! The policy that narrows the gap to the lower bound: pack, then search.

mod groups;
mod initial;
mod search;
mod state;

use rayon::prelude::*;

use self::groups::NodeGroups;
pub(super) use self::initial::replica_counts;
use self::search::{Effort, improve};
pub(super) use self::search::{Move, apply, best_move};
pub(super) use self::state::{Homes, Pool, State, TOLERANCE};
use super::bound::Capacity;
use super::{Cluster, ExpertLoad, Placement, deepseek};
use crate::{Error, Result};

const OP: &str = "rebalance_experts";

/// What [`Policy::Optimized`](super::Policy::Optimized) may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OptimizedOptions {
    /// Lets two replicas of an expert share a GPU where that lowers the maximum. Otherwise they
    /// never do while the expert has at most as many replicas as there are GPUs, but on a GPU with
    /// more slots than there are experts.
    pub allow_duplicates: bool,
    /// Spreads every expert over all nodes, even where the groups could be kept on nodes.
    pub ignore_groups: bool,
    /// Detours tried from a placement that no single move improves: more are slower and better.
    pub num_detours: usize,
}

impl Default for OptimizedOptions {
    fn default() -> Self {
        Self { allow_duplicates: false, ignore_groups: false, num_detours: 16 }
    }
}

/// Places every layer on any cluster: GPUs may differ in slots and speed, or have failed.
///
/// Groups of experts (`num_expert_groups`, in order, sizes as even as they divide) stay on one node
/// each if the nodes divide them and `ignore_groups` is off; a node too small for a whole group then
/// stays empty (-1). No placement without duplicates that
/// DeepSeek's policy finds for equal GPUs is better than the one returned.
///
/// # Errors
///
/// [`Error::Value`] if the working slots are fewer than the experts, or the slots of the nodes
/// cannot hold whole groups; [`Error::Value`] for `num_expert_groups` 0 or above the experts.
///
/// # Examples
///
/// ```
/// use moekit::eplb::{Cluster, ExpertLoad, OptimizedOptions, place_on_cluster};
///
/// let load = ExpertLoad::new([[8, 4, 2, 2]])?;
/// let cluster = Cluster::uniform(6, 1, 3)?.with_failed(&[1])?;
/// let placement = place_on_cluster(&load, &cluster, 1, &OptimizedOptions::default())?;
/// assert_eq!(placement.physical_to_logical(0)[2..4], [-1, -1]);
/// # Ok::<(), moekit::Error>(())
/// ```
pub fn place_on_cluster(
    load: &ExpertLoad,
    cluster: &Cluster,
    num_expert_groups: usize,
    options: &OptimizedOptions,
) -> Result<Placement> {
    let num_experts = load.num_logical_experts();
    if num_expert_groups == 0 || num_expert_groups > num_experts {
        let expected = format!("1 to num_logical_experts = {num_experts}");
        return Err(Error::value(OP, "num_expert_groups", expected, num_expert_groups));
    }
    if cluster.num_usable_slots() < num_experts {
        let expected = format!("at least num_logical_experts = {num_experts} on working GPUs");
        let got = cluster.num_usable_slots();
        return Err(Error::value(OP, "num_physical_experts", expected, got));
    }
    let num_nodes = cluster.num_nodes();
    let hierarchical =
        !options.ignore_groups && num_nodes > 1 && num_expert_groups.is_multiple_of(num_nodes);
    let groups = if hierarchical {
        NodeGroups::new(cluster, num_experts, num_expert_groups)?
    } else {
        NodeGroups::whole(cluster, num_experts)
    };
    let num_groups = if hierarchical { num_expert_groups } else { 1 };
    let reference = deepseek::rebalance_on(load, cluster, num_groups).ok();
    let layers: Vec<&[f32]> = load.layers().collect();
    let rows: Vec<Vec<i32>> = layers
        .par_iter()
        .enumerate()
        .map(|(layer_idx, &load)| {
            let weights: Vec<f64> = load.iter().map(|&w| f64::from(w)).collect();
            let strict = OptimizedOptions { allow_duplicates: false, ..*options };
            let held = place_layer(&weights, cluster, &groups, &strict);
            let mut row = row_of(cluster, &held);
            if options.allow_duplicates {
                let held = place_layer(&weights, cluster, &groups, options);
                row = better_of(row, Some(&row_of(cluster, &held)), &weights, cluster, true);
            }
            let given =
                reference.as_ref().map(|placement| placement.physical_to_logical(layer_idx));
            better_of(row, given, &weights, cluster, options.allow_duplicates)
        })
        .collect();
    Placement::new(&rows, num_experts)
}

/// Returns the experts on each GPU of the cluster, under the best assignment of groups to nodes.
fn place_layer(
    weights: &[f64],
    cluster: &Cluster,
    groups: &NodeGroups,
    options: &OptimizedOptions,
) -> Vec<Vec<u32>> {
    let mut placed = groups
        .assignments(weights)
        .into_iter()
        .map(|nodes| place_on_nodes(weights, cluster, nodes, options));
    let first = placed.next().unwrap_or_default();
    placed.fold(first, |best, next| {
        let time = |held: &Vec<Vec<u32>>| time_of(weights, cluster, held.clone());
        if time(&next) < time(&best) { next } else { best }
    })
}

/// Returns the time of the slowest GPU.
fn time_of(weights: &[f64], cluster: &Cluster, held: Vec<Vec<u32>>) -> f64 {
    let pool = Pool::of(cluster, &(0..cluster.num_gpus()).collect::<Vec<_>>(), true);
    State::from_held(weights, &pool, held).slowest().1
}

fn place_on_nodes(
    weights: &[f64],
    cluster: &Cluster,
    nodes: Vec<(Vec<usize>, Vec<u32>)>,
    options: &OptimizedOptions,
) -> Vec<Vec<u32>> {
    let mut held = vec![Vec::new(); cluster.num_gpus()];
    for (gpus, experts) in nodes {
        let pool = Pool::of(cluster, &gpus, options.allow_duplicates);
        let node_weights: Vec<f64> = experts.iter().map(|&e| weights[e as usize]).collect();
        let mut state = initial::pack(&node_weights, &pool);
        let effort = Effort {
            max_steps: 4 * pool.num_slots(),
            max_detour_steps: 48,
            num_detours: options.num_detours,
        };
        improve(&mut state, pool.capacity().simple_bound(&node_weights), effort);
        for (&gpu, node_held) in gpus.iter().zip(&state.held) {
            held[gpu] = node_held.iter().map(|&e| experts[e as usize]).collect();
            held[gpu].sort_unstable();
        }
    }
    held
}

/// Lays the experts of each GPU out in its slots; the slots of failed GPUs hold -1.
pub(super) fn row_of(cluster: &Cluster, held: &[Vec<u32>]) -> Vec<i32> {
    let mut row = vec![-1; cluster.num_physical_experts()];
    for (gpu, experts) in held.iter().enumerate() {
        let slots = cluster.slots_of(gpu);
        row[slots].iter_mut().zip(experts).for_each(|(slot, &e)| *slot = e as i32);
    }
    row
}

/// Returns `given` if it may be used and its slowest GPU is faster than that of `own`.
fn better_of(
    own: Vec<i32>,
    given: Option<&[i32]>,
    weights: &[f64],
    cluster: &Cluster,
    allow_duplicates: bool,
) -> Vec<i32> {
    let Some(given) = given else { return own };
    let pool = Pool::of(cluster, &(0..cluster.num_gpus()).collect::<Vec<_>>(), allow_duplicates);
    let state = |row: &[i32]| State::from_held(weights, &pool, held_of(cluster, row));
    let theirs = state(given);
    if theirs.slowest().1 < state(&own).slowest().1
        && (allow_duplicates || theirs.num_duplicates() == 0)
    {
        return given.to_vec();
    }
    own
}

/// Returns the experts that a layer's row puts on each GPU.
pub(super) fn held_of(cluster: &Cluster, row: &[i32]) -> Vec<Vec<u32>> {
    (0..cluster.num_gpus())
        .map(|gpu| {
            let slots = row.get(cluster.slots_of(gpu)).unwrap_or_default();
            slots.iter().filter(|&&e| e >= 0).map(|&e| e as u32).collect()
        })
        .collect()
}

impl Pool {
    /// The given GPUs of a cluster, in this order.
    pub fn of(cluster: &Cluster, gpus: &[usize], allow_duplicates: bool) -> Self {
        let slots = |&gpu: &usize| {
            let gpu = &cluster.gpus()[gpu];
            if gpu.failed { 0 } else { gpu.num_slots }
        };
        Self {
            slots: gpus.iter().map(slots).collect(),
            speeds: gpus.iter().map(|&gpu| cluster.gpus()[gpu].speed).collect(),
            allow_duplicates,
            homes: None,
        }
    }

    fn capacity(&self) -> Capacity {
        let usable = || self.slots.iter().zip(&self.speeds).filter(|(slots, _)| **slots > 0);
        Capacity {
            num_slots: self.num_slots(),
            num_gpus: usable().count(),
            fewest_slots: usable().map(|(slots, _)| *slots).min().unwrap_or(0),
            total_speed: usable().map(|(_, speed)| *speed).sum(),
            top_speed: usable().map(|(_, speed)| *speed).fold(0.0, f64::max),
        }
    }
}
