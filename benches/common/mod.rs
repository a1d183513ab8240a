//! The one table of the benchmarks, and the rounds that fill it.
//!
//! A line is the fastest of many rounds. A round times the stage and its limit one after the other, so
//! that neighbours on the machine slow both; `x limit` is the stage's rate over the limit's, each at its
//! fastest.

#![allow(dead_code, reason = "each benchmark uses its part")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use moekit::backend::{Limits, SimdLevel};
use moekit::cost::Cost;
use moekit::tensor::Tensor;
use moekit::{Cpu, Result};
use rayon::prelude::*;

/// Rounds of a line; one that takes long gets fewer.
pub const NUM_ROUNDS: usize = 15;
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

impl From<Cost> for Work {
    fn from(cost: Cost) -> Self {
        Self { num_flops: cost.flops() as usize, num_bytes: cost.hbm_bytes as usize }
    }
}

/// Prints where the figures are taken, and the columns' names.
pub fn header(what: &str) {
    println!("{what}, {} threads", rayon::current_num_threads());
    println!(
        "{:<22} {:<26} {:>11} {:>9} {:>8} {:>8} of",
        "name", "shape", "us", "GFLOP/s", "GB/s", "x limit"
    );
}

/// Times `stage` against `limit` and prints the line, if the command line asks for all or for some part of
/// its name.
pub fn line(name: &str, shape: &str, work: Work, limit: Limit, mut stage: impl FnMut()) {
    if !is_wanted(name) {
        return;
    }
    let mut yardstick = Yardstick::new(limit, work.num_bytes);
    let (mut best, mut best_limit) = (f64::INFINITY, 0.0f64);
    rounds(|| {
        best_limit = best_limit.max(yardstick.rate());
        best = best.min(seconds(&mut stage));
    });
    print_line(name, shape, work, (limit.name(), best_limit), best);
}

/// One of several stages that can only run one after the other.
pub struct Stage {
    pub name: &'static str,
    pub shape: String,
    pub work: Work,
}

/// Times stages that follow each other, all in each round, against one `limit`; `run` runs stage `idx`.
/// Prints the lines that the command line asks for.
pub fn lines(stages: &[Stage], limit: Limit, mut run: impl FnMut(usize)) {
    let most_bytes = stages.iter().map(|stage| stage.work.num_bytes).max().unwrap_or(0);
    let mut yardstick = Yardstick::new(limit, most_bytes);
    let mut best = vec![f64::INFINITY; stages.len()];
    let mut best_limit = 0.0f64;
    rounds(|| {
        best_limit = best_limit.max(yardstick.rate());
        for (idx, best) in best.iter_mut().enumerate() {
            let start = Instant::now();
            run(idx);
            *best = best.min(start.elapsed().as_secs_f64());
        }
    });
    for (stage, best) in stages.iter().zip(best).filter(|(stage, _)| is_wanted(stage.name)) {
        print_line(stage.name, &stage.shape, stage.work, (limit.name(), best_limit), best);
    }
}

fn rounds(mut round: impl FnMut()) {
    let start = Instant::now();
    for idx in 0..NUM_ROUNDS {
        if idx >= 3 && start.elapsed() >= MAX_TIME {
            break;
        }
        round();
    }
}

/// Prints a line: a stage that took `best` seconds, against the 10^9 operations or bytes per second of a
/// limit.
pub fn print_line(
    name: &str,
    shape: &str,
    work: Work,
    (limit, limit_rate): (&str, f64),
    best: f64,
) {
    let gflop_per_s = work.num_flops as f64 / best / 1e9;
    let gb_per_s = work.num_bytes as f64 / best / 1e9;
    let rate = if limit == Limit::Fma.name() { gflop_per_s } else { gb_per_s };
    let x_limit = rate / limit_rate;
    let flops = if work.num_flops == 0 { "-".to_owned() } else { format!("{gflop_per_s:.1}") };
    println!(
        "{name:<22} {shape:<26} {:>11.1} {flops:>9} {gb_per_s:>8.2} {x_limit:>8.2} {limit}",
        best * 1e6,
    );
}

/// The SIMD level that the command line asks for, or the best.
pub fn cpu() -> Result<Cpu> {
    let wanted = |level: &SimdLevel| std::env::args().any(|arg| arg == level.to_string());
    match SimdLevel::ALL.into_iter().find(wanted) {
        Some(level) => Cpu::with_simd(level),
        None => Ok(Cpu::new()),
    }
}

pub fn is_wanted(name: &str) -> bool {
    let is_level = |arg: &String| SimdLevel::ALL.iter().any(|level| *arg == level.to_string());
    let is_number = |arg: &String| arg.bytes().all(|byte| byte.is_ascii_digit());
    let is_name = |arg: &String| !arg.starts_with('-') && !is_level(arg) && !is_number(arg);
    let names = std::env::args().skip(1).filter(is_name);
    let mut names = names.peekable();
    names.peek().is_none() || names.any(|part| name.contains(&part))
}

struct Yardstick {
    limit: Limit,
    /// On huge pages where the system has them, like the stage's.
    from: Tensor<Cpu, f32, 1>,
    to: Tensor<Cpu, f32, 1>,
}

/// Bytes that a limit reads and writes at most: beyond all caches, the rate is the same.
const MAX_LIMIT_BYTES: usize = 1 << 30;

impl Yardstick {
    fn new(limit: Limit, num_bytes: usize) -> Self {
        let num_bytes = num_bytes.min(MAX_LIMIT_BYTES);
        // Written to, for untouched pages are not read from memory.
        let ones = |num_bytes: usize| {
            let values = vec![1.0; num_bytes.next_multiple_of(8) / size_of::<f32>()];
            Tensor::from_host(&Cpu::new(), &values, [values.len()]).expect("memory for the limit")
        };
        let (from, to) = match limit {
            Limit::Fma => (0, 0),
            Limit::Memcpy => (num_bytes / 2, num_bytes / 2),
            Limit::Read => (num_bytes, 0),
        };
        Self { limit, from: ones(from), to: ones(to) }
    }

    /// 10^9 operations or bytes per second.
    fn rate(&mut self) -> f64 {
        let (from, mut to) = (self.from.view(), self.to.view_mut());
        let from: &[u64] = bytemuck::cast_slice(from.as_span());
        let to: &mut [u64] = bytemuck::cast_slice_mut(to.as_mut_span());
        let num_bytes = size_of_val(from) + size_of_val(to);
        let rate = |seconds: f64| num_bytes as f64 / seconds / 1e9;
        match self.limit {
            Limit::Fma => Limits::measure_fma(),
            Limit::Memcpy => rate(seconds(|| copy(from, to))),
            Limit::Read => rate(seconds(|| {
                black_box(sum(from));
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
