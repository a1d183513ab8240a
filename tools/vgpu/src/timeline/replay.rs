//! Gives the events of a log their times.

use std::collections::HashMap;

use super::{Owner, Span, Timeline, Track, What};
use crate::machine::{Event, Log, LogPlace, Meeting};
use crate::program::engine::GroupKind;
use crate::program::matrix::Wgmma;

/// Schedulers of an SM, each with a tensor core; a block's warps are dealt to them in turns.
pub(super) const NUM_SCHEDULERS: u32 = 4;
/// Instructions that a warp issues before another one of its scheduler has its turn, if both could.
const TURN: u64 = 8;
/// Cycles until a copy's first bytes are there, from L2.
const COPY_LATENCY: u64 = 700;
/// Bytes that a copy then brings in a cycle, from L2.
const COPY_BYTES_PER_CYCLE: u64 = 64;
/// Bytes that tensor cores take from shared memory in a cycle.
const SHARED_BYTES_PER_CYCLE: u64 = 128;
/// Rows of a warpgroup's product, and bytes of a row of A and B.
const ROWS: u64 = 64;

pub(super) fn replay(log: &Log, place: &LogPlace<'_>) -> Timeline {
    let mut replay = Replay::new(log, place);
    while let Some(warp) = replay.next() {
        replay.step(warp);
    }
    replay.timeline()
}

/// How far a warp is.
#[derive(Debug, Default)]
struct Warp {
    time: u64,
    /// Instructions that it has issued.
    issued: u64,
    /// Its next entry.
    entry: usize,
    /// It waits for arrivals that have no time yet.
    is_blocked: bool,
    /// It has waited for products, and issued none since.
    after_products: bool,
    /// Its products and copies by their groups, with their ends.
    products: Vec<(u32, u64)>,
    copies: Vec<((GroupKind, u32), u64)>,
    spans: Vec<Span>,
}

/// What a block's warps share.
#[derive(Debug, Default)]
struct Block {
    /// Cycles from which on each scheduler, each tensor core and the way from L2 are free.
    schedulers: [u64; NUM_SCHEDULERS as usize],
    tensor_cores: [u64; NUM_SCHEDULERS as usize],
    copies_free: u64,
    products: [Vec<Span>; NUM_SCHEDULERS as usize],
    copies: Vec<Span>,
}

/// A phase of a barrier.
#[derive(Clone, Debug, Default)]
struct Gate {
    /// Arrivals that have no time yet, and the time of the last that has.
    left: u32,
    time: u64,
    waiting: Vec<usize>,
}

struct Replay<'a> {
    log: &'a Log,
    place: &'a LogPlace<'a>,
    warps: Vec<Warp>,
    blocks: Vec<Block>,
    gates: HashMap<(Meeting, u32), Gate>,
}

impl<'a> Replay<'a> {
    fn new(log: &'a Log, place: &'a LogPlace<'a>) -> Self {
        let mut gates = HashMap::<_, Gate>::new();
        for entry in log.warps.iter().flatten() {
            match &entry.event {
                Event::Arrival { at, phase } => gates.entry((*at, *phase)).or_default().left += 1,
                Event::Copy { signals, .. } => {
                    for signal in signals {
                        gates.entry(*signal).or_default().left += 1;
                    }
                }
                _ => {}
            }
        }
        Replay {
            log,
            place,
            warps: log.warps.iter().map(|_| Warp::default()).collect(),
            blocks: place.blocks.iter().map(|_| Block::default()).collect(),
            gates,
        }
    }

    /// Block of a warp, and its position there.
    fn split(&self, warp: usize) -> (usize, u32) {
        let warps = self.log.warps.len() / self.blocks.len();
        (warp / warps, (warp % warps) as u32)
    }

    /// The warp that is furthest behind, of those that can go on.
    fn next(&self) -> Option<usize> {
        let has_more = |at: &usize| {
            !self.warps[*at].is_blocked && self.warps[*at].entry < self.log.warps[*at].len()
        };
        (0..self.warps.len()).filter(has_more).min_by_key(|at| self.warps[*at].time)
    }

    /// Some instructions, or the event behind them.
    fn step(&mut self, at: usize) {
        let log = self.log;
        let entry = &log.warps[at][self.warps[at].entry];
        if self.warps[at].issued < entry.at {
            return self.issue(at, entry.at, entry.pc);
        }
        match &entry.event {
            Event::Product { group, op } => self.product(at, *group, *op, entry.pc),
            Event::Products { limit } => {
                let due = take_due(&mut self.warps[at].products, |group| *group < *limit);
                self.wait(at, due, What::WaitProducts, entry.pc);
                self.warps[at].after_products = true;
            }
            Event::Arrival { at: meeting, phase } => {
                self.arrive((*meeting, *phase), self.warps[at].time);
            }
            Event::Wait { at: meeting, phase } => {
                let gate = self.gates.get_mut(&(*meeting, *phase));
                if let Some(gate) = gate {
                    if gate.left > 0 {
                        gate.waiting.push(at);
                        self.warps[at].is_blocked = true;
                        return;
                    }
                    let what = match meeting {
                        Meeting::Mbarrier(_) => What::WaitMbarrier,
                        Meeting::Named { .. } | Meeting::Cluster => What::WaitBarrier,
                    };
                    let due = Some(gate.time);
                    self.wait(at, due, what, entry.pc);
                }
            }
            Event::Copy { bytes, signals, group } => {
                let end = self.copy(at, *bytes, entry.pc);
                for signal in signals {
                    self.arrive(*signal, end);
                }
                if let Some((kind, group)) = group {
                    self.warps[at].copies.push(((*kind, *group), end));
                }
            }
            Event::Copies { kind, limit } => {
                let is_due = |(of, group): &_| of == kind && group < limit;
                let due = take_due(&mut self.warps[at].copies, is_due);
                self.wait(at, due, What::WaitCopies, entry.pc);
            }
            Event::End => {}
        }
        self.warps[at].entry += 1;
    }

    /// A turn of a warp at its scheduler, of the instructions up to the `limit`th.
    fn issue(&mut self, at: usize, limit: u64, pc: u32) {
        let (block, index) = self.split(at);
        let free = &mut self.blocks[block].schedulers[(index % NUM_SCHEDULERS) as usize];
        let warp = &mut self.warps[at];
        let count = TURN.min(limit - warp.issued);
        let start = warp.time.max(*free);
        let what = What::Run { after_products: warp.after_products };
        let (end, line) = (start + count, self.place.line(pc));
        warp.spans.push(Span { what, start, end, warp: index, line });
        warp.issued += count;
        (warp.time, *free) = (end, end);
    }

    fn wait(&mut self, at: usize, due: Option<u64>, what: What, pc: u32) {
        let (_, index) = self.split(at);
        let (line, warp) = (self.place.line(pc), &mut self.warps[at]);
        if let Some(end) = due.filter(|due| *due > warp.time) {
            warp.spans.push(Span { what, start: warp.time, end, warp: index, line });
            warp.time = end;
        }
    }

    fn product(&mut self, at: usize, group: u32, op: Wgmma, pc: u32) {
        let (block, index) = self.split(at);
        let core = (index % NUM_SCHEDULERS) as usize;
        let block = &mut self.blocks[block];
        let start = self.warps[at].time.max(block.tensor_cores[core]);
        let end = start + product_cycles(op);
        let line = self.place.line(pc);
        block.products[core].push(Span { what: What::Product, start, end, warp: index, line });
        block.tensor_cores[core] = end;
        self.warps[at].products.push((group, end));
        self.warps[at].after_products = false;
    }

    /// Returns when the copy is over.
    fn copy(&mut self, at: usize, bytes: u64, pc: u32) -> u64 {
        let (block, index) = self.split(at);
        let block = &mut self.blocks[block];
        let start = self.warps[at].time;
        block.copies_free = start.max(block.copies_free) + bytes.div_ceil(COPY_BYTES_PER_CYCLE);
        let (end, line) = (block.copies_free + COPY_LATENCY, self.place.line(pc));
        block.copies.push(Span { what: What::Copy, start, end, warp: index, line });
        end
    }

    fn arrive(&mut self, gate: (Meeting, u32), time: u64) {
        let Some(gate) = self.gates.get_mut(&gate) else { return };
        gate.left -= 1;
        gate.time = gate.time.max(time);
        if gate.left == 0 {
            for warp in gate.waiting.drain(..) {
                self.warps[warp].is_blocked = false;
            }
        }
    }

    fn timeline(self) -> Timeline {
        let cycles = self.warps.iter().map(|warp| warp.time).max().unwrap_or(0);
        let per_block = self.log.warps.len() / self.blocks.len();
        let mut warps = self.warps.into_iter();
        let mut tracks = Vec::new();
        for (block, &position) in self.blocks.into_iter().zip(self.place.blocks) {
            let mut add = |owner, spans: Vec<Span>| {
                if !spans.is_empty() {
                    tracks.push(Track { block: position, owner, spans: merged(spans) });
                }
            };
            for (index, warp) in warps.by_ref().take(per_block).enumerate() {
                add(Owner::Warp(index as u32), warp.spans);
            }
            for (core, products) in block.products.into_iter().enumerate() {
                add(Owner::TensorCore(core as u32), products);
            }
            add(Owner::Copies, block.copies);
        }
        Timeline { cycles, tracks }
    }
}

/// Takes out what a warp waits for, and returns the last end.
fn take_due<G>(all: &mut Vec<(G, u64)>, is_due: impl Fn(&G) -> bool) -> Option<u64> {
    let due = all.iter().filter(|(group, _)| is_due(group)).map(|(_, end)| *end).max();
    all.retain(|(group, _)| !is_due(group));
    due
}

/// Cycles of a tensor core: its own, a row of 16 times 32 bytes for each of N in half a cycle, or those in which shared
/// memory gives the operands.
fn product_cycles(op: Wgmma) -> u64 {
    let (n, depth) = (u64::from(op.product.n), u64::from(op.product.depth));
    let a_rows = if op.a_in_registers { 0 } else { ROWS };
    (n * depth / 64).max((a_rows + n) * depth / SHARED_BYTES_PER_CYCLE).max(1)
}

/// Turns of one run that follow each other without a pause are one span.
fn merged(spans: Vec<Span>) -> Vec<Span> {
    let mut all: Vec<Span> = Vec::with_capacity(spans.len());
    for span in spans {
        match all.last_mut() {
            Some(last)
                if matches!(span.what, What::Run { .. })
                    && (last.what, last.end, last.line) == (span.what, span.start, span.line) =>
            {
                last.end = span.end;
            }
            _ => all.push(span),
        }
    }
    all
}
