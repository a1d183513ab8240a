//! The split of loads over GPUs whose sorted times are smallest, slowest first.

use super::flow::{Cut, Flow};

/// Relative rise of the time limit below which it counts as reached.
const TOLERANCE: f64 = 1e-12;

/// Returns what each expert sends to each of its GPUs: the slowest GPU as fast as can be, then the
/// slowest of the rest, and so on.
///
/// `hosts` lists each expert's GPUs, at least one and none twice. What comes back has its shape, and
/// sums to `weights`.
pub(super) fn even_out(hosts: &[Vec<usize>], weights: &[f64], speeds: &[f64]) -> Vec<Vec<f64>> {
    let mut sent: Vec<Vec<f64>> =
        hosts.iter().map(|gpus| vec![1.0 / gpus.len() as f64; gpus.len()]).collect();
    let mut open = Vec::new();
    let mut stage = Stage { loads: vec![0.0; speeds.len()], speeds, open: vec![], edges: vec![] };
    for (e, gpus) in hosts.iter().enumerate() {
        match gpus[..] {
            [gpu] => stage.loads[gpu] += weights[e],
            _ if weights[e] > 0.0 => open.push(e),
            _ => {}
        }
    }
    stage.edges = open.iter().map(|&e| hosts[e].clone()).collect();
    stage.open = open;
    while !stage.open.is_empty() {
        for (e, gpus, flow) in stage.settle(weights) {
            let total: f64 = flow.iter().sum();
            let amount = |gpu: &usize| {
                let position = gpus.iter().position(|other| other == gpu);
                position.map_or(0.0, |position| flow[position] / total)
            };
            if total > 0.0 {
                sent[e] = hosts[e].iter().map(amount).collect();
            }
        }
    }
    for (amounts, weight) in sent.iter_mut().zip(weights) {
        amounts.iter_mut().for_each(|amount| *amount *= weight);
    }
    sent
}

/// Experts still to be split, over GPUs whose load may still grow.
struct Stage<'a> {
    // [num_gpus], load that is settled
    loads: Vec<f64>,
    speeds: &'a [f64],
    open: Vec<usize>,
    // GPUs of each open expert that are not settled
    edges: Vec<Vec<usize>>,
}

impl Stage<'_> {
    /// Settles the GPUs that cannot be faster, with the experts that fill them.
    ///
    /// Returns each settled expert, its GPUs and what it sends to each.
    fn settle(&mut self, weights: &[f64]) -> Vec<(usize, Vec<usize>, Vec<f64>)> {
        let supply: Vec<f64> = self.open.iter().map(|&e| weights[e]).collect();
        let (flows, tight) = self.fastest(&supply);
        let mut settled = Vec::new();
        let (mut open, mut edges) = (Vec::new(), Vec::new());
        let stages = self.open.iter().zip(std::mem::take(&mut self.edges)).zip(flows);
        for (i, ((&e, gpus), flow)) in stages.enumerate() {
            let left: Vec<usize> = gpus.iter().copied().filter(|&gpu| !tight.gpus[gpu]).collect();
            if tight.experts[i] || left.is_empty() {
                gpus.iter().zip(&flow).for_each(|(&gpu, amount)| self.loads[gpu] += amount);
                settled.push((e, gpus, flow));
            } else {
                open.push(e);
                edges.push(left);
            }
        }
        (self.open, self.edges) = (open, edges);
        settled
    }

    /// Finds the least time in which all GPUs can be done; returns the flows, and what cannot be
    /// faster.
    fn fastest(&self, supply: &[f64]) -> (Vec<Vec<f64>>, Cut) {
        let mut reached = vec![false; self.speeds.len()];
        self.edges.iter().flatten().for_each(|&gpu| reached[gpu] = true);
        let mut tight = Cut { experts: vec![true; supply.len()], gpus: reached.clone() };
        let mut time = self.time_of(&tight, supply);
        let settled = |gpu: usize| self.loads[gpu] / self.speeds[gpu];
        let gpus = (0..reached.len()).filter(|&gpu| reached[gpu]);
        let slowest = gpus.map(settled).fold(0.0, f64::max);
        if slowest > time {
            time = slowest;
            let full = |gpu| reached[gpu] && settled(gpu) >= slowest * (1.0 - TOLERANCE);
            tight = Cut {
                experts: vec![false; supply.len()],
                gpus: (0..reached.len()).map(full).collect(),
            };
        }
        loop {
            let room = |gpu: usize| (time * self.speeds[gpu] - self.loads[gpu]).max(0.0);
            let demand: Vec<f64> = (0..reached.len()).map(room).collect();
            let flow = Flow::maximum(&self.edges, supply, &demand);
            if flow.is_complete() {
                return (flow.flow, tight);
            }
            // The experts of the cut fill all their GPUs: no time below this one can do.
            let cut = flow.cut();
            let needed = self.time_of(&cut, supply);
            if needed <= time * (1.0 + TOLERANCE) {
                return (flow.flow, tight);
            }
            (time, tight) = (needed, cut);
        }
    }

    /// The time that the GPUs of a cut need for its experts and their settled load.
    fn time_of(&self, cut: &Cut, supply: &[f64]) -> f64 {
        let own: f64 =
            supply.iter().zip(&cut.experts).filter(|(_, cut)| **cut).map(|(w, _)| w).sum();
        let gpus = || (0..self.speeds.len()).filter(|&gpu| cut.gpus[gpu]);
        let load: f64 = gpus().map(|gpu| self.loads[gpu]).sum();
        (own + load) / gpus().map(|gpu| self.speeds[gpu]).sum::<f64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_slowest_gpu_leaves_open_is_evened_out_too() {
        // GPU 0 is full with 10; expert 1 shares GPUs 0 and 1, expert 2 GPUs 1 and 2.
        let hosts = [vec![0], vec![0, 1], vec![1, 2]];
        let sent = even_out(&hosts, &[10.0, 4.0, 6.0], &[1.0; 3]);
        assert_eq!(sent, [vec![10.0], vec![0.0, 4.0], vec![1.0, 5.0]]);
    }

    #[test]
    fn faster_gpus_take_more() {
        let sent = even_out(&[vec![0, 1]], &[12.0], &[1.0, 3.0]);
        assert_eq!(sent, [[3.0, 9.0]]);
    }
}
