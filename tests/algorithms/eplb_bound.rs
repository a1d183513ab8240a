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

/// The bound that the tool states beside a placement that fills the slots in order of experts.
fn bound_beside_a_bad_placement(weights: &[f64], counts: &[usize], cluster: &Cluster) -> f64 {
    let row: Vec<i32> = counts.iter().enumerate().flat_map(|(e, &n)| vec![e as i32; n]).collect();
    let load = ExpertLoad::new([weights.to_vec()]).expect("load");
    let placement = Placement::new(&[row], weights.len()).expect("placement");
    Balance::new(&load, &placement, cluster).expect("balance").layers[0].lower_bound
}

#[test]
fn light_replicas_of_heavy_experts_count_as_light() {
    // Two GPUs of 51 + 51/2 + 23.5 each, twice, and one of 40 + 40 + 20: all have 100.
    let weights = [vec![51.0; 6], vec![23.5; 4], vec![40.0, 40.0, 20.0]].concat();
    let counts = [vec![1; 4], vec![2; 2], vec![1; 7]].concat();
    let cluster = Cluster::uniform(15, 1, 5).expect("cluster");
    let bound = bound_beside_a_bad_placement(&weights, &counts, &cluster);
    assert!((bound - 100.0).abs() < 1e-9, "the optimum is 100, the bound {bound}");
}

/// Fills GPUs to exactly 100 each: replicas on GPUs side by side, as given, while each keeps a slot,
/// which an expert of its own then fills up.
fn perfect_packing(
    num_gpus: usize,
    slots: usize,
    draws: &[(f64, usize, usize)],
) -> (Vec<f64>, Vec<usize>) {
    let mut room = vec![(100.0, slots); num_gpus];
    let (mut weights, mut counts) = (Vec::new(), Vec::new());
    for &(part, count, first) in draws {
        let count = count.min(num_gpus);
        let gpus: Vec<usize> = (0..count).map(|i| (first + i) % num_gpus).collect();
        if gpus.iter().all(|&gpu| room[gpu].1 > 1) {
            let least = gpus.iter().map(|&gpu| room[gpu].0).fold(f64::INFINITY, f64::min);
            // Halves, quarters and eighths leave no rounding behind.
            let load = (part * least * 8.0).floor() / 8.0;
            gpus.iter().for_each(|&gpu| room[gpu] = (room[gpu].0 - load, room[gpu].1 - 1));
            weights.push(load * count as f64);
            counts.push(count);
        }
    }
    for (load, mut slots) in room {
        while slots > 0 {
            weights.push(if slots == 1 { load } else { 0.0 });
            counts.push(1);
            slots -= 1;
        }
    }
    (weights, counts)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn where_all_gpus_can_be_equal_the_bound_is_the_mean(
        num_gpus in 1..12usize,
        slots in 1..6usize,
        draws in prop::collection::vec(
            (prop_oneof![0.0..1.0f64, 0.45..0.6f64, 0.2..0.3f64], 1..5usize, 0..12usize), 0..60),
    ) {
        let (weights, counts) = perfect_packing(num_gpus, slots, &draws);
        let cluster = Cluster::uniform(num_gpus * slots, 1, num_gpus).expect("cluster");
        let bound = bound_beside_a_bad_placement(&weights, &counts, &cluster);
        prop_assert!((bound - 100.0).abs() < 1e-6, "the optimum is 100, the bound {bound}");
    }
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
