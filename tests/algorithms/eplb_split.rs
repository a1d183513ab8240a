//! Token splits against a general solver, and the tables that follow them.

#![allow(clippy::needless_range_loop)] // indices name layers and GPUs

use moekit::eplb::*;
use proptest::prelude::*;

use crate::laws::{Case, cases};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn fractions_sum_to_one_and_beat_the_even_split(case in cases()) {
        let placement = case.place();
        let split = split_tokens(&case.load, &placement, &case.cluster).expect("split");
        let even = case.max_loads(&placement);
        for layer_idx in 0..case.load.num_layers() {
            let mut loads = vec![0.0; case.cluster.num_gpus()];
            for e in 0..placement.num_logical_experts() {
                let shares = split.fractions(layer_idx, e);
                let count = placement.logical_count(layer_idx)[e] as usize;
                prop_assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{shares:?}");
                prop_assert!(shares.iter().all(|&share| share >= 0.0), "{shares:?}");
                prop_assert!(shares[count..].iter().all(|&share| share == 0.0), "{shares:?}");
                for (&slot, share) in placement.replicas(layer_idx, e).iter().zip(shares) {
                    let gpu = (0..loads.len())
                        .find(|&gpu| case.cluster.slots_of(gpu).contains(&(slot as usize)));
                    loads[gpu.expect("a GPU")] +=
                        share * f64::from(case.load.layer(layer_idx)[e]);
                }
            }
            let scale = 1.0 + loads.iter().sum::<f64>();
            for (own, stated) in loads.iter().zip(split.gpu_loads(layer_idx)) {
                prop_assert!((own - stated).abs() < 1e-9 * scale, "{own} {stated}");
            }
            prop_assert!(split.max_load(layer_idx) <= even[layer_idx] + 1e-9 * scale);
            let optimum = linear_program(&case, &placement, layer_idx);
            prop_assert!(
                (split.max_load(layer_idx) - optimum).abs() < 1e-6 * scale,
                "{} is not the optimum {optimum}", split.max_load(layer_idx)
            );
        }
    }

    #[test]
    fn every_prefix_of_a_split_table_follows_the_fractions(
        weights in prop::collection::vec(prop_oneof![Just(0.0), 0.01..1.0f64], 1..9),
        period in 1..300usize,
    ) {
        let total: f64 = weights.iter().sum();
        prop_assume!(total > 0.0);
        let shares: Vec<f64> = weights.iter().map(|w| w / total).collect();
        let table = SplitTable::new(std::slice::from_ref(&shares), period).expect("table");
        let mut taken = vec![0.0f64; shares.len()];
        for token in 0..period {
            taken[table.replica_idx(0, token as u64).expect("expert 0")] += 1.0;
            for (r, share) in shares.iter().enumerate() {
                let error = taken[r] - share * (token + 1) as f64;
                prop_assert!(error.abs() < 1.0, "replica {r} is off by {error} at {token}");
            }
        }
        let again = table.replica_idx(0, 5 * period as u64);
        prop_assert_eq!(again, table.replica_idx(0, 0));
    }
}

/// The least time of the slowest GPU, by a general solver.
fn linear_program(case: &Case, placement: &Placement, layer_idx: usize) -> f64 {
    use microlp::{ComparisonOp, OptimizationDirection, Problem};
    let mut problem = Problem::new(OptimizationDirection::Minimize);
    let time = problem.add_var(1.0, (0.0, f64::INFINITY));
    let num_gpus = case.cluster.num_gpus();
    let mut rows: Vec<Vec<(microlp::Variable, f64)>> =
        (0..num_gpus).map(|gpu| vec![(time, -case.cluster.gpus()[gpu].speed)]).collect();
    for e in 0..placement.num_logical_experts() {
        let weight = f64::from(case.load.layer(layer_idx)[e]);
        let mut shares = Vec::new();
        for gpu in 0..num_gpus {
            let slots = &placement.physical_to_logical(layer_idx)[case.cluster.slots_of(gpu)];
            if slots.contains(&(e as i32)) {
                let share = problem.add_var(0.0, (0.0, 1.0));
                shares.push((share, 1.0));
                rows[gpu].push((share, weight));
            }
        }
        problem.add_constraint(shares, ComparisonOp::Eq, 1.0);
    }
    for row in rows {
        problem.add_constraint(row, ComparisonOp::Le, 0.0);
    }
    match problem.solve().expect("a split exists") {
        microlp::SolveOutcome::Solution(solution) => solution.objective(),
        outcome => panic!("no limit was set: {outcome:?}"),
    }
}
