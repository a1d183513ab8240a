//! A layer holds its weights and what the calculator says, and little else: not even for a moment.

#[path = "common/random_layer.rs"]
mod random_layer;

use std::sync::{Arc, Barrier};

use moekit::comm::{World, WorldOptions};
use moekit::moe::quant::ScaleFormat;
use moekit::moe::{
    ExpertMap, Fusion, LayerOptions, MoeLayer, RecvLayout, Reduce, Weighting, WireFormat,
};
use moekit::tensor::Tensor;
use moekit::{Backend, Cpu, Result};

const NUM_RANKS: usize = 2;
const HIDDEN: usize = 2048;
const INTERMEDIATE: usize = 768;
const NUM_EXPERTS: usize = 32;
const NUM_TOKENS: usize = 768;
const NUM_SLOTS: usize = NUM_TOKENS * 8;

// NOTE: one test alone in this program, for memory is the whole process's.
#[test]
fn the_peak_is_near_what_the_calculator_says() {
    let alignment = 16;
    let layouts = [
        RecvLayout::Exact { expert_alignment: alignment },
        RecvLayout::Capacity {
            expert_alignment: alignment,
            num_max_recv_rows: NUM_SLOTS * 5 / 4 + NUM_EXPERTS * alignment,
        },
        RecvLayout::Masked { max_m: Some(NUM_TOKENS) },
    ];
    for format in [WireFormat::Fp8, WireFormat::Bf16] {
        for layout in layouts {
            check(format, layout);
        }
    }
}

fn check(format: WireFormat, layout: RecvLayout) {
    let before = resident_bytes("VmRSS:");
    std::fs::write("/proc/self/clear_refs", "5").expect("the peak should be reset");
    let ready = Arc::new(Barrier::new(NUM_RANKS));
    let results = World::run_threads(NUM_RANKS, WorldOptions::default(), move |world| {
        let held = run(&world, format, layout, &ready)?;
        world.close()?;
        Ok(held)
    });
    let results = results.expect("ranks should start").into_iter();
    let held: Vec<Held> = results.map(|held| held.expect("every rank should end well")).collect();
    let peak = resident_bytes("VmHWM:") - before;

    let sum = |part: fn(&Held) -> usize| held.iter().map(part).sum::<usize>();
    let (weights, buffers) = (sum(|held| held.weight_bytes), sum(|held| held.buffer_bytes));
    let own = peak - sum(|held| held.caller_bytes);
    let ratio = own as f64 / (weights + buffers) as f64;
    println!("{format:?}, {layout:?}: {own} bytes, {ratio:.3} of weights and buffers");
    assert!(
        own as f64 <= 1.2 * (weights + buffers) as f64,
        "{format:?}, {layout:?}: {own} bytes, of which weights {weights}, buffers {buffers}"
    );
    // What was not touched is not there; but all weights were, and most of what a row needs.
    let least = weights + sum(|held| held.used_bytes);
    assert!(own >= least, "{format:?}, {layout:?}: {own} bytes resident, {least} in use");
}

/// Bytes of one rank.
struct Held {
    weight_bytes: usize,
    /// By the calculator.
    buffer_bytes: usize,
    /// Received rows and their intermediates, padding left out.
    used_bytes: usize,
    /// Input and output.
    caller_bytes: usize,
}

fn run(world: &World, format: WireFormat, layout: RecvLayout, ready: &Barrier) -> Result<Held> {
    let cpu = Cpu::new();
    let config = random_layer::config(HIDDEN, INTERMEDIATE, NUM_EXPERTS);
    let weights = random_layer::weights(&cpu, &config, NUM_EXPERTS / NUM_RANKS, format)?;
    let weight_bytes = weights.num_bytes();
    let options = LayerOptions {
        num_max_tokens_per_rank: NUM_TOKENS,
        layout,
        reduce: Reduce::BySlot,
        scale_format: ScaleFormat::Fp32,
        fusion: Fusion::Off,
        weighting: Weighting::Combine,
    };
    let sizes = config.layer_sizes(&options, format, NUM_EXPERTS, [NUM_RANKS; 2])?;
    let map = ExpertMap::identity(NUM_EXPERTS);
    let mut layer = MoeLayer::new(&cpu, world, config, weights, map, options)?;
    let stream = cpu.stream()?;
    let x = random_layer::noise(&cpu, [NUM_TOKENS, HIDDEN], 1.0)?;
    let mut out = Tensor::zeros(&cpu, [NUM_TOKENS, HIDDEN])?;
    for _ in 0..2 {
        layer.forward(&stream, x.view(), out.view_mut())?;
        cpu.check(&stream)?;
    }
    // All ranks' memory is there at the same time.
    ready.wait();
    let counts = layer.num_recv_tokens_per_expert()?;
    let num_recv = counts.iter().map(|&count| count as usize).sum::<usize>();
    let num_rows = match layout {
        RecvLayout::Exact { expert_alignment } => {
            let aligned =
                counts.iter().map(|&count| (count as usize).next_multiple_of(expert_alignment));
            let num_rows = aligned.sum::<usize>();
            num_rows + num_rows / 8
        }
        _ => sizes.ep.num_max_recv_rows,
    };
    Ok(Held {
        weight_bytes,
        buffer_bytes: sizes.num_bytes(num_rows),
        used_bytes: num_recv * sizes.row_bytes,
        caller_bytes: 2 * NUM_TOKENS * HIDDEN * 2,
    })
}

/// A line of /proc/self/status, in bytes.
fn resident_bytes(name: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has /proc");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("the line is there");
    let kilobytes = line.trim().strip_suffix(" kB").expect("in kB");
    kilobytes.parse::<usize>().expect("a number") * 1024
}
