//! What one layer can reach, and at how many transfers.

use super::IncrementalParams;
use super::relabel::{keep_slots, num_new, relabel};
use crate::eplb::Cluster;
use crate::eplb::optimized::{Homes, Move, Pool, State, TOLERANCE, apply, best_move, held_of};

/// A placement on the way from the current one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Checkpoint {
    /// Time of the slowest GPU.
    pub time: f64,
    /// Experts that GPUs must receive to get there from the current placement.
    pub num_transfers: usize,
    // moves to apply, or the placement from scratch
    at: At,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum At {
    Moves(usize),
    Fresh,
}

/// One layer's checkpoints and how to get to each.
#[derive(Debug)]
pub(super) struct LayerPlan {
    weights: Vec<f64>,
    pool: Pool,
    mean_time: f64,
    // experts on each GPU at the start, lost ones already placed again
    start: Vec<Vec<u32>>,
    moves: Vec<Move>,
    fresh: Vec<Vec<u32>>,
    /// More transfers and less time from one to the next; the first is the start.
    pub checkpoints: Vec<Checkpoint>,
}

impl LayerPlan {
    pub fn new(
        weights: Vec<f64>,
        (current, fresh): (&[i32], &[i32]),
        cluster: &Cluster,
        params: &IncrementalParams,
    ) -> Self {
        let gpus: Vec<usize> = (0..cluster.num_gpus()).collect();
        let mut pool = Pool::of(cluster, &gpus, params.options.allow_duplicates);
        let held = working(held_of(cluster, current), cluster);
        pool.homes = homes(cluster, &held, weights.len(), params);
        let total_speed: f64 =
            cluster.usable_gpus().map(|gpu_idx| cluster.gpus()[gpu_idx].speed).sum();
        let mut start = rescue(&weights, &pool, held.clone());
        if start.is_none() {
            // What is left of a node cannot hold its experts: they may leave it.
            pool.homes = None;
            start = rescue(&weights, &pool, held.clone());
        }
        let mut plan = Self {
            mean_time: weights.iter().sum::<f64>() / total_speed,
            start: start.expect("the slots were checked to hold every expert"),
            moves: Vec::new(),
            fresh: relabel(cluster, &held, held_of(cluster, fresh), pool.homes.is_some()),
            checkpoints: Vec::new(),
            weights,
            pool,
        };
        plan.walk(&held);
        plan
    }

    /// Walks downhill from the start and notes every new low.
    fn walk(&mut self, held: &[Vec<u32>]) {
        let mut state = State::from_held(&self.weights, &self.pool, self.start.clone());
        let mut found = vec![Checkpoint {
            time: state.slowest().1,
            num_transfers: num_new(held, &state.held),
            at: At::Moves(0),
        }];
        let max_moves = 2 * self.pool.num_slots();
        while self.moves.len() < max_moves {
            let (gpu, time) = state.slowest();
            let Some((next, _)) = best_move(&state, gpu, time) else { break };
            apply(&mut state, next);
            self.moves.push(next);
            let num_transfers = num_new(held, &state.held);
            found.push(Checkpoint {
                time: state.slowest().1,
                num_transfers,
                at: At::Moves(self.moves.len()),
            });
        }
        let start = found[0];
        let fresh = State::from_held(&self.weights, &self.pool, self.fresh.clone());
        let fresh_time = fresh.slowest().1;
        let num_transfers = num_new(held, &self.fresh);
        found.push(Checkpoint { time: fresh_time, num_transfers, at: At::Fresh });
        self.checkpoints = pareto(start, found);
    }

    /// The checkpoint of fewest transfers at or below `target` times the mean, or else the lowest.
    pub fn first_to_reach(&self, target: f64) -> Checkpoint {
        let limit = target * self.mean_time * (1.0 + TOLERANCE);
        let reached = self.checkpoints.iter().find(|checkpoint| checkpoint.time <= limit);
        *reached.unwrap_or(&self.checkpoints[self.checkpoints.len() - 1])
    }

    /// The layer's `physical_to_logical` at a checkpoint.
    pub fn row_at(&self, checkpoint: &Checkpoint, current: &[i32], cluster: &Cluster) -> Vec<i32> {
        match checkpoint.at {
            At::Fresh => keep_slots(cluster, current, &self.fresh),
            At::Moves(num_moves) => {
                let mut state = State::from_held(&self.weights, &self.pool, self.start.clone());
                self.moves[..num_moves].iter().for_each(|&next| apply(&mut state, next));
                keep_slots(cluster, current, &state.held)
            }
        }
    }
}

/// Keeps the checkpoints that no other beats in both transfers and time, after the start.
fn pareto(start: Checkpoint, mut found: Vec<Checkpoint>) -> Vec<Checkpoint> {
    found.sort_by(|a, b| a.num_transfers.cmp(&b.num_transfers).then(a.time.total_cmp(&b.time)));
    let mut kept = vec![start];
    for next in found {
        let last = kept[kept.len() - 1];
        if next.num_transfers > last.num_transfers && next.time < last.time * (1.0 - TOLERANCE) {
            kept.push(next);
        }
    }
    kept
}

/// Empties the GPUs that fail.
fn working(mut held: Vec<Vec<u32>>, cluster: &Cluster) -> Vec<Vec<u32>> {
    let failed = held.iter_mut().zip(cluster.gpus()).filter(|(_, gpu)| gpu.failed);
    failed.for_each(|(experts, _)| experts.clear());
    held
}

/// Returns the node of every expert if groups are kept on nodes now and are to stay there.
fn homes(
    cluster: &Cluster,
    held: &[Vec<u32>],
    num_experts: usize,
    params: &IncrementalParams,
) -> Option<Homes> {
    let (num_nodes, num_groups) = (cluster.num_nodes(), params.num_expert_groups);
    if params.options.ignore_groups || num_nodes < 2 || !num_groups.is_multiple_of(num_nodes) {
        return None;
    }
    let of_gpu: Vec<usize> = cluster.gpus().iter().map(|gpu| gpu.node_idx).collect();
    let mut of_group = vec![None; num_groups];
    // Group `g` starts at expert `g * num_experts / num_groups`, rounded down.
    let group_of = |e: usize| ((e + 1) * num_groups - 1) / num_experts;
    for (experts, &node) in held.iter().zip(&of_gpu) {
        for &e in experts {
            if *of_group[group_of(e as usize)].get_or_insert(node) != node {
                return None;
            }
        }
    }
    let of_expert: Option<Vec<usize>> = (0..num_experts).map(|e| of_group[group_of(e)]).collect();
    of_expert.map(|of_expert| Homes { of_expert, of_gpu })
}

/// Places every expert that no working GPU holds, where it slows the slowest GPU least; `None` if
/// one finds no slot.
fn rescue(weights: &[f64], pool: &Pool, held: Vec<Vec<u32>>) -> Option<Vec<Vec<u32>>> {
    let mut state = State::from_held(weights, pool, held);
    let mut lost: Vec<u32> =
        (0..weights.len() as u32).filter(|&e| state.counts[e as usize] == 0).collect();
    lost.sort_by(|&a, &b| weights[b as usize].total_cmp(&weights[a as usize]));
    for expert in lost {
        let trial_time = |next: Move| {
            let mut trial = state.clone();
            apply(&mut trial, next);
            trial.slowest().1
        };
        let best =
            openings(&state, expert).min_by(|&a, &b| trial_time(a).total_cmp(&trial_time(b)));
        apply(&mut state, best?);
    }
    Some(state.held)
}

/// Lists the slots that can take a lost expert: empty ones, and those of a repeated expert.
fn openings<'a>(state: &'a State<'_>, expert: u32) -> impl Iterator<Item = Move> + 'a {
    let admitting = move || (0..state.held.len()).filter(move |&gpu| state.admits(gpu, expert));
    let room = |&gpu: &usize| state.held[gpu].len() < state.pool.slots[gpu];
    let empty = admitting().filter(room).map(move |gpu| Move::Fill(gpu, expert));
    let repeated = admitting().flat_map(move |gpu| {
        let slots = state.held[gpu].iter().enumerate();
        slots
            .filter(|&(_, &f)| state.counts[f as usize] > 1)
            .map(move |(slot, _)| Move::Replace((gpu, slot), expert))
    });
    empty.chain(repeated)
}
