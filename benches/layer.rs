//! One step of a DeepSeek-V3 layer in FP8, stage by stage.
//!
//! `cargo bench --bench layer [-- NUMBERS OF TOKENS]`; `RAYON_NUM_THREADS` sets the threads. One rank with all 256 experts (11.5 GB of
//! weights), so that no stage waits for another rank. The last lines are shares of the step.

mod common;
#[path = "../tests/common/random_layer.rs"]
mod random_layer;

use std::time::Duration;

use common::{Work, print_line};
use moekit::backend::Limits;
use moekit::comm::World;
use moekit::moe::cost::RankLoad;
use moekit::moe::quant::ScaleFormat;
use moekit::moe::{
    ExpertMap, Fusion, LayerOptions, MoeLayer, RecvLayout, Reduce, Stage, Weighting, WireFormat,
};
use moekit::tensor::Tensor;
use moekit::{Backend, Cpu, Result};

const HIDDEN: usize = 7168;
const INTERMEDIATE: usize = 2048;
const NUM_EXPERTS: usize = 256;
const FORMAT: WireFormat = WireFormat::Fp8;
const NUM_STEPS: usize = 4;

fn main() -> Result<()> {
    let mut num_tokens: Vec<usize> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    if num_tokens.is_empty() {
        num_tokens = vec![2048, 32];
    }
    let cpu = Cpu::new();
    let world = World::threads(1)?.remove(0);
    let config = random_layer::config(HIDDEN, INTERMEDIATE, NUM_EXPERTS);
    let weights = random_layer::weights(&cpu, &config, NUM_EXPERTS, FORMAT)?;
    let most = num_tokens.iter().copied().max().unwrap_or(1);
    let options = LayerOptions {
        num_max_tokens_per_rank: most,
        layout: RecvLayout::Exact { expert_alignment: 16 },
        reduce: Reduce::BySlot,
        scale_format: ScaleFormat::Fp32,
        fusion: Fusion::Off,
        weighting: Weighting::Combine,
    };
    let map = ExpertMap::identity(NUM_EXPERTS);
    let mut layer = MoeLayer::new(&cpu, &world, config, weights, map, options)?;
    let x = random_layer::noise(&cpu, [most, HIDDEN], 1.0)?;
    let mut out = Tensor::zeros(&cpu, [most, HIDDEN])?;
    let stream = cpu.stream()?;

    common::header(&format!("simd {}, 1 rank, FP8", cpu.simd()));
    for num_tokens in num_tokens {
        let mut steps = Vec::new();
        for _ in 0..=NUM_STEPS {
            layer.forward(&stream, x.first_rows(num_tokens)?, out.first_rows_mut(num_tokens)?)?;
            cpu.check(&stream)?;
            steps.push(layer.stage_times()?);
        }
        let total = |step: &Vec<(Stage, Duration)>| step.iter().map(|(_, time)| *time).sum();
        let fastest = steps.iter().skip(1).min_by_key(|step| -> Duration { total(step) });
        let received = layer.num_recv_tokens_per_expert()?;
        let load = RankLoad {
            num_ranks: 1,
            num_tokens,
            num_recv_tokens: num_tokens * 8,
            num_used_experts: received.iter().filter(|&&count| count > 0).count(),
        };
        print(&layer, &load, fastest.expect("there was a step"), total(fastest.expect("as above")));
    }
    world.close()
}

fn print(layer: &MoeLayer<Cpu>, load: &RankLoad, stages: &[(Stage, Duration)], total: Duration) {
    let limits = Limits::measure();
    let shape = format!("{} tokens", load.num_tokens);
    for (stage, time) in stages {
        let cost = layer.config().stage_cost(*stage, FORMAT, load);
        let work = Work::from(cost);
        let limit = if cost.flops() > 0 {
            ("FMA", limits.fma_gflop_per_s)
        } else {
            ("memcpy", limits.memcpy_gb_per_s)
        };
        print_line(stage.name(), &shape, work, limit, time.as_secs_f64());
    }
    let share = |wanted: &[Stage]| {
        let times = stages.iter().filter(|(stage, _)| wanted.contains(stage));
        let time: Duration = times.map(|(_, time)| *time).sum();
        100.0 * time.as_secs_f64() / total.as_secs_f64()
    };
    println!("{shape}: {:.1} us in all", total.as_secs_f64() * 1e6);
    println!("{shape}: gate + plan {:.3} %", share(&[Stage::Gate, Stage::Plan]));
    println!("{shape}: logits {:.3} %", share(&[Stage::Logits]));
    let exchange =
        [Stage::DispatchSend, Stage::DispatchRecv, Stage::CombineSend, Stage::CombineRecv];
    println!("{shape}: dispatch + combine {:.3} %", share(&exchange));
}
