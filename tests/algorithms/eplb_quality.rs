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
fn the_optimized_policy_halves_the_gap_on_average_and_is_never_worse() {
    println!("| GPUs | slots | load | DeepSeek, mean (worst) gap | optimized, mean (worst) gap |");
    println!("| --- | --- | --- | --- | --- |");
    let mut sums = [0.0; 2];
    for (num_gpus, num_slots) in SHAPES {
        for kind in KINDS {
            let [reference, own] = gaps(kind, num_gpus, num_slots);
            let percent = |gap: Gap| format!("{:.2} % ({:.2} %)", gap.mean * 1e2, gap.worst * 1e2);
            let (reference_text, own_text) = (percent(reference), percent(own));
            println!("| {num_gpus} | {num_slots} | {kind:?} | {reference_text} | {own_text} |");
            sums[0] += reference.mean;
            sums[1] += own.mean;
        }
    }
    let [reference, own] = sums.map(|sum| 1e2 * sum / (SHAPES.len() * KINDS.len()) as f64);
    println!("average: {reference:.3} % and {own:.3} %");
    assert!(own <= 0.5 * reference, "average gap {own} % is above half of {reference} %");
}

fn gaps(kind: Kind, num_gpus: usize, num_slots: usize) -> [Gap; 2] {
    let load = kind.load(num_gpus as u64 * 1000 + num_slots as u64);
    let params = RebalanceParams {
        num_physical_experts: num_slots,
        num_expert_groups: 1,
        num_nodes: 1,
        num_gpus,
    };
    let cluster = params.cluster().expect("cluster");
    let [reference, own] =
        [Policy::DeepSeek, Policy::Optimized(OptimizedOptions::default())].map(|policy| {
            let placement = rebalance_experts(&load, &params, &policy).expect("placement");
            Balance::new(&load, &placement, &cluster).expect("balance").layers
        });
    let mut gaps = [Gap::default(); 2];
    for (layer_idx, (reference, own)) in reference.iter().zip(&own).enumerate() {
        assert_eq!(own.num_duplicates, 0, "{kind:?} on {num_gpus} GPUs, layer {layer_idx}");
        if reference.num_duplicates == 0 {
            let (own, reference) = (own.max_load, reference.max_load);
            assert!(own <= reference * (1.0 + 1e-9), "{kind:?} on {num_gpus}: {own} {reference}");
        }
        let bound = own.lower_bound.max(reference.lower_bound);
        for (gap, max_load) in gaps.iter_mut().zip([reference.max_load, own.max_load]) {
            gap.mean += (max_load / bound - 1.0) / NUM_LAYERS as f64;
            gap.worst = gap.worst.max(max_load / bound - 1.0);
        }
    }
    gaps
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
