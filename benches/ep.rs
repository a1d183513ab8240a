//! Gate, plan, dispatch and combine over ranks that are threads, against memcpy.
//!
//! `cargo bench --bench ep [-- TOKENS PER RANK] [-- PART OF A NAME]`; `RAYON_NUM_THREADS` sets memcpy's threads. A line is the time
//! until the last of the ranks is done; its bytes are all ranks', counted as `EpRank::num_bytes` says.

mod common;
#[path = "common/ep.rs"]
mod ep;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};

use common::{Limit, Stage, Work};
use ep::{Command, EpRank, HIDDEN, NUM_RANKS, NUM_TOKENS, Phase, layouts};
use moekit::comm::{World, WorldOptions};
use moekit::moe::{RecvLayout, WireFormat};
use moekit::{Cpu, Result};

fn main() -> Result<()> {
    let num_tokens = std::env::args().find_map(|arg| arg.parse().ok()).unwrap_or(NUM_TOKENS);
    common::header(&format!("simd {}, {NUM_RANKS} ranks", Cpu::new().simd()));
    for (format, wire) in [("BF16", WireFormat::Bf16), ("FP8", WireFormat::Fp8)] {
        for (name, layout) in layouts(num_tokens) {
            let shape = format!("{format} {name} {num_tokens} x {HIDDEN}");
            bench(num_tokens, wire, layout, &shape);
        }
    }
    Ok(())
}

/// What the ranks' threads and the one that times them share.
struct Shared {
    command: Command,
    go: Barrier,
    done: Barrier,
    num_bytes: [AtomicUsize; Phase::ALL.len()],
}

fn bench(num_tokens: usize, wire: WireFormat, layout: RecvLayout, shape: &str) {
    let shared = Arc::new(Shared {
        command: Command::default(),
        go: Barrier::new(NUM_RANKS + 1),
        done: Barrier::new(NUM_RANKS + 1),
        num_bytes: Default::default(),
    });
    let ranks = std::thread::spawn({
        let shared = Arc::clone(&shared);
        move || {
            World::run_threads(NUM_RANKS, WorldOptions::default(), move |world| {
                let outcome = serve(&shared, world, num_tokens, wire, layout);
                if let Err(error) = &outcome {
                    // The others would wait for ever.
                    eprintln!("{error}");
                    std::process::exit(1);
                }
                outcome
            })
        }
    });
    shared.done.wait();
    let stage = |(phase, num_bytes): (Phase, &AtomicUsize)| {
        let work = Work { num_bytes: num_bytes.load(Ordering::Relaxed), ..Work::default() };
        Stage { name: phase.name(), shape: shape.to_owned(), work }
    };
    let stages: Vec<Stage> = Phase::ALL.into_iter().zip(&shared.num_bytes).map(stage).collect();
    common::lines(&stages, Limit::Memcpy, |idx| {
        shared.command.set(Some(Phase::ALL[idx]));
        shared.go.wait();
        shared.done.wait();
    });
    shared.command.set(None);
    shared.go.wait();
    let outcomes = ranks.join().expect("no rank should panic").expect("ranks should start");
    outcomes.into_iter().for_each(|outcome| outcome.expect("every rank should end well"));
}

/// One rank: runs what it is told to.
fn serve(
    shared: &Shared,
    world: World,
    num_tokens: usize,
    wire: WireFormat,
    layout: RecvLayout,
) -> Result<()> {
    let mut rank = EpRank::new(&Cpu::new(), &world, num_tokens, wire, layout)?;
    for (phase, num_bytes) in Phase::ALL.into_iter().zip(&shared.num_bytes) {
        num_bytes.fetch_add(rank.num_bytes(phase)?, Ordering::Relaxed);
    }
    shared.done.wait();
    loop {
        shared.go.wait();
        let Some(phase) = shared.command.phase() else { break };
        rank.run(phase)?;
        shared.done.wait();
    }
    drop(rank);
    world.close()
}
