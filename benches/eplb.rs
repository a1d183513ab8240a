//! Expert load balancing at the scale of DeepSeek-V3: 58 layers of 256 experts.

use criterion::{Criterion, criterion_group, criterion_main};
use moekit::eplb::{
    Balance, ExpertLoad, Goal, IncrementalParams, OptimizedOptions, Policy, RebalanceParams,
    SplitTable, plan_migration, rebalance_experts, rebalance_incremental, split_tokens,
};
use std::hint::black_box;

const NUM_LAYERS: usize = 58;
const NUM_EXPERTS: usize = 256;
const EP144: RebalanceParams = RebalanceParams {
    num_physical_experts: 288,
    num_expert_groups: 1,
    num_nodes: 1,
    num_gpus: 144,
};

/// Lognormal loads of sigma 1.
fn load(mut seed: u64) -> ExpertLoad {
    let mut unit = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 11) as f64 / (1u64 << 53) as f64
    };
    let mut expert = || {
        let radius = (-2.0 * (1.0 - unit()).ln()).sqrt();
        1000.0 * (radius * (std::f64::consts::TAU * unit()).cos()).exp()
    };
    let rows: Vec<Vec<f64>> =
        (0..NUM_LAYERS).map(|_| (0..NUM_EXPERTS).map(|_| expert()).collect()).collect();
    ExpertLoad::new(rows).expect("loads are finite and positive")
}

/// Runs `f` on one thread and on all.
fn on_threads(c: &mut Criterion, name: &str, mut f: impl FnMut() + Send) {
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("one thread");
    let id = format!("eplb/{name}/58x256/one_core");
    c.bench_function(&id, |b| one.install(|| b.iter(&mut f)));
    c.bench_function(&format!("eplb/{name}/58x256/all_cores"), |b| b.iter(&mut f));
}

fn policies(c: &mut Criterion) {
    let load = load(1);
    let optimized = Policy::Optimized(OptimizedOptions::default());
    for (name, policy) in [("deepseek", Policy::DeepSeek), ("optimized", optimized)] {
        on_threads(c, &format!("{name}/ep144_288"), || {
            black_box(rebalance_experts(&load, &EP144, &policy).expect("placement"));
        });
        let hierarchical = RebalanceParams {
            num_physical_experts: 288,
            num_expert_groups: 8,
            num_nodes: 4,
            num_gpus: 32,
        };
        on_threads(c, &format!("{name}/ep32_288_4nodes"), || {
            black_box(rebalance_experts(&load, &hierarchical, &policy).expect("placement"));
        });
    }
}

fn moves(c: &mut Criterion) {
    let (old, new) = (load(1), load(2));
    let cluster = EP144.cluster().expect("cluster");
    let current = rebalance_experts(&old, &EP144, &Policy::DeepSeek).expect("placement");
    let params = IncrementalParams {
        goal: Goal::AtMostMoves(256),
        num_expert_groups: 1,
        options: OptimizedOptions::default(),
    };
    on_threads(c, "incremental_256_moves/ep144_288", || {
        black_box(rebalance_incremental(&new, &current, &cluster, &params).expect("placement"));
    });
    let next = rebalance_incremental(&new, &current, &cluster, &params).expect("placement");
    on_threads(c, "migration_plan/ep144_288", || {
        black_box(plan_migration(&current, &next, &cluster, 1).expect("plan"));
    });
}

fn batches(c: &mut Criterion) {
    let load = load(1);
    let cluster = EP144.cluster().expect("cluster");
    let placement = rebalance_experts(&load, &EP144, &Policy::DeepSeek).expect("placement");
    on_threads(c, "split_tokens/ep144_288", || {
        black_box(split_tokens(&load, &placement, &cluster).expect("split"));
    });
    let split = split_tokens(&load, &placement, &cluster).expect("split");
    on_threads(c, "split_table/period_256", || {
        for layer_idx in 0..NUM_LAYERS {
            let table = SplitTable::from_split(&split, &placement, layer_idx, 256);
            black_box(table.expect("table"));
        }
    });
    on_threads(c, "balance_and_bound/ep144_288", || {
        black_box(Balance::new(&load, &placement, &cluster).expect("balance"));
    });
}

criterion_group!(benches, policies, moves, batches);
criterion_main!(benches);
