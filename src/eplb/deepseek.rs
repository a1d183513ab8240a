//! The policy of DeepSeek's EPLB, map for map.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rayon::prelude::*;

use super::group_sum::group_sum;
use super::ordered::Ordered;
use super::{Cluster, ExpertLoad, Gpu, Placement, RebalanceParams};
use crate::{Error, Result};

const OP: &str = "rebalance_experts";

/// Places every layer as DeepSeek's EPLB does.
pub(super) fn rebalance(load: &ExpertLoad, params: &RebalanceParams) -> Result<Placement> {
    let shape = Hierarchy::new(load, params)?;
    let layers: Vec<&[f32]> = load.layers().collect();
    let (physical_to_logical, replica_idx): (Vec<_>, Vec<_>) =
        layers.par_iter().map(|load| shape.place(load)).unzip();
    Placement::with_replica_idx(&physical_to_logical, &replica_idx, load.num_logical_experts())
}

/// Places every layer on the GPUs of a cluster, which must be equal and work.
pub(super) fn rebalance_on(
    load: &ExpertLoad,
    cluster: &Cluster,
    num_expert_groups: usize,
) -> Result<Placement> {
    let mut params = RebalanceParams {
        num_physical_experts: cluster.num_physical_experts(),
        num_expert_groups,
        num_nodes: cluster.num_nodes(),
        num_gpus: cluster.num_gpus(),
    };
    if num_expert_groups == 1 || !params.is_hierarchical() {
        (params.num_expert_groups, params.num_nodes) = (1, 1);
    }
    let same = |(a, b): (&Gpu, &Gpu)| {
        (a.num_slots, a.speed, a.failed) == (b.num_slots, b.speed, b.failed)
            && (params.num_nodes == 1 || a.node_idx == b.node_idx)
    };
    if !params.cluster()?.gpus().iter().zip(cluster.gpus()).all(same) {
        let expected = "optimized where GPUs differ or have failed";
        return Err(Error::value(OP, "policy", expected, "deepseek"));
    }
    rebalance(load, &params)
}

/// The checked extents: groups on nodes, experts in groups, GPUs on nodes, slots on GPUs.
struct Hierarchy {
    num_groups: usize,
    num_nodes: usize,
    group_size: usize,
    gpus_per_node: usize,
    slots_per_gpu: usize,
}

impl Hierarchy {
    fn new(load: &ExpertLoad, params: &RebalanceParams) -> Result<Self> {
        let num_logical_experts = load.num_logical_experts();
        params.check(num_logical_experts)?;
        // Without as many whole groups on every node, groups and nodes are ignored.
        let (num_groups, num_nodes) = if params.is_hierarchical() {
            (params.num_expert_groups, params.num_nodes)
        } else {
            (1, 1)
        };
        let divides = |arg, value: usize, divisor: usize, of: &str| {
            if value.is_multiple_of(divisor) {
                return Ok(value / divisor);
            }
            Err(Error::value(OP, arg, format!("{of} = {divisor}"), value))
        };
        let group_size = if num_logical_experts.is_multiple_of(num_groups) {
            num_logical_experts / num_groups
        } else {
            let expected = format!("a divisor of num_logical_experts = {num_logical_experts}");
            return Err(Error::value(OP, "num_expert_groups", expected, num_groups));
        };
        let gpus_per_node =
            divides("num_gpus", params.num_gpus, num_nodes, "a multiple of num_nodes")?;
        let slots_per_gpu = divides(
            "num_physical_experts",
            params.num_physical_experts,
            params.num_gpus,
            "a multiple of num_gpus",
        )?;
        Ok(Self { num_groups, num_nodes, group_size, gpus_per_node, slots_per_gpu })
    }

    /// Returns `(physical_to_logical, replica_idx)` of one layer.
    fn place(&self, load: &[f32]) -> (Vec<i32>, Vec<i32>) {
        let num_slots = self.gpus_per_node * self.num_nodes * self.slots_per_gpu;
        let mut physical_to_logical = Vec::with_capacity(num_slots);
        let mut replica_idx = Vec::with_capacity(num_slots);
        for experts in self.experts_of_nodes(load) {
            let node_load: Vec<f32> = experts.iter().map(|&e| load[e as usize]).collect();
            let replicas = replicate(&node_load, num_slots / self.num_nodes);
            let loads: Vec<f32> = replicas.loads(&node_load);
            for pack in balanced_packing(&loads, self.gpus_per_node) {
                physical_to_logical
                    .extend(pack.iter().map(|&r| experts[replicas.expert[r] as usize]));
                replica_idx.extend(pack.iter().map(|&r| replicas.replica_idx[r]));
            }
        }
        (physical_to_logical, replica_idx)
    }

    /// Packs the groups onto nodes and lists every node's logical experts in order.
    fn experts_of_nodes(&self, load: &[f32]) -> Vec<Vec<i32>> {
        let group_loads: Vec<f32> = load.chunks_exact(self.group_size).map(group_sum).collect();
        debug_assert_eq!(group_loads.len(), self.num_groups);
        let experts_of = |&group: &usize| {
            let start = group * self.group_size;
            (start..start + self.group_size).map(|e| e as i32)
        };
        let packs = balanced_packing(&group_loads, self.num_nodes);
        packs.iter().map(|pack| pack.iter().flat_map(experts_of).collect()).collect()
    }
}

/// Replicas of the experts of one node, in order of creation.
struct Replicas {
    expert: Vec<i32>,
    replica_idx: Vec<i32>,
    count: Vec<i32>,
}

impl Replicas {
    fn loads(&self, load: &[f32]) -> Vec<f32> {
        self.expert.iter().map(|&e| load[e as usize] / self.count[e as usize] as f32).collect()
    }
}

/// Gives every expert one replica, then each further one to the expert whose replicas carry most.
fn replicate(load: &[f32], num_replicas: usize) -> Replicas {
    let num_experts = load.len();
    let mut replicas = Replicas {
        expert: (0..num_experts as i32).collect(),
        replica_idx: vec![0; num_experts],
        count: vec![1; num_experts],
    };
    if num_replicas == num_experts {
        return replicas;
    }
    // The lower index wins among equal loads.
    let mut heaviest: BinaryHeap<(Ordered<f32>, Reverse<usize>)> =
        load.iter().enumerate().map(|(e, &load)| (Ordered(load), Reverse(e))).collect();
    for _ in num_experts..num_replicas {
        let Some(mut top) = heaviest.peek_mut() else { break };
        let e = top.1.0;
        replicas.expert.push(e as i32);
        replicas.replica_idx.push(replicas.count[e]);
        replicas.count[e] += 1;
        top.0 = Ordered(load[e] / replicas.count[e] as f32);
    }
    replicas
}

/// Puts equally many items into every pack: heaviest item first, into the lightest pack with room.
///
/// Returns each pack's items in the order they came. Items of equal load keep their order, packs of
/// equal load fill from the lowest index, and one item per pack is the identity.
fn balanced_packing(loads: &[f32], num_packs: usize) -> Vec<Vec<usize>> {
    let items_per_pack = loads.len() / num_packs;
    if items_per_pack == 1 {
        return (0..num_packs).map(|i| vec![i]).collect();
    }
    let mut packs = vec![Vec::with_capacity(items_per_pack); num_packs];
    let mut lightest: BinaryHeap<Reverse<(Ordered<f32>, usize)>> =
        (0..num_packs).map(|pack| Reverse((Ordered(0.0), pack))).collect();
    for item in descending(loads) {
        let Some(mut top) = lightest.peek_mut() else { break };
        let pack = top.0.1;
        packs[pack].push(item);
        if packs[pack].len() == items_per_pack {
            std::collections::binary_heap::PeekMut::pop(top);
        } else {
            top.0.0 = Ordered(top.0.0.0 + loads[item]);
        }
    }
    packs
}

/// Returns the indices by descending load, equal loads by ascending index.
fn descending(loads: &[f32]) -> impl Iterator<Item = usize> {
    // Loads are >= 0, so that their bits ascend with their values.
    let key = |(i, load): (usize, &f32)| (u64::from(!load.to_bits()) << 32) | i as u64;
    let mut keys: Vec<u64> = loads.iter().enumerate().map(key).collect();
    keys.sort_unstable();
    keys.into_iter().map(|key| key as u32 as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_items_fill_packs_from_the_lowest_index() {
        assert_eq!(balanced_packing(&[1.0; 6], 3), [vec![0, 3], vec![1, 4], vec![2, 5]]);
        assert_eq!(balanced_packing(&[3.0, 9.0, 5.0], 3), [vec![0], vec![1], vec![2]]);
        assert_eq!(balanced_packing(&[1.0, 2.0, 3.0], 1), [vec![2, 1, 0]]);
    }

    #[test]
    fn the_first_of_equally_loaded_experts_is_replicated_first() {
        let replicas = replicate(&[2.0, 4.0, 4.0], 6);
        assert_eq!(replicas.expert, [0, 1, 2, 1, 2, 0]);
        assert_eq!(replicas.replica_idx, [0, 0, 0, 1, 1, 1]);
    }
}
