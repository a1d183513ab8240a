//! `rebalance_experts`: the entry point.

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

    /// Returns the equal GPUs that these extents describe.
    ///
    /// # Errors
    ///
    /// Those of [`Cluster::uniform`].
    pub fn cluster(&self) -> Result<Cluster> {
        Cluster::uniform(self.num_physical_experts, self.num_nodes, self.num_gpus)
    }

    pub(super) fn check(&self, num_logical_experts: usize) -> Result<()> {
        if self.num_physical_experts < num_logical_experts
            || i32::try_from(self.num_physical_experts).is_err()
        {
            let expected = format!("num_logical_experts = {num_logical_experts} to 2147483647");
            let got = self.num_physical_experts;
            return Err(Error::value(OP, "num_physical_experts", expected, got));
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
}

/// Places the experts of every layer.
pub fn rebalance_experts(
    load: &ExpertLoad,
    params: &RebalanceParams,
    policy: &Policy,
) -> Result<Placement> {
    match policy {
        Policy::DeepSeek => deepseek::rebalance(load, params),
    }
}
