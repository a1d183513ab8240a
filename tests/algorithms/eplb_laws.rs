//! Laws that hold for any load and any cluster.

#![allow(clippy::needless_range_loop)] // indices name layers and GPUs

use moekit::eplb::*;
use proptest::prelude::*;

/// A load on a cluster that can hold it.
#[derive(Debug, Clone)]
pub struct Case {
    pub load: ExpertLoad,
    pub cluster: Cluster,
    num_expert_groups: usize,
    allow_duplicates: bool,
}

impl Case {
    fn options(&self) -> OptimizedOptions {
        let allow_duplicates = self.allow_duplicates;
        OptimizedOptions { allow_duplicates, ..OptimizedOptions::default() }
    }

    pub fn place(&self) -> Placement {
        place_on_cluster(&self.load, &self.cluster, self.num_expert_groups, &self.options())
            .expect("a case should be placeable")
    }

    pub fn max_loads(&self, placement: &Placement) -> Vec<f64> {
        let balance = Balance::new(&self.load, placement, &self.cluster).expect("same extents");
        balance.layers.iter().map(|layer| layer.max_load).collect()
    }
}

fn loads(num_experts: usize) -> impl Strategy<Value = ExpertLoad> {
    let value = prop_oneof![
        Just(0.0),
        (0u32..50).prop_map(f64::from),
        (-3.0..3.0f64).prop_map(|x| 100.0 * x.exp()),
    ];
    let row = prop::collection::vec(value, num_experts);
    prop::collection::vec(row, 1..4).prop_map(|rows| ExpertLoad::new(rows).expect("valid load"))
}

pub fn cases() -> impl Strategy<Value = Case> {
    let gpu = (1..8usize, prop_oneof![3 => Just(1.0), 1 => 0.25..4.0], prop::bool::weighted(0.1));
    let gpus = prop::collection::vec(gpu, 1..12);
    (1..24usize, gpus, 1..4usize, any::<bool>(), any::<bool>()).prop_flat_map(
        |(num_experts, gpus, num_nodes, uniform, allow_duplicates)| {
            let num_nodes = num_nodes.min(gpus.len());
            let cluster = cluster(num_experts, gpus, num_nodes, uniform);
            let groups = prop_oneof![Just(1), 1..=num_experts];
            (loads(num_experts), groups).prop_filter_map(
                "whole groups fit on the nodes",
                move |(load, num_expert_groups)| {
                    let cluster = cluster.clone();
                    let case = Case { load, cluster, num_expert_groups, allow_duplicates };
                    let options = case.options();
                    let placed =
                        place_on_cluster(&case.load, &case.cluster, num_expert_groups, &options);
                    placed.is_ok().then_some(case)
                },
            )
        },
    )
}

/// Builds GPUs that together can hold every expert.
fn cluster(
    num_experts: usize,
    gpus: Vec<(usize, f64, bool)>,
    num_nodes: usize,
    uniform: bool,
) -> Cluster {
    let num_gpus = gpus.len();
    let mut gpus: Vec<Gpu> = gpus
        .into_iter()
        .enumerate()
        .map(|(i, (num_slots, speed, failed))| Gpu {
            node_idx: i * num_nodes / num_gpus,
            num_slots,
            speed: if uniform { 1.0 } else { speed },
            failed: failed && i > 0 && !uniform,
        })
        .collect();
    if uniform {
        let num_slots = gpus[0].num_slots.max(num_experts.div_ceil(num_gpus));
        gpus.iter_mut().for_each(|gpu| gpu.num_slots = num_slots);
    }
    let usable: usize = gpus.iter().filter(|gpu| !gpu.failed).map(|gpu| gpu.num_slots).sum();
    gpus[0].num_slots += num_experts.saturating_sub(usable);
    Cluster::new(gpus).expect("a valid cluster")
}

/// Every expert is placed, every working slot is filled unless its whole node is empty, no failed
/// one is, and the maps agree.
fn assert_whole(placement: &Placement, cluster: &Cluster) {
    for layer_idx in 0..placement.num_layers() {
        let row = placement.physical_to_logical(layer_idx);
        for gpu in 0..cluster.num_gpus() {
            let Gpu { failed, node_idx, .. } = cluster.gpus()[gpu];
            let empty_node = (0..cluster.num_gpus())
                .filter(|&other| cluster.gpus()[other].node_idx == node_idx)
                .all(|other| row[cluster.slots_of(other)].iter().all(|&e| e < 0));
            for slot in cluster.slots_of(gpu) {
                let empty = failed || empty_node;
                assert_eq!(row[slot] < 0, empty, "layer {layer_idx} GPU {gpu} slot {slot}");
            }
        }
        let mut seen = vec![false; row.len()];
        for e in 0..placement.num_logical_experts() {
            let slots = placement.replicas(layer_idx, e);
            assert!(!slots.is_empty(), "layer {layer_idx}: expert {e} is placed");
            for &slot in slots {
                assert_eq!(row[slot as usize], e as i32, "layer {layer_idx} slot {slot}");
                assert!(!std::mem::replace(&mut seen[slot as usize], true), "slot {slot} twice");
            }
        }
        assert!(seen.iter().zip(row).all(|(&seen, &e)| seen == (e >= 0)), "layer {layer_idx}");
    }
}

/// Counts slots that repeat an expert of their GPU although its replicas number at most the GPUs
/// that it may use, and the GPU has no more slots than experts that it may hold.
fn num_avoidable_duplicates(case: &Case, placement: &Placement) -> usize {
    let cluster = &case.cluster;
    let num_nodes = cluster.num_nodes();
    let on_nodes = num_nodes > 1 && case.num_expert_groups.is_multiple_of(num_nodes);
    let mut num = 0;
    for layer_idx in 0..placement.num_layers() {
        let row = placement.physical_to_logical(layer_idx);
        for gpu in cluster.usable_gpus() {
            let usable = cluster.usable_gpus().filter(|&other| {
                !on_nodes || cluster.gpus()[other].node_idx == cluster.gpus()[gpu].node_idx
            });
            let usable: Vec<usize> = usable.collect();
            let held = &row[cluster.slots_of(gpu)];
            let mut holdable: Vec<i32> =
                usable.iter().flat_map(|&other| row[cluster.slots_of(other)].to_vec()).collect();
            holdable.sort_unstable();
            holdable.dedup();
            if held.len() > holdable.len() {
                continue;
            }
            for (i, &e) in held.iter().enumerate().filter(|(_, e)| **e >= 0) {
                let count = placement.logical_count(layer_idx)[e as usize] as usize;
                num += usize::from(held[..i].contains(&e) && count <= usable.len());
            }
        }
    }
    num
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn every_expert_is_placed_and_every_bound_holds(case in cases()) {
        let placement = case.place();
        assert_whole(&placement, &case.cluster);
        if !case.allow_duplicates {
            prop_assert_eq!(num_avoidable_duplicates(&case, &placement), 0);
        }
        let balance =
            Balance::new(&case.load, &placement, &case.cluster).expect("same extents");
        for layer in &balance.layers {
            prop_assert!(layer.lower_bound <= layer.max_load, "{:?}", layer);
            prop_assert!(layer.max_over_mean >= 1.0 - 1e-9, "{:?}", layer);
            prop_assert!(layer.gap >= 0.0, "{:?}", layer);
        }
    }

    #[test]
    fn the_optimized_policy_is_never_worse_than_a_reference_without_duplicates(
        load in (1..40usize).prop_flat_map(loads),
        num_gpus in 1..9usize,
        extra in 0..12usize,
    ) {
        let num_slots = (load.num_logical_experts() + extra).div_ceil(num_gpus) * num_gpus;
        let params = RebalanceParams {
            num_physical_experts: num_slots,
            num_expert_groups: 1,
            num_nodes: 1,
            num_gpus,
        };
        let cluster = params.cluster().expect("cluster");
        let balance = |policy| {
            let placement = rebalance_experts(&load, &params, &policy).expect("placement");
            assert_whole(&placement, &cluster);
            Balance::new(&load, &placement, &cluster).expect("same extents")
        };
        let reference = balance(Policy::DeepSeek);
        let own = balance(Policy::Optimized(OptimizedOptions::default()));
        for (own, reference) in own.layers.iter().zip(&reference.layers) {
            if reference.num_duplicates == 0 {
                prop_assert!(own.max_load <= reference.max_load * (1.0 + 1e-9));
            }
        }
    }

    #[test]
    fn groups_stay_on_one_node(load in loads(24), num_nodes in 1..4usize, k in 1..3usize) {
        let num_expert_groups = num_nodes * k;
        let cluster = Cluster::uniform(36, num_nodes, 6).expect("cluster");
        let options = OptimizedOptions::default();
        let placed = place_on_cluster(&load, &cluster, num_expert_groups, &options);
        let placement = placed.expect("whole groups fit");
        for layer_idx in 0..load.num_layers() {
            let mut node_of = vec![None; num_expert_groups];
            for gpu in 0..6 {
                for &e in &placement.physical_to_logical(layer_idx)[cluster.slots_of(gpu)] {
                    let group = e as usize * num_expert_groups / 24;
                    let node = cluster.gpus()[gpu].node_idx;
                    prop_assert_eq!(*node_of[group].get_or_insert(node), node);
                }
            }
        }
    }

    #[test]
    fn incremental_keeps_its_budget_and_never_gets_worse(
        case in cases(),
        seed in loads(24),
        max_moves in 0..10usize,
    ) {
        // The current placement was made for another load.
        let num_experts = case.load.num_logical_experts();
        let rows = (0..case.load.num_layers()).map(|l| {
            seed.layer(l % seed.num_layers()).iter().take(num_experts).copied()
        });
        let old = Case { load: ExpertLoad::new(rows).expect("load"), ..case.clone() };
        let current = old.place();
        let params = |goal| IncrementalParams {
            goal,
            num_expert_groups: case.num_expert_groups,
            options: case.options(),
        };
        let run = |goal| {
            let next =
                rebalance_incremental(&case.load, &current, &case.cluster, &params(goal));
            let next = next.expect("no GPU failed");
            assert_whole(&next, &case.cluster);
            let plan = plan_migration(&current, &next, &case.cluster, 7).expect("plan");
            assert_plan(&plan, &current, &next, &case.cluster);
            (plan.num_transfers, case.max_loads(&next), next)
        };
        let start = case.max_loads(&current);
        let (num_moves, reached, next) = run(Goal::AtMostMoves(max_moves));
        prop_assert!(num_moves <= max_moves, "{num_moves} moves of {max_moves}");
        for (reached, start) in reached.iter().zip(&start) {
            prop_assert!(*reached <= start * (1.0 + 1e-9), "{reached} from {start}");
        }
        if max_moves == 0 {
            prop_assert_eq!(&next, &current);
        }
        let (_, lower, _) = run(Goal::AtMostMoves(max_moves + 4));
        prop_assert!(lower.iter().sum::<f64>() <= reached.iter().sum::<f64>() * (1.0 + 1e-9));

        // Asking for what is already reached takes no move.
        let balance = Balance::new(&case.load, &current, &case.cluster).expect("same extents");
        let (num_moves, ..) = run(Goal::ReachBalance(balance.worst_max_over_mean.max(1.0)));
        prop_assert_eq!(num_moves, 0);
        run(Goal::ReachBalance(1.0));
    }

    #[test]
    fn a_failed_gpu_loses_nothing_but_its_slots(case in cases(), victim in 0..12usize) {
        let current = case.place();
        let Ok(cluster) = case.cluster.clone().with_failed(&[victim % case.cluster.num_gpus()])
        else {
            return Ok(());
        };
        let params = IncrementalParams {
            goal: Goal::AtMostMoves(usize::MAX),
            num_expert_groups: case.num_expert_groups,
            options: case.options(),
        };
        if let Ok(next) = rebalance_incremental(&case.load, &current, &cluster, &params) {
            let before = plan_migration(&current, &next, &cluster, 1).expect("plan");
            assert_plan(&before, &current, &next, &cluster);
            assert_whole(&next, &cluster);
        }
    }
}

/// No link twice in a round, every source holds what it sends, every arrival comes once.
fn assert_plan(plan: &MigrationPlan, current: &Placement, next: &Placement, cluster: &Cluster) {
    let holds = |placement: &Placement, layer_idx: usize, gpu: usize, e: usize| {
        placement.physical_to_logical(layer_idx)[cluster.slots_of(gpu)].contains(&(e as i32))
    };
    let mut arrivals = std::collections::HashSet::new();
    let mut busiest = std::collections::HashMap::new();
    for (round_idx, round) in plan.rounds.iter().enumerate() {
        let mut senders = std::collections::HashSet::new();
        let mut receivers = std::collections::HashSet::new();
        for transfer in round {
            let Transfer { layer_idx, expert_idx, src_gpu, dst_gpu, dst_slot } = *transfer;
            assert!(receivers.insert(dst_gpu), "round {round_idx}: GPU {dst_gpu} receives twice");
            *busiest.entry((1, dst_gpu)).or_insert(0) += 1;
            if let Some(src) = src_gpu {
                assert!(senders.insert(src), "round {round_idx}: GPU {src} sends twice");
                *busiest.entry((0, src)).or_insert(0) += 1;
                assert!(holds(current, layer_idx, src, expert_idx), "{transfer:?}: source");
                assert!(!cluster.gpus()[src].failed, "{transfer:?}: the source failed");
            } else {
                let held = cluster.usable_gpus().any(|g| holds(current, layer_idx, g, expert_idx));
                assert!(!held, "{transfer:?}: a GPU could send this");
            }
            assert!(!holds(current, layer_idx, dst_gpu, expert_idx), "{transfer:?}: there already");
            assert_eq!(next.physical_to_logical(layer_idx)[dst_slot], expert_idx as i32);
            assert!(cluster.slots_of(dst_gpu).contains(&dst_slot), "{transfer:?}: slot");
            assert!(arrivals.insert((layer_idx, expert_idx, dst_gpu)), "{transfer:?}: twice");
        }
    }
    assert_eq!(plan.num_transfers, arrivals.len());
    assert_eq!(plan.total_bytes, plan.expert_bytes * arrivals.len() as u64);
    assert_eq!(plan.rounds.len(), busiest.values().copied().max().unwrap_or(0), "fewest rounds");
    for layer_idx in 0..next.num_layers() {
        for gpu in cluster.usable_gpus() {
            for &e in &next.physical_to_logical(layer_idx)[cluster.slots_of(gpu)] {
                let e = e as usize;
                let there = holds(current, layer_idx, gpu, e);
                assert!(there || arrivals.contains(&(layer_idx, e, gpu)), "{layer_idx} {gpu} {e}");
            }
        }
    }
}
