//! Once warm, a layer's step allocates nothing, on any thread.

#[path = "common/random_layer.rs"]
mod random_layer;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};

use moekit::comm::{World, WorldOptions};
use moekit::moe::quant::ScaleFormat;
use moekit::moe::{
    ExpertMap, Fusion, LayerOptions, MoeLayer, RecvLayout, Reduce, Weighting, WireFormat,
};
use moekit::tensor::Tensor;
use moekit::{Backend, Cpu, Result};

/// Counts what all threads of this program ask the system's allocator for.
struct Counting;

static NUM_ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        NUM_ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        NUM_ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        NUM_ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.realloc(ptr, layout, new_size) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(ptr, layout) };
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const HIDDEN: usize = 512;
const INTERMEDIATE: usize = 256;
const NUM_EXPERTS: usize = 32;
/// Enough that every stage shares its work out to threads.
const NUM_TOKENS: usize = 600;

/// Steps in a row that must allocate nothing.
const NUM_STEADY: usize = 8;
/// Steps until then at most: each thread grows its scratch memory when it first takes part in a stage.
const MAX_WARM_UP: usize = 200;

#[derive(Clone, Copy, Debug)]
struct Case {
    num_ranks: usize,
    format: WireFormat,
    layout: RecvLayout,
    reduce: Reduce,
    fusion: Fusion,
    weighting: Weighting,
}

// NOTE: one test alone in this program, for the count is of all threads.
#[test]
fn a_warm_layer_allocates_nothing() {
    let num_slots = NUM_TOKENS * 8;
    let layouts = [
        RecvLayout::Exact { expert_alignment: 128 },
        RecvLayout::Capacity {
            expert_alignment: 16,
            num_max_recv_rows: num_slots + 16 * NUM_EXPERTS,
        },
        RecvLayout::Masked { max_m: None },
    ];
    for num_ranks in [1, 2, 4] {
        for format in [WireFormat::Fp8, WireFormat::Bf16] {
            for layout in layouts {
                for reduce in [Reduce::BySlot, Reduce::ByRank] {
                    // Each on its own is enough.
                    let fusion = match (format, reduce) {
                        (WireFormat::Fp8, Reduce::ByRank) => Fusion::On,
                        _ => Fusion::Off,
                    };
                    let weighting = match reduce {
                        Reduce::BySlot => Weighting::Combine,
                        Reduce::ByRank => Weighting::Down,
                    };
                    check(Case { num_ranks, format, layout, reduce, fusion, weighting });
                }
            }
        }
    }
}

/// The ranks' steps in time with each other, so that the first rank can count each step's allocations.
#[derive(Debug)]
struct Steps {
    barrier: Barrier,
    is_over: AtomicBool,
    /// The first rank's counts, in order.
    counts: [AtomicUsize; MAX_WARM_UP + NUM_STEADY],
}

fn check(case: Case) {
    let steps = Arc::new(Steps {
        barrier: Barrier::new(case.num_ranks),
        is_over: AtomicBool::new(false),
        counts: [const { AtomicUsize::new(usize::MAX) }; _],
    });
    let results = World::run_threads(case.num_ranks, WorldOptions::default(), {
        let steps = Arc::clone(&steps);
        move |world| run(&world, case, &steps).and_then(|()| world.close())
    });
    for result in results.expect("ranks should start") {
        result.expect("every rank should end well");
    }
    let counts: Vec<usize> =
        steps.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
    let counts: Vec<usize> = counts.into_iter().filter(|&count| count < usize::MAX).collect();
    let is_steady = counts.iter().rev().take(NUM_STEADY).all(|&count| count == 0);
    assert!(is_steady && counts.len() >= NUM_STEADY, "{case:?}: {counts:?}");
}

fn run(world: &World, case: Case, steps: &Steps) -> Result<()> {
    let cpu = Cpu::new();
    let num_tokens = NUM_TOKENS / case.num_ranks;
    let config = random_layer::config(HIDDEN, INTERMEDIATE, NUM_EXPERTS);
    let num_local = NUM_EXPERTS / case.num_ranks;
    let weights = random_layer::weights(&cpu, &config, num_local, case.format)?;
    let options = LayerOptions {
        num_max_tokens_per_rank: num_tokens,
        layout: case.layout,
        reduce: case.reduce,
        scale_format: ScaleFormat::Fp32,
        fusion: case.fusion,
        weighting: case.weighting,
    };
    let map = ExpertMap::identity(NUM_EXPERTS);
    let mut layer = MoeLayer::new(&cpu, world, config, weights, map, options)?;
    let stream = cpu.stream()?;
    let x = random_layer::noise(&cpu, [num_tokens, HIDDEN], 1.0)?;
    let mut out = Tensor::zeros(&cpu, [num_tokens, HIDDEN])?;

    let is_first = world.rank_idx() == 0;
    let mut num_steady = 0;
    for (idx, count) in steps.counts.iter().enumerate() {
        steps.barrier.wait();
        if steps.is_over.load(Ordering::Relaxed) {
            break;
        }
        let before = NUM_ALLOCATIONS.load(Ordering::Relaxed);
        steps.barrier.wait();
        // Fewer tokens now and then: less is no reason to allocate either.
        let num_rows = num_tokens - idx % 3;
        layer.forward(&stream, x.first_rows(num_rows)?, out.first_rows_mut(num_rows)?)?;
        cpu.check(&stream)?;
        steps.barrier.wait();
        if is_first {
            let num_allocations = NUM_ALLOCATIONS.load(Ordering::Relaxed) - before;
            count.store(num_allocations, Ordering::Relaxed);
            num_steady = if num_allocations == 0 { num_steady + 1 } else { 0 };
            steps.is_over.store(num_steady == NUM_STEADY, Ordering::Relaxed);
        }
    }
    Ok(())
}
