//! The lower bound against all placements of small cases.

use moekit::eplb::*;
use proptest::prelude::*;

/// The least maximum over every way to fill the slots in which each expert has one.
fn optimum(weights: &[f64], cluster: &Cluster, allow_duplicates: bool) -> f64 {
    let mut row = vec![0usize; cluster.num_physical_experts()];
    let mut best = f64::INFINITY;
    loop {
        best = best.min(time_of(&row, weights, cluster, allow_duplicates));
        let Some(at) = row.iter().rposition(|&e| e + 1 < weights.len()) else { return best };
        row[at] += 1;
        row[at + 1..].fill(0);
    }
}

/// The slowest GPU's time; infinite for what is no placement.
fn time_of(row: &[usize], weights: &[f64], cluster: &Cluster, allow_duplicates: bool) -> f64 {
    let mut counts = vec![0.0; weights.len()];
    row.iter().for_each(|&e| counts[e] += 1.0);
    if counts.contains(&0.0) {
        return f64::INFINITY;
    }
    let mut slowest = 0.0f64;
    for gpu in 0..cluster.num_gpus() {
        let held = &row[cluster.slots_of(gpu)];
        let repeats = held.iter().enumerate().any(|(i, e)| held[..i].contains(e));
        if repeats && !allow_duplicates {
            return f64::INFINITY;
        }
        let load: f64 = held.iter().map(|&e| weights[e] / counts[e]).sum();
        slowest = slowest.max(load / cluster.gpus()[gpu].speed);
    }
    slowest
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn no_placement_at_all_is_below_the_bound(
        weights in prop::collection::vec(
            prop_oneof![0.0..1.0f64, 1.0..8.0f64, (0u32..5).prop_map(f64::from)], 2..5),
        slots in prop::collection::vec(1..4usize, 2..4),
        even in any::<bool>(),
        fast in prop_oneof![Just(1.0), 1.0..3.0f64],
        allow_duplicates in any::<bool>(),
    ) {
        let slots: Vec<usize> =
            slots.iter().map(|&n| if even { slots[0].min(2) } else { n }).collect();
        let num_slots: usize = slots.iter().sum();
        prop_assume!(num_slots >= weights.len() && num_slots <= 6);
        let mut speeds = vec![1.0; slots.len()];
        speeds[0] = fast;
        let cluster = Cluster::uniform(num_slots, 1, slots.len()).expect("cluster")
            .with_slots(&slots).expect("slots").with_speeds(&speeds).expect("speeds");
        let load = ExpertLoad::new([weights.clone()]).expect("load");
        let rounded: Vec<f64> = load.layer(0).iter().map(|&w| f64::from(w)).collect();
        let optimum = optimum(&rounded, &cluster, allow_duplicates);
        let options = OptimizedOptions { allow_duplicates, ..OptimizedOptions::default() };
        let placement = place_on_cluster(&load, &cluster, 1, &options).expect("placement");
        let layer = Balance::new(&load, &placement, &cluster).expect("balance").layers[0];
        prop_assert!(
            layer.lower_bound <= optimum * (1.0 + 1e-9),
            "bound {} above the optimum {optimum}", layer.lower_bound
        );
        if layer.num_duplicates == 0 || allow_duplicates {
            prop_assert!(layer.max_load >= optimum * (1.0 - 1e-9), "below the optimum {optimum}");
        }
    }
}
