//! How close to the lower bound each policy comes, on fixed random loads.

use moekit::eplb::*;

const NUM_EXPERTS: usize = 256;
const NUM_LAYERS: usize = 6;

/// `(num_gpus, num_physical_experts)` from EP8 to EP320.
const SHAPES: [(usize, usize); 10] = [
    (8, 256),
    (8, 288),
    (16, 288),
    (32, 288),
    (64, 320),
    (72, 288),
    (128, 384),
    (144, 288),
    (160, 320),
    (320, 640),
];

#[derive(Debug, Clone, Copy)]
enum Kind {
    Lognormal(f64),
    Zipf(f64),
}

const KINDS: [Kind; 4] =
    [Kind::Lognormal(0.8), Kind::Lognormal(1.0), Kind::Lognormal(1.2), Kind::Zipf(1.1)];

/// Mean and worst `max / bound - 1` of the layers.
#[derive(Debug, Clone, Copy, Default)]
struct Gap {
    mean: f64,
    worst: f64,
}

#[test]
fn the_optimized_policy_halves_the_gap_for_every_kind_of_load_and_is_never_worse() {
    println!("| GPUs | slots | load | DeepSeek, mean (worst) gap | optimized, mean (worst) gap |");
    println!("| --- | --- | --- | --- | --- |");
    let mut num_compared = 0;
    let mut sums = [[0.0; 2]; KINDS.len()];
    for (num_gpus, num_slots) in SHAPES {
        for (kind, sums) in KINDS.into_iter().zip(&mut sums) {
            let params = RebalanceParams {
                num_physical_experts: num_slots,
                num_expert_groups: 1,
                num_nodes: 1,
                num_gpus,
            };
            let ([reference, own], num_strict) = gaps(kind, &params);
            let percent = |gap: Gap| format!("{:.2} % ({:.2} %)", gap.mean * 1e2, gap.worst * 1e2);
            let (reference_text, own_text) = (percent(reference), percent(own));
            println!("| {num_gpus} | {num_slots} | {kind:?} | {reference_text} | {own_text} |");
            sums[0] += reference.mean;
            sums[1] += own.mean;
            num_compared += num_strict;
        }
    }
    for (kind, sums) in KINDS.into_iter().zip(sums) {
        let [reference, own] = sums.map(|sum| 1e2 * sum / SHAPES.len() as f64);
        println!("{kind:?} on average: {reference:.3} % and {own:.3} %");
        assert!(own <= 0.5 * reference, "{kind:?}: {own} % is above half of {reference} %");
    }
    println!(
        "never worse in {num_compared} layers that DeepSeek's policy places without duplicates"
    );
    assert!(num_compared >= 40, "only {num_compared} layers could be compared");
}

#[test]
fn with_groups_on_nodes_the_optimized_policy_is_better_on_average_and_never_worse() {
    for (num_gpus, num_nodes, num_expert_groups) in
        [(16, 2, 8), (32, 4, 8), (72, 4, 8), (144, 8, 16)]
    {
        for kind in KINDS {
            let params = RebalanceParams {
                num_physical_experts: 288,
                num_expert_groups,
                num_nodes,
                num_gpus,
            };
            let ([reference, own], _) = gaps(kind, &params);
            assert!(
                own.mean <= reference.mean,
                "{kind:?} on {num_gpus} GPUs: {own:?} {reference:?}"
            );
        }
    }
}

/// Returns the gaps of both policies and the number of layers without duplicates in DeepSeek's.
fn gaps(kind: Kind, params: &RebalanceParams) -> ([Gap; 2], usize) {
    let num_gpus = params.num_gpus;
    let load = kind.load(num_gpus as u64 * 1000 + params.num_physical_experts as u64);
    let cluster = params.cluster().expect("cluster");
    let [reference, own] =
        [Policy::DeepSeek, Policy::Optimized(OptimizedOptions::default())].map(|policy| {
            let placement = rebalance_experts(&load, params, &policy).expect("placement");
            Balance::new(&load, &placement, &cluster).expect("balance").layers
        });
    let mut gaps = [Gap::default(); 2];
    let mut num_strict = 0;
    for (layer_idx, (reference, own)) in reference.iter().zip(&own).enumerate() {
        assert_eq!(own.num_duplicates, 0, "{kind:?} on {num_gpus} GPUs, layer {layer_idx}");
        if reference.num_duplicates == 0 {
            num_strict += 1;
            let (own, reference) = (own.max_load, reference.max_load);
            assert!(own <= reference * (1.0 + 1e-9), "{kind:?} on {num_gpus}: {own} {reference}");
        }
        let bound = own.lower_bound.max(reference.lower_bound);
        for (gap, max_load) in gaps.iter_mut().zip([reference.max_load, own.max_load]) {
            gap.mean += (max_load / bound - 1.0) / NUM_LAYERS as f64;
            gap.worst = gap.worst.max(max_load / bound - 1.0);
        }
    }
    (gaps, num_strict)
}

impl Kind {
    fn load(self, seed: u64) -> ExpertLoad {
        let mut random = Random(seed);
        let rows = (0..NUM_LAYERS).map(|_| match self {
            Self::Lognormal(sigma) => {
                (0..NUM_EXPERTS).map(|_| 1000.0 * (sigma * random.normal()).exp()).collect()
            }
            Self::Zipf(exponent) => {
                let mut row: Vec<f64> =
                    (1..=NUM_EXPERTS).map(|i| 1e5 * (i as f64).powf(-exponent)).collect();
                for i in (1..NUM_EXPERTS).rev() {
                    row.swap(i, (random.unit() * (i + 1) as f64) as usize);
                }
                row
            }
        });
        ExpertLoad::new(rows.collect::<Vec<Vec<f64>>>()).expect("load")
    }
}

/// A 64-bit linear congruential generator; the high 53 bits of a state are used.
struct Random(u64);

impl Random {
    fn unit(&mut self) -> f64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }
}
