//! Graphs: operations with the order that matters, and their replay.

use std::mem::discriminant;
use std::sync::{Condvar, Mutex, PoisonError};

use crate::context::{Shared, lock};
use crate::driver::driver;
use crate::handles::Handle;
use crate::operation::Operation;

/// An operation and those that it comes after.
#[derive(Clone)]
pub struct Node {
    /// What it does.
    pub operation: Operation,
    /// Indices of nodes in front of it.
    pub after: Vec<usize>,
}

/// A captured graph. A node stands behind all that it comes after.
pub struct Graph {
    /// The nodes.
    pub nodes: Vec<Node>,
    /// Handles of the nodes.
    pub handles: Vec<Handle>,
}

/// A graph that can be launched.
pub struct GraphExec {
    nodes: Vec<Node>,
    /// The nodes once more: rows that can run beside each other.
    lanes: Vec<Vec<usize>>,
    /// Memory that the last run has left is freed before the next.
    frees_first: bool,
}

impl Graph {
    /// A graph of nodes in a possible order.
    pub fn new(nodes: Vec<Node>) -> Self {
        let handles = nodes.iter().map(|_| crate::handles::next_handle()).collect();
        Graph { nodes, handles }
    }

    /// Every node is one of `last` or comes before one.
    pub fn all_come_before(&self, last: &[usize]) -> bool {
        let mut is_before = vec![false; self.nodes.len()];
        last.iter().for_each(|&node| is_before[node] = true);
        for index in (0..self.nodes.len()).rev() {
            if is_before[index] {
                self.nodes[index].after.iter().for_each(|&node| is_before[node] = true);
            }
        }
        is_before.iter().all(|it| *it)
    }
}

impl GraphExec {
    /// Prepares a graph.
    pub fn new(graph: &Graph, frees_first: bool) -> Self {
        let mut lanes: Vec<Vec<usize>> = Vec::new();
        for (index, node) in graph.nodes.iter().enumerate() {
            let follows =
                |lane: &&mut Vec<usize>| lane.last().is_some_and(|last| node.after.contains(last));
            match lanes.iter_mut().find(follows) {
                Some(lane) => lane.push(index),
                None => lanes.push(vec![index]),
            }
        }
        GraphExec { nodes: graph.nodes.clone(), lanes, frees_first }
    }

    /// A graph has the same kinds of nodes in the same order.
    pub fn has_shape_of(&self, graph: &Graph) -> bool {
        let same = |(a, b): (&Node, &Node)| {
            a.after == b.after && discriminant(&a.operation) == discriminant(&b.operation)
        };
        self.nodes.len() == graph.nodes.len() && self.nodes.iter().zip(&graph.nodes).all(same)
    }

    /// The same for another graph.
    pub fn renew(&self, graph: &Graph) -> Self {
        Self::new(graph, self.frees_first)
    }

    /// Runs all nodes.
    pub fn run(&self, shared: &Shared) {
        if self.frees_first {
            self.free_memory();
        }
        if self.lanes.len() <= 1 {
            return self.nodes.iter().for_each(|node| node.operation.run_or_fail(shared));
        }
        let done =
            Done { nodes: Mutex::new(vec![false; self.nodes.len()]), changed: Condvar::new() };
        std::thread::scope(|scope| {
            for lane in &self.lanes {
                let done = &done;
                scope.spawn(move || {
                    for &index in lane {
                        done.wait(&self.nodes[index].after);
                        self.nodes[index].operation.run_or_fail(shared);
                        done.add(index);
                    }
                });
            }
        });
    }
}

impl GraphExec {
    fn free_memory(&self) {
        let Ok(driver) = driver() else { return };
        for node in &self.nodes {
            if let Operation::Alloc(memory) = node.operation
                && driver.heap.owns(memory.address)
            {
                // Whoever has freed it meanwhile has done the same.
                let _ = driver.heap.free(memory.address);
            }
        }
    }
}

/// Nodes that have run.
struct Done {
    nodes: Mutex<Vec<bool>>,
    changed: Condvar,
}

impl Done {
    fn wait(&self, indices: &[usize]) {
        let mut nodes = lock(&self.nodes);
        while !indices.iter().all(|&index| nodes[index]) {
            nodes = self.changed.wait(nodes).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn add(&self, index: usize) {
        lock(&self.nodes)[index] = true;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(after: &[&[usize]]) -> Graph {
        let node = |after: &&[usize]| Node { operation: Operation::Nothing, after: after.to_vec() };
        Graph::new(after.iter().map(node).collect())
    }

    #[test]
    fn a_branch_that_does_not_come_back_is_seen() {
        // 1 and 2 come after 0; 3 joins them.
        let joined = graph(&[&[], &[0], &[0], &[1, 2]]);
        assert!(joined.all_come_before(&[3]));
        assert!(!joined.all_come_before(&[1]));
    }

    #[test]
    fn branches_get_lanes_of_their_own() {
        let lanes = GraphExec::new(&graph(&[&[], &[0], &[0], &[1, 2]]), false).lanes;
        assert_eq!(lanes, [vec![0, 1, 3], vec![2]]);
        assert_eq!(GraphExec::new(&graph(&[&[], &[0], &[1]]), false).lanes.len(), 1);
    }
}
