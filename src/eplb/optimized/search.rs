//! Local search: exchange or replace experts while the slowest GPU gets faster.

use super::state::{State, TOLERANCE};

/// A change of a packing that may make the slowest GPU faster.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::eplb) enum Move {
    /// The experts of two `(gpu, slot)` of different GPUs change places: two transfers.
    Swap((usize, usize), (usize, usize)),
    /// `(gpu, slot)` gives up its replica for one of the expert: one transfer.
    Replace((usize, usize), u32),
    /// The GPU takes one more replica of the expert into an empty slot: one transfer.
    Fill(usize, u32),
}

/// How far the search goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Effort {
    /// Moves of one descent at most.
    pub max_steps: usize,
    /// Moves after a detour at most.
    pub max_detour_steps: usize,
    /// Detours tried from a packing that no move improves.
    pub num_detours: usize,
}

/// Relative distance from the bound below which no detour is worth its time.
const DETOUR_GAP: f64 = 1e-3;
/// A detour starts with a move that makes the slowest GPU at most this much slower.
const DETOUR_SLACK: f64 = 1.25;

/// Applies moves while they make the slowest GPU faster, until it is as fast as `bound`.
pub(super) fn improve(state: &mut State<'_>, bound: f64, effort: Effort) {
    descend(state, bound, effort.max_steps);
    let mut num_left = effort.num_detours;
    while num_left > 0 {
        let (gpu, time) = state.slowest();
        if time <= bound * (1.0 + DETOUR_GAP) {
            return;
        }
        let mut detours = Shortlist::new(time * DETOUR_SLACK, num_left);
        replacements_elsewhere(state, gpu, &mut detours);
        replacements_here(state, gpu, &mut detours);
        let better = detours.moves.iter().find_map(|&(_, detour)| {
            num_left -= 1;
            let mut trial = state.clone();
            apply(&mut trial, detour);
            descend(&mut trial, bound, effort.max_detour_steps);
            (trial.slowest().1 < time * (1.0 - TOLERANCE)).then_some(trial)
        });
        match better {
            Some(trial) => *state = trial,
            None => return,
        }
    }
}

/// Applies the best move until none helps, the bound is reached or `max_steps` are done.
fn descend(state: &mut State<'_>, bound: f64, max_steps: usize) {
    for _ in 0..max_steps {
        let (gpu, time) = state.slowest();
        if time <= bound * (1.0 + TOLERANCE) {
            return;
        }
        match best_move(state, gpu, time) {
            Some((best, _)) => apply(state, best),
            None => return,
        }
    }
}

/// Applies one move.
pub(in crate::eplb) fn apply(state: &mut State<'_>, chosen: Move) {
    match chosen {
        Move::Swap(a, b) => state.swap(a, b),
        Move::Replace((gpu, slot), expert) => state.replace(gpu, slot, expert),
        Move::Fill(gpu, expert) => state.repeat(gpu, expert),
    }
}

/// Returns the move after which the slowest of the GPUs it touches is fastest, with that time.
pub(in crate::eplb) fn best_move(state: &State<'_>, gpu: usize, time: f64) -> Option<(Move, f64)> {
    let mut best = Shortlist::new(time * (1.0 - TOLERANCE), 1);
    swaps(state, gpu, &mut best);
    replacements_elsewhere(state, gpu, &mut best);
    replacements_here(state, gpu, &mut best);
    fills(state, gpu, &mut best);
    best.moves.first().map(|&(time, chosen)| (chosen, time))
}

/// The best moves so far, fastest first, and the time that the next must beat.
struct Shortlist {
    time: f64,
    moves: Vec<(f64, Move)>,
    capacity: usize,
}

impl Shortlist {
    fn new(time: f64, capacity: usize) -> Self {
        Self { time, moves: Vec::with_capacity(capacity + 1), capacity }
    }

    /// Takes in a move that beats `self.time`.
    fn offer(&mut self, time: f64, chosen: Move) {
        let position = self.moves.partition_point(|&(other, _)| other <= time);
        self.moves.insert(position, (time, chosen));
        self.moves.truncate(self.capacity);
        if self.moves.len() == self.capacity {
            self.time = self.moves[self.capacity - 1].0;
        }
    }
}

/// Heavy experts of the slowest GPU against lighter ones of another.
fn swaps(state: &State<'_>, gpu: usize, best: &mut Shortlist) {
    let speeds = &state.pool.speeds;
    for (slot, &e) in state.held[gpu].iter().enumerate() {
        let heavy = state.replica_load(e);
        for other in 0..state.loads.len() {
            // Gaining anything must leave the other GPU below the best so far.
            let most = (best.time * speeds[other] - state.loads[other]).min(heavy);
            if most <= 0.0 || other == gpu {
                continue;
            }
            for (other_slot, &f) in state.held[other].iter().enumerate() {
                let gain = heavy - state.replica_load(f);
                if gain <= 0.0 || gain >= most {
                    continue;
                }
                let here = (state.loads[gpu] - gain) / speeds[gpu];
                let there = (state.loads[other] + gain) / speeds[other];
                let time = here.max(there);
                if time < best.time && state.admits(other, e) && state.admits(gpu, f) {
                    best.offer(time, Move::Swap((gpu, slot), (other, other_slot)));
                }
            }
        }
    }
}

/// One replica more, elsewhere, of an expert on the slowest GPU.
fn replacements_elsewhere(state: &State<'_>, gpu: usize, best: &mut Shortlist) {
    let speeds = &state.pool.speeds;
    for &e in &state.held[gpu] {
        if !may_grow(state, e) {
            continue;
        }
        let grown = state.load_at(e, state.counts[e as usize] + 1);
        let here = (state.loads[gpu] - state.replica_load(e) + grown) / speeds[gpu];
        if here >= best.time {
            continue;
        }
        for other in (0..state.loads.len()).filter(|&other| other != gpu) {
            if state.loads[other] + grown - heaviest(state, other) >= best.time * speeds[other]
                || !state.admits(other, e)
            {
                continue;
            }
            for (slot, &f) in state.held[other].iter().enumerate() {
                if f == e || state.counts[f as usize] < 2 {
                    continue;
                }
                let there = (state.loads[other] + grown - state.replica_load(f)) / speeds[other];
                let time = here.max(there).max(time_after_loss(state, f, other, best.time));
                if time < best.time {
                    best.offer(time, Move::Replace((other, slot), e));
                }
            }
        }
    }
}

/// One replica fewer, on the slowest GPU, of an expert that others hold too.
fn replacements_here(state: &State<'_>, gpu: usize, best: &mut Shortlist) {
    for (slot, &f) in state.held[gpu].iter().enumerate() {
        if state.counts[f as usize] < 2 {
            continue;
        }
        let elsewhere = time_after_loss(state, f, gpu, best.time);
        if elsewhere >= best.time {
            continue;
        }
        let rest = state.loads[gpu] - state.replica_load(f);
        for x in 0..state.weights.len() as u32 {
            let grown = state.load_at(x, state.counts[x as usize] + 1);
            let time = elsewhere.max((rest + grown) / state.pool.speeds[gpu]);
            if time < best.time && x != f && may_grow(state, x) && state.admits(gpu, x) {
                best.offer(time, Move::Replace((gpu, slot), x));
            }
        }
    }
}

/// One replica more, in an empty slot, of an expert on the slowest GPU.
fn fills(state: &State<'_>, gpu: usize, best: &mut Shortlist) {
    let has_room = |other: &usize| state.held[*other].len() < state.pool.slots[*other];
    for other in (0..state.loads.len()).filter(has_room).filter(|&other| other != gpu) {
        for &e in &state.held[gpu] {
            let grown = state.load_at(e, state.counts[e as usize] + 1);
            let here = state.loads[gpu] - state.replica_load(e) + grown;
            let there = state.loads[other] + grown;
            let time = (here / state.pool.speeds[gpu]).max(there / state.pool.speeds[other]);
            if time < best.time && may_grow(state, e) && state.admits(other, e) {
                best.offer(time, Move::Fill(other, e));
            }
        }
    }
}

/// Returns the time of the slowest other host of `expert` once `gpu` gives up its replica, or
/// anything `>= limit` as soon as one reaches it.
fn time_after_loss(state: &State<'_>, expert: u32, gpu: usize, limit: f64) -> f64 {
    let count = state.counts[expert as usize];
    let more = state.load_at(expert, count - 1) - state.load_at(expert, count);
    let mut slowest = 0.0f64;
    for &host in &state.hosts[expert as usize] {
        let host = host as usize;
        if host != gpu {
            slowest = slowest.max((state.loads[host] + more) / state.pool.speeds[host]);
            if slowest >= limit {
                break;
            }
        }
    }
    slowest
}

fn heaviest(state: &State<'_>, gpu: usize) -> f64 {
    state.held[gpu].iter().map(|&f| state.replica_load(f)).fold(0.0, f64::max)
}

/// Whether another replica of `expert` may be made at all.
fn may_grow(state: &State<'_>, expert: u32) -> bool {
    state.pool.allow_duplicates || (state.counts[expert as usize] as usize) < state.pool.num_gpus()
}
