//! `rebalance_experts`: the entry point.

use super::cluster::MAX_SLOTS;
use super::optimized::{OptimizedOptions, place_on_cluster};
use super::{Cluster, ExpertLoad, Placement, deepseek};
use crate::{Error, Result};

const OP: &str = "rebalance_experts";

/// Extents of a rebalancing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RebalanceParams {
    /// Slots of a layer on all GPUs together, `>= num_logical_experts`.
    pub num_physical_experts: usize,
    /// Groups that the experts fall into, in order and equally many to a group.
    pub num_expert_groups: usize,
    /// Nodes that the GPUs fall into, in order.
    pub num_nodes: usize,
    /// GPUs of all nodes together.
    pub num_gpus: usize,
}

impl RebalanceParams {
    /// Returns whether groups are kept on nodes: `num_expert_groups % num_nodes == 0`.
    pub fn is_hierarchical(&self) -> bool {
        self.num_expert_groups.is_multiple_of(self.num_nodes)
    }

    /// Returns the equal GPUs that these extents describe; nodes count only if there are as many
    /// GPUs or groups are kept on nodes.
    ///
    /// # Errors
    ///
    /// Those of [`Cluster::uniform`].
    pub fn cluster(&self) -> Result<Cluster> {
        let needs_nodes = self.num_nodes <= self.num_gpus || self.is_hierarchical();
        let num_nodes = if needs_nodes { self.num_nodes } else { 1 };
        Cluster::uniform(self.num_physical_experts, num_nodes, self.num_gpus)
    }

    /// Checks the extents that every policy needs.
    ///
    /// # Errors
    ///
    /// [`Error::Value`] for an extent of 0 or `num_physical_experts < num_logical_experts`.
    pub fn check(&self, num_logical_experts: usize) -> Result<()> {
        let arg = "num_physical_experts";
        let got = self.num_physical_experts;
        if got < num_logical_experts {
            let expected = format!("at least num_logical_experts = {num_logical_experts}");
            return Err(Error::value(OP, arg, expected, got));
        }
        if got > MAX_SLOTS {
            return Err(Error::value(OP, arg, format!("at most {MAX_SLOTS}"), got));
        }
        for (arg, value) in [
            ("num_expert_groups", self.num_expert_groups),
            ("num_nodes", self.num_nodes),
            ("num_gpus", self.num_gpus),
        ] {
            if value == 0 {
                return Err(Error::value(OP, arg, "at least 1", value));
            }
        }
        Ok(())
    }
}

/// How experts are placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Policy {
    /// DeepSeek's EPLB, entry for entry.
    DeepSeek,
    /// A smaller maximum, and no expert twice on a GPU; takes extents that do not divide.
    Optimized(OptimizedOptions),
}

/// Places the experts of every layer: more replicas for loaded experts, evenly loaded GPUs.
///
/// # Shapes
///
/// | name | dtype | shape | layout |
/// | --- | --- | --- | --- |
/// | `load` | FP32 | `[num_layers, num_logical_experts]` | row-major |
/// | `physical_to_logical_map` | INT32 | `[num_layers, num_physical_experts]` | GPU by GPU |
/// | `logical_to_physical_map` | INT32 | `[num_layers, num_logical_experts, max_replicas]` | -1 = padding |
/// | `logical_count` | INT32 | `[num_layers, num_logical_experts]` | replicas, >= 1 |
///
/// # Numerics
///
/// [`Policy::DeepSeek`] computes in FP32 in the reference's order, [`Policy::Optimized`] in FP64.
/// Both are deterministic, whatever the number of threads. Ties: stable descending sort, first
/// maximum, lowest GPU.
///
/// # Errors
///
/// - [`Error::Value`] for an extent of 0 or `num_physical_experts < num_logical_experts`.
/// - [`Policy::DeepSeek`]: [`Error::Value`] unless `num_physical_experts % num_gpus == 0` and, if
///   hierarchical, `num_logical_experts % num_expert_groups == 0`, `num_gpus % num_nodes == 0` and
///   `num_physical_experts % num_nodes == 0`.
/// - [`Policy::Optimized`]: those of [`Cluster::uniform`] and [`place_on_cluster`].
///
/// # Source
///
/// DeepSeek EPLB, `eplb.py`. Differs: equal loads sort stably, which the reference leaves to its
/// runtime.
///
/// # Examples
///
/// ```
/// use moekit::eplb::{ExpertLoad, Policy, RebalanceParams, rebalance_experts};
///
/// let load = ExpertLoad::new([
///     [90, 132, 40, 61, 104, 165, 39, 4, 73, 56, 183, 86],
///     [20, 107, 104, 64, 19, 197, 187, 157, 172, 86, 16, 27],
/// ])?;
/// let params = RebalanceParams {
///     num_physical_experts: 16,
///     num_expert_groups: 4,
///     num_nodes: 2,
///     num_gpus: 8,
/// };
/// let placement = rebalance_experts(&load, &params, &Policy::DeepSeek)?;
/// let expected = [5, 6, 5, 7, 8, 4, 3, 4, 10, 9, 10, 2, 0, 1, 11, 1];
/// assert_eq!(placement.physical_to_logical(0), expected);
/// # Ok::<(), moekit::Error>(())
/// ```
pub fn rebalance_experts(
    load: &ExpertLoad,
    params: &RebalanceParams,
    policy: &Policy,
) -> Result<Placement> {
    params.check(load.num_logical_experts())?;
    match policy {
        Policy::DeepSeek => deepseek::rebalance(load, params),
        Policy::Optimized(options) => {
            place_on_cluster(load, &params.cluster()?, params.num_expert_groups, options)
        }
    }
}
