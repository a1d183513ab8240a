//! A first packing: replica counts by repeated halving of the heaviest, then heaviest first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::state::{Pool, State};
use crate::eplb::ordered::Ordered;

/// Gives every expert one replica and each further one to the expert whose replicas carry most.
///
/// The largest load of a replica is then the least that `num_replicas` replicas allow, no expert
/// having more than `max_count`. Replicas that every cap forbids are not handed out.
pub(in crate::eplb) fn replica_counts(
    weights: &[f64],
    num_replicas: usize,
    max_count: usize,
) -> Vec<u32> {
    let mut counts = vec![1u32; weights.len()];
    let mut heaviest: BinaryHeap<(Ordered, Reverse<usize>)> =
        weights.iter().enumerate().map(|(e, &w)| (Ordered(w), Reverse(e))).collect();
    let mut num_left = num_replicas.saturating_sub(weights.len());
    while num_left > 0 {
        let Some(mut top) = heaviest.peek_mut() else { break };
        let e = top.1.0;
        if counts[e] as usize >= max_count {
            std::collections::binary_heap::PeekMut::pop(top);
            continue;
        }
        counts[e] += 1;
        num_left -= 1;
        top.0 = Ordered(weights[e] / f64::from(counts[e]));
    }
    counts
}

/// Packs the replicas, heaviest first, each onto the GPU that it leaves fastest.
pub(super) fn pack<'a>(weights: &'a [f64], pool: &'a Pool) -> State<'a> {
    let num_experts = weights.len();
    // A GPU with more slots than there are experts must repeat some; that is left for last.
    let room: Vec<usize> = pool.slots.iter().map(|&n| capped(n, num_experts, pool)).collect();
    let max_count = if pool.allow_duplicates { usize::MAX } else { pool.num_gpus() };
    let counts = replica_counts(weights, room.iter().sum(), max_count);
    let mut state = State::empty(weights, pool, counts);
    let mut order: Vec<u32> = (0..num_experts as u32).collect();
    order.sort_by(|&a, &b| state.replica_load(b).total_cmp(&state.replica_load(a)));
    let mut lightest = Lightest::new(&state, &room);
    let mut homeless = Vec::new();
    for e in order {
        for _ in 0..state.counts[e as usize] {
            match lightest.take(&state, e) {
                Some(gpu) => {
                    state.add(gpu, e);
                    lightest.give_back(&state, &room, gpu);
                }
                None => homeless.push(e),
            }
        }
    }
    for e in homeless {
        settle(&mut state, &room, e);
    }
    repeat_in_surplus(&mut state);
    state
}

fn capped(num_slots: usize, num_experts: usize, pool: &Pool) -> usize {
    if pool.allow_duplicates { num_slots } else { num_slots.min(num_experts) }
}

/// The GPUs with room, fastest first.
struct Lightest(BinaryHeap<Reverse<(Ordered, usize)>>);

impl Lightest {
    fn new(state: &State<'_>, room: &[usize]) -> Self {
        let mut lightest = Self(BinaryHeap::with_capacity(room.len()));
        (0..room.len()).for_each(|gpu| lightest.give_back(state, room, gpu));
        lightest
    }

    fn take(&mut self, state: &State<'_>, expert: u32) -> Option<usize> {
        let mut skipped = Vec::new();
        let found = loop {
            match self.0.pop() {
                Some(entry) if state.admits(entry.0.1, expert) => break Some(entry.0.1),
                Some(entry) => skipped.push(entry),
                None => break None,
            }
        };
        self.0.extend(skipped);
        found
    }

    fn give_back(&mut self, state: &State<'_>, room: &[usize], gpu: usize) {
        if state.held[gpu].len() < room[gpu] {
            self.0.push(Reverse((Ordered(state.time(gpu)), gpu)));
        }
    }
}

/// Finds a place for a replica that every GPU with room already holds.
///
/// An expert `f` moves from another GPU into the room and leaves its slot; if no GPU can take part,
/// the replica is given up for one more of the lightest expert that the GPU with room lacks.
fn settle(state: &mut State<'_>, room: &[usize], expert: u32) {
    let Some(gpu) = (0..room.len()).find(|&gpu| state.held[gpu].len() < room[gpu]) else { return };
    for other in 0..room.len() {
        if state.holds(other, expert) {
            continue;
        }
        let slot = state.held[other].iter().position(|&f| state.admits(gpu, f));
        if let Some(slot) = slot {
            let moved = state.held[other][slot];
            state.add(gpu, expert);
            let own_slot = state.held[gpu].len() - 1;
            state.swap((gpu, own_slot), (other, slot));
            debug_assert_eq!(state.held[gpu][own_slot], moved);
            return;
        }
    }
    let lacking = (0..state.weights.len() as u32).filter(|&f| !state.holds(gpu, f));
    let lightest = lacking.min_by(|&a, &b| state.replica_load(a).total_cmp(&state.replica_load(b)));
    if let Some(f) = lightest {
        state.add(gpu, expert);
        let slot = state.held[gpu].len() - 1;
        state.replace(gpu, slot, f);
    }
}

/// Fills slots that no placement without duplicates can fill with more of the lightest expert.
fn repeat_in_surplus(state: &mut State<'_>) {
    let lightest = (0..state.weights.len())
        .min_by(|&a, &b| state.weights[a].total_cmp(&state.weights[b]))
        .unwrap_or(0) as u32;
    for gpu in 0..state.held.len() {
        while state.held[gpu].len() < state.pool.slots[gpu] {
            state.repeat(gpu, lightest);
        }
    }
}
