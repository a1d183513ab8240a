//! Speed of generating, checking, simulating and searching pipeline schedules.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use moekit::pipeline::{
    Costs, Limits, Link, Schedule, ScheduleKind, SearchSpec, StageTimes, check, search, simulate,
};

fn schedules(criterion: &mut Criterion) {
    let costs = Costs::uniform(StageTimes::default());
    for (num_pp_ranks, num_chunks) in [(8, 20), (16, 128), (64, 1024)] {
        let shape = format!("dualpipe {num_pp_ranks} x {num_chunks}");
        let generate = || {
            Schedule::generate(ScheduleKind::DualPipe, num_pp_ranks, num_chunks)
                .expect("the arguments are good")
        };
        let schedule = generate();
        let num_ops: usize = schedule.ranks().iter().map(Vec::len).sum();
        let mut group = criterion.benchmark_group("pipeline");
        group.throughput(Throughput::Elements(num_ops as u64));
        group.bench_function(BenchmarkId::new("generate", &shape), |bench| bench.iter(generate));
        group.bench_function(BenchmarkId::new("simulate", &shape), |bench| {
            bench.iter(|| simulate(&schedule, &costs).expect("simulate"));
        });
        group.bench_function(BenchmarkId::new("check", &shape), |bench| {
            bench.iter(|| check(&schedule, &Limits::default()).expect("valid"));
        });
        group.finish();
    }
}

fn ranking(criterion: &mut Criterion) {
    let spec = SearchSpec {
        num_pp_ranks: 16,
        num_chunks: 128,
        times: StageTimes::default(),
        link: Link::default(),
        kept_for_weights: 1.0,
        parameter_bytes: 0.0,
        activation_bytes: 0.0,
        memory_limit_bytes: None,
        max_virtual_stages: 4,
    };
    criterion.bench_function("pipeline/search/16 x 128, 8 schedules", |bench| {
        bench.iter(|| search(&spec).expect("search"));
    });
}

criterion_group!(benches, schedules, ranking);
criterion_main!(benches);
