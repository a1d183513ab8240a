//! The DeepSeek policy against maps computed by DeepSeek's EPLB; provenance in the data file.

use moekit::eplb::{ExpertLoad, Placement, Policy, RebalanceParams, rebalance_experts};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    readme: Readme,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Readme {
    load: Vec<Vec<f64>>,
    physical_to_logical_map: Vec<Vec<i32>>,
    logical_to_physical_map: Vec<Vec<Vec<i32>>>,
    logical_count: Vec<Vec<i32>>,
}

#[derive(Deserialize)]
struct Case {
    kind: String,
    seed: u64,
    load_fnv1a: String,
    shape: [usize; 6],
    max_replicas: usize,
    p2l_fnv1a: String,
    l2p_fnv1a: String,
    count_fnv1a: String,
    physical_to_logical_map: Option<Vec<Vec<i32>>>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../golden/eplb/deepseek.json")).expect("golden data")
}

#[test]
fn the_published_example_is_reproduced_entry_for_entry() {
    let readme = golden().readme;
    let params = RebalanceParams {
        num_physical_experts: 16,
        num_expert_groups: 4,
        num_nodes: 2,
        num_gpus: 8,
    };
    let load = ExpertLoad::new(readme.load).expect("load");
    let placement = rebalance_experts(&load, &params, &Policy::DeepSeek).expect("placement");
    assert_eq!(placement.physical_to_logical_map(), readme.physical_to_logical_map.concat());
    assert_eq!(placement.logical_count_map(), readme.logical_count.concat());
    assert_eq!(
        placement.logical_to_physical_map(),
        readme.logical_to_physical_map.concat().concat()
    );
}

#[test]
fn every_golden_case_is_reproduced_entry_for_entry() {
    let cases = golden().cases;
    assert!(cases.len() > 150, "the golden file holds the whole grid");
    for case in cases {
        let name = format!("{} {:?} seed {}", case.kind, case.shape, case.seed);
        let placement = case.place();
        if let Some(expected) = &case.physical_to_logical_map {
            for (layer_idx, row) in expected.iter().enumerate() {
                assert_eq!(placement.physical_to_logical(layer_idx), row, "{name}: {layer_idx}");
            }
        }
        assert_eq!(placement.max_replicas(), case.max_replicas, "{name}: max_replicas");
        for (map, values, expected) in [
            ("physical_to_logical_map", placement.physical_to_logical_map(), &case.p2l_fnv1a),
            ("logical_to_physical_map", placement.logical_to_physical_map(), &case.l2p_fnv1a),
            ("logical_count", placement.logical_count_map(), &case.count_fnv1a),
        ] {
            let bytes = values.iter().flat_map(|v| v.to_le_bytes());
            assert_eq!(&fnv1a(bytes), expected, "{name}: {map}");
        }
    }
}

impl Case {
    fn place(&self) -> Placement {
        let [_, _, num_physical_experts, num_expert_groups, num_nodes, num_gpus] = self.shape;
        let load = self.load();
        let bytes = load.layers().flatten().flat_map(|v| v.to_bits().to_le_bytes());
        assert_eq!(fnv1a(bytes), self.load_fnv1a, "seed {}: generated load", self.seed);
        let params =
            RebalanceParams { num_physical_experts, num_expert_groups, num_nodes, num_gpus };
        rebalance_experts(&load, &params, &Policy::DeepSeek).expect("placement")
    }

    fn load(&self) -> ExpertLoad {
        let [num_layers, num_experts, _, num_groups, ..] = self.shape;
        let mut random = SplitMix64(self.seed);
        let group_size = num_experts / num_groups;
        let rows: Vec<Vec<f64>> = (0..num_layers)
            .map(|_| match self.kind.as_str() {
                "ties" => (0..num_experts).map(|_| (random.bits() % 4) as f64).collect(),
                "counts" => (0..num_experts).map(|_| (random.bits() % 5000) as f64).collect(),
                "uniform" => (0..num_experts).map(|_| random.unit() * 100.0).collect(),
                "skewed" => (0..num_experts)
                    .map(|_| {
                        let u2 = random.unit().powi(2);
                        let u4 = u2 * u2;
                        u4 * u4 * 1000.0
                    })
                    .collect(),
                "rotated" => {
                    let base: Vec<f64> = (0..group_size).map(|_| random.unit()).collect();
                    (0..num_groups)
                        .flat_map(|g| (0..group_size).map(move |i| (i + g) % group_size))
                        .map(|i| base[i])
                        .collect()
                }
                kind => panic!("golden file: unknown kind {kind}"),
            })
            .collect();
        ExpertLoad::new(rows).expect("generated load")
    }
}

struct SplitMix64(u64);

impl SplitMix64 {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// 24 random bits in `[0, 1)`.
    fn unit(&mut self) -> f64 {
        (self.bits() >> 40) as f64 / f64::from(1 << 24)
    }
}

fn fnv1a(bytes: impl Iterator<Item = u8>) -> String {
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}
