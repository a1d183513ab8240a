//! The choices beside times of every tile on a GPU.

use std::collections::BTreeMap;

use moekit::backend::cuda::heuristics::{ChooseOptions, Cluster, choose};
use moekit::cost::DeviceSpec;
use moekit::gemm::{GemmFormat, GemmKind, GemmShape};
use serde::Deserialize;

const TIMES: &str = include_str!("../golden/gemm_tiles_h200.tsv");

/// Times of a choice over those of the fastest tile: no choice is worse, and the mean of all.
const WORST: f64 = 1.07;
const MEAN: f64 = 1.01;

#[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord, Clone, Debug)]
struct Product {
    layout: String,
    format: String,
    groups: usize,
    m: usize,
    n: usize,
    k: usize,
}

impl Product {
    fn shape(&self) -> GemmShape {
        let (kind, max_m) = match self.layout.as_str() {
            "dense" => (GemmKind::Dense, None),
            "masked" => (GemmKind::Masked, Some(self.m)),
            layout => panic!("no layout: {layout}"),
        };
        let format = match self.format.as_str() {
            "fp8" => GemmFormat::Fp8,
            "bf16" => GemmFormat::Bf16,
            format => panic!("no format: {format}"),
        };
        let shape = GemmShape::new(kind, self.m, self.n, self.k);
        GemmShape { format, num_groups: self.groups, max_m, ..shape }
    }
}

#[derive(Deserialize)]
struct Time {
    #[serde(flatten)]
    product: Product,
    tile: String,
    cluster: String,
    us: f64,
}

/// Times of the tiles, alone and in clusters, by product.
fn times() -> BTreeMap<Product, BTreeMap<(String, String), f64>> {
    let reader = csv::ReaderBuilder::new()
        .delimiter(b'\t')
        .comment(Some(b'#'))
        .from_reader(TIMES.as_bytes());
    let mut all = BTreeMap::<_, BTreeMap<_, _>>::new();
    for time in reader.into_deserialize::<Time>() {
        let Time { product, tile, cluster, us } = time.expect("a row of the table");
        all.entry(product).or_default().insert((tile, cluster), us);
    }
    all
}

#[test]
fn choices_are_close_to_the_fastest_tiles_that_were_measured() {
    let mut ratios = Vec::new();
    for (product, times) in times() {
        let choice = choose(&product.shape(), &DeviceSpec::H200, &ChooseOptions::default());
        let config = choice.expect("a choice").config;
        let cluster = match config.cluster {
            Cluster::Single => "single",
            Cluster::AlongM => "along-m",
            Cluster::AlongN => "along-n",
        };
        let chosen = (config.tile.name(), cluster.to_owned());
        let least = times.values().copied().fold(f64::INFINITY, f64::min);
        let Some(us) = times.get(&chosen) else { panic!("{product:?}: {chosen:?} was not timed") };
        ratios.push((us / least, product, chosen));
    }
    ratios.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mean = ratios.iter().map(|(ratio, ..)| ratio).sum::<f64>() / ratios.len() as f64;
    let worst = &ratios[..5];
    assert!(worst[0].0 <= WORST && mean <= MEAN, "mean {mean}, worst {worst:#?}");
}
