//! The one table of the benchmarks, and the rounds that fill it.
//!
//! A line is the fastest of many rounds. A round times the stage and its limit one after the other, so
//! that neighbours on the machine slow both; `x limit` is the stage's rate over the limit's, each at its
//! fastest.

#![allow(dead_code, reason = "each benchmark uses its part")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use moekit::backend::Limits;
use rayon::prelude::*;

/// Rounds of a line; one that takes long gets fewer.
const NUM_ROUNDS: usize = 15;
const MAX_TIME: Duration = Duration::from_secs(4);

/// What a stage is measured against.
#[derive(Clone, Copy)]
pub enum Limit {
    /// FP32 multiply-adds in registers.
    Fma,
    /// Copying half as many bytes as the stage reads and writes.
    Memcpy,
    /// Reading as many bytes as the stage does, from memory.
    Read,
}

impl Limit {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fma => "FMA",
            Self::Memcpy => "memcpy",
            Self::Read => "read",
        }
    }
}

/// Work of one call.
#[derive(Clone, Copy, Default)]
pub struct Work {
    pub num_flops: usize,
    /// Read + written.
    pub num_bytes: usize,
}

/// Prints where the figures are taken, and the columns' names.
pub fn header(what: &str) {
    println!("{what}, {} threads", rayon::current_num_threads());
    println!(
        "{:<22} {:<26} {:>11} {:>9} {:>8} {:>8} of",
        "name", "shape", "us", "GFLOP/s", "GB/s", "x limit"
    );
}

/// Times `stage` against `limit` and prints the line; returns `x limit`.
pub fn line(name: &str, shape: &str, work: Work, limit: Limit, mut stage: impl FnMut()) -> f64 {
    let mut yardstick = Yardstick::new(limit, work.num_bytes);
    let (mut best, mut best_limit) = (f64::INFINITY, 0.0f64);
    let start = Instant::now();
    let mut round = 0;
    while round < NUM_ROUNDS && (round < 3 || start.elapsed() < MAX_TIME) {
        best_limit = best_limit.max(yardstick.rate());
        best = best.min(seconds(&mut stage));
        round += 1;
    }
    let gflop_per_s = work.num_flops as f64 / best / 1e9;
    let gb_per_s = work.num_bytes as f64 / best / 1e9;
    let rate = if matches!(limit, Limit::Fma) { gflop_per_s } else { gb_per_s };
    let x_limit = rate / best_limit;
    let flops = if work.num_flops == 0 { "-".to_owned() } else { format!("{gflop_per_s:.1}") };
    println!(
        "{name:<22} {shape:<26} {:>11.1} {flops:>9} {gb_per_s:>8.2} {x_limit:>8.2} {}",
        best * 1e6,
        limit.name()
    );
    x_limit
}

struct Yardstick {
    limit: Limit,
    from: Vec<u64>,
    to: Vec<u64>,
}

impl Yardstick {
    fn new(limit: Limit, num_bytes: usize) -> Self {
        let num_words = |num_bytes: usize| num_bytes.div_ceil(size_of::<u64>());
        let (from, to) = match limit {
            Limit::Fma => (0, 0),
            Limit::Memcpy => (num_words(num_bytes / 2), num_words(num_bytes / 2)),
            Limit::Read => (num_words(num_bytes), 0),
        };
        Self { limit, from: vec![1; from], to: vec![0; to] }
    }

    /// 10^9 operations or bytes per second.
    fn rate(&mut self) -> f64 {
        let num_bytes = size_of_val(&self.from[..]) + size_of_val(&self.to[..]);
        let rate = |seconds: f64| num_bytes as f64 / seconds / 1e9;
        match self.limit {
            Limit::Fma => Limits::measure_fma(),
            Limit::Memcpy => rate(seconds(|| copy(&self.from, &mut self.to))),
            Limit::Read => rate(seconds(|| {
                black_box(sum(&self.from));
            })),
        }
    }
}

/// Time of one call, as the mean of enough calls to take a millisecond.
fn seconds(mut f: impl FnMut()) -> f64 {
    let start = Instant::now();
    let mut num_calls = 0;
    while num_calls == 0 || start.elapsed() < Duration::from_millis(1) {
        f();
        num_calls += 1;
    }
    start.elapsed().as_secs_f64() / f64::from(num_calls)
}

fn piece(len: usize) -> usize {
    len.div_ceil(rayon::current_num_threads()).max(1)
}

fn copy(from: &[u64], to: &mut [u64]) {
    to.par_chunks_mut(piece(from.len())).zip(from.par_chunks(piece(from.len()))).for_each(
        |(to, from)| {
            to.copy_from_slice(black_box(from));
        },
    );
}

fn sum(values: &[u64]) -> u64 {
    values.par_chunks(piece(values.len())).map(Limits::sum).reduce(|| 0, u64::wrapping_add)
}
