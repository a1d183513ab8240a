//! Which expert groups go to which node.

use std::ops::Range;

use crate::eplb::Cluster;
use crate::{Error, Result};

/// Refinements of one layer's groups at most.
const MAX_STEPS: usize = 256;

/// The nodes with their GPUs and room, and the groups with their experts.
#[derive(Debug)]
pub(super) struct NodeGroups {
    nodes: Vec<Node>,
    // contiguous runs of experts
    groups: Vec<Range<u32>>,
}

#[derive(Debug)]
struct Node {
    gpus: Vec<usize>,
    num_slots: usize,
    speed: f64,
}

impl NodeGroups {
    /// All experts as one group on one node of all working GPUs.
    pub fn whole(cluster: &Cluster, num_experts: usize) -> Self {
        let node = Node::new(cluster, cluster.usable_gpus().collect());
        Self { nodes: vec![node], groups: std::iter::once(0..num_experts as u32).collect() }
    }

    /// Groups of experts in order, as even as they divide, to be kept whole on nodes.
    pub fn new(cluster: &Cluster, num_experts: usize, num_groups: usize) -> Result<Self> {
        let edge = |group: usize| (group * num_experts / num_groups) as u32;
        let groups: Vec<_> = (0..num_groups).map(|group| edge(group)..edge(group + 1)).collect();
        let nodes = (0..cluster.num_nodes())
            .map(|node_idx| {
                let gpus = cluster.usable_gpus();
                Node::new(
                    cluster,
                    gpus.filter(|&i| cluster.gpus()[i].node_idx == node_idx).collect(),
                )
            })
            .collect();
        let assigner = Self { nodes, groups };
        let room: usize = assigner.nodes.iter().map(|node| assigner.max_groups(node)).sum();
        if room < num_groups {
            let expected = format!("at most {room}: whole groups that the slots of the nodes hold");
            return Err(Error::value(
                "rebalance_experts",
                "num_expert_groups",
                expected,
                num_groups,
            ));
        }
        Ok(assigner)
    }

    /// Groups that fit on a node whatever their sizes.
    fn max_groups(&self, node: &Node) -> usize {
        let largest = self.groups.iter().map(|group| group.len()).max().unwrap_or(1);
        node.num_slots / largest.max(1)
    }

    /// Returns assignments worth trying, each a list of every node's GPUs and experts.
    ///
    /// The first evens out the loads alone. A node that takes more groups than others has fewer slots
    /// left for replicas, so the second gives every node as many groups where that is possible.
    pub fn assignments(&self, weights: &[f64]) -> Vec<Vec<(Vec<usize>, Vec<u32>)>> {
        let load = |group: &Range<u32>| -> f64 {
            weights[group.start as usize..group.end as usize].iter().sum()
        };
        let loads: Vec<f64> = self.groups.iter().map(load).collect();
        let room: Vec<usize> = self.nodes.iter().map(|node| self.max_groups(node)).collect();
        let free = Assignment::best(self, &loads, room.clone());
        let num_usable = room.iter().filter(|&&room| room > 0).count().max(1);
        let most = self.groups.len().div_ceil(num_usable);
        let even: Vec<usize> = room.iter().map(|&room| room.min(most)).collect();
        let needs_even = free.groups.iter().any(|groups| groups.len() > most)
            && even.iter().sum::<usize>() >= self.groups.len();
        let even = needs_even.then(|| Assignment::best(self, &loads, even));
        std::iter::once(free).chain(even).map(|assignment| self.nodes_of(&assignment)).collect()
    }

    fn nodes_of(&self, assignment: &Assignment<'_>) -> Vec<(Vec<usize>, Vec<u32>)> {
        self.nodes
            .iter()
            .zip(&assignment.groups)
            .filter(|(_, groups)| !groups.is_empty())
            .map(|(node, groups)| {
                let mut experts: Vec<u32> =
                    groups.iter().flat_map(|&group| self.groups[group].clone()).collect();
                experts.sort_unstable();
                (node.gpus.clone(), experts)
            })
            .collect()
    }
}

impl Node {
    fn new(cluster: &Cluster, gpus: Vec<usize>) -> Self {
        let sum =
            |of: fn(&super::super::Gpu) -> f64| gpus.iter().map(|&i| of(&cluster.gpus()[i])).sum();
        let num_slots = gpus.iter().map(|&i| cluster.gpus()[i].num_slots).sum();
        Self { num_slots, speed: sum(|gpu| gpu.speed), gpus }
    }
}

/// Groups on nodes, under construction.
struct Assignment<'a> {
    loads: &'a [f64],
    // [num_nodes] each
    speeds: Vec<f64>,
    room: Vec<usize>,
    groups: Vec<Vec<usize>>,
    node_loads: Vec<f64>,
}

impl<'a> Assignment<'a> {
    /// Puts the heaviest group first onto the node that it leaves fastest, then moves and exchanges
    /// groups while the slowest node gets faster; `room` is the most groups of each node.
    fn best(all: &NodeGroups, loads: &'a [f64], room: Vec<usize>) -> Self {
        let mut assignment = Self::greedy(all, loads, room);
        for _ in 0..MAX_STEPS {
            if !assignment.improve() {
                break;
            }
        }
        assignment
    }

    fn greedy(all: &NodeGroups, loads: &'a [f64], room: Vec<usize>) -> Self {
        let num_nodes = all.nodes.len();
        let mut assignment = Self {
            loads,
            speeds: all.nodes.iter().map(|node| node.speed.max(f64::MIN_POSITIVE)).collect(),
            room,
            groups: vec![Vec::new(); num_nodes],
            node_loads: vec![0.0; num_nodes],
        };
        let mut order: Vec<usize> = (0..loads.len()).collect();
        order.sort_by(|&a, &b| loads[b].total_cmp(&loads[a]));
        for (num_placed, group) in order.into_iter().enumerate() {
            // No node that can hold a group stays without one.
            let is_empty = |node: &usize| assignment.groups[*node].is_empty();
            let candidates = || (0..num_nodes).filter(|&node| assignment.has_room(node));
            let only_empty = candidates().filter(is_empty).count() >= loads.len() - num_placed;
            let time = |node: usize| {
                (assignment.node_loads[node] + loads[group]) / assignment.speeds[node]
            };
            let order = |a: &usize, b: &usize| {
                let by_count = assignment.groups[*a].len().cmp(&assignment.groups[*b].len());
                time(*a).total_cmp(&time(*b)).then(by_count)
            };
            let node = candidates()
                .filter(|node| !only_empty || is_empty(node))
                .min_by(order)
                .expect("the nodes were checked to hold all groups");
            assignment.groups[node].push(group);
            assignment.node_loads[node] += loads[group];
        }
        assignment
    }

    fn has_room(&self, node: usize) -> bool {
        self.groups[node].len() < self.room[node]
    }

    /// Makes the best move or exchange with the slowest node; false if none helps.
    fn improve(&mut self) -> bool {
        let time = |node: usize| self.node_loads[node] / self.speeds[node];
        let num_nodes = self.groups.len();
        let slowest = (0..num_nodes).max_by(|&a, &b| time(a).total_cmp(&time(b))).unwrap_or(0);
        let mut best = (time(slowest) * (1.0 - 1e-12), None);
        for (i, &group) in self.groups[slowest].iter().enumerate() {
            for other in (0..num_nodes).filter(|&other| other != slowest) {
                let partners = self.groups[other].iter().map(|&g| self.loads[g]).enumerate();
                let partners = partners.map(|(j, load)| (Some(j), load));
                let movable = self.groups[slowest].len() > 1 && self.has_room(other);
                let room = movable.then_some((None, 0.0));
                for (j, partner) in partners.chain(room) {
                    let gain = self.loads[group] - partner;
                    let here = (self.node_loads[slowest] - gain) / self.speeds[slowest];
                    let there = (self.node_loads[other] + gain) / self.speeds[other];
                    if gain > 0.0 && here.max(there) < best.0 {
                        best = (here.max(there), Some((i, other, j)));
                    }
                }
            }
        }
        let Some((i, other, j)) = best.1 else { return false };
        let group = self.groups[slowest].swap_remove(i);
        if let Some(j) = j {
            let partner = self.groups[other].swap_remove(j);
            self.groups[slowest].push(partner);
        }
        self.groups[other].push(group);
        for node in [slowest, other] {
            self.node_loads[node] = self.groups[node].iter().map(|&g| self.loads[g]).sum();
        }
        true
    }
}
