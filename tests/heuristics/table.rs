//! The choices for the models' shapes, as a checked-in table.
//!
//! `MOEKIT_BLESS=1 cargo test --test heuristics` writes it anew.

use std::fmt::Write;
use std::path::Path;

use moekit::backend::cuda::heuristics::{ChooseOptions, Cluster, GemmConfig, choose};
use moekit::cost::DeviceSpec;
use moekit::gemm::{GemmFormat, GemmKind, GemmShape};
use moekit::num::ceil_div;

const TABLE: &str = include_str!("../golden/gemm_choices.txt");
const PATH: &str = "tests/golden/gemm_choices.txt";

struct Model {
    name: &'static str,
    hidden: usize,
    width: usize,
    num_experts: usize,
    num_topk: usize,
}

const fn model(
    name: &'static str,
    [hidden, width]: [usize; 2],
    [num_experts, num_topk]: [usize; 2],
) -> Model {
    Model { name, hidden, width, num_experts, num_topk }
}

const MODELS: [Model; 6] = [
    model("DeepSeek-V3", [7168, 2048], [256, 8]),
    model("V4-Flash", [4096, 2048], [256, 6]),
    model("V4-Pro", [7168, 3072], [384, 6]),
    model("Kimi-K2", [7168, 2048], [384, 8]),
    model("Qwen3.5", [4096, 1024], [512, 10]),
    model("gpt-oss", [2880, 2880], [128, 4]),
];

/// Ranks that share the experts; each brings M tokens.
const NUM_RANKS: usize = 8;

const LAYOUTS: [(&str, GemmKind, GemmFormat); 6] = [
    ("fp8 dense", GemmKind::Dense, GemmFormat::Fp8),
    ("fp8 contiguous", GemmKind::Contiguous, GemmFormat::Fp8),
    ("fp8 masked", GemmKind::Masked, GemmFormat::Fp8),
    ("fp8 k-grouped", GemmKind::KGrouped, GemmFormat::Fp8),
    ("bf16 dense", GemmKind::Dense, GemmFormat::Bf16),
    ("bf16 masked", GemmKind::Masked, GemmFormat::Bf16),
];

/// The shape of a product of a model with `m` tokens on each rank.
fn shape(
    model: &Model,
    kind: GemmKind,
    format: GemmFormat,
    m: usize,
    [n, k]: [usize; 2],
) -> GemmShape {
    let num_local_experts = model.num_experts / NUM_RANKS;
    let rows = ceil_div(m * model.num_topk, num_local_experts);
    let shape = match kind {
        GemmKind::Dense => GemmShape::new(kind, m, n, k),
        GemmKind::Contiguous | GemmKind::Masked => {
            GemmShape { num_groups: num_local_experts, ..GemmShape::new(kind, rows, n, k) }
        }
        // Gradients of the weights: their K are the expert's rows.
        GemmKind::KGrouped => {
            let rows = rows.next_multiple_of(128);
            GemmShape { num_groups: num_local_experts, ..GemmShape::new(kind, n, k, rows) }
        }
    };
    GemmShape { format, ..shape }
}

fn describe(config: &GemmConfig) -> String {
    let tile = &config.tile;
    let swap = if tile.swap_ab { " swapped" } else { "" };
    let cluster = match config.cluster {
        Cluster::Single => "",
        Cluster::AlongM => " pairs-m",
        Cluster::AlongN => " pairs-n",
    };
    format!("{}x{}{swap}{cluster} stages {}", tile.block_m, tile.block_n, config.num_stages)
}

/// One line for every run of M, in powers of two from 1 to 16384, with one choice.
fn table() -> String {
    let mut text = String::from(
        "# Choices on an H800 at M = 1, 2, 4, .. 16384 tokens a rank, 8 ranks.\n\
         # Written by: MOEKIT_BLESS=1 cargo test --test heuristics\n",
    );
    let options = ChooseOptions::default();
    for model in &MODELS {
        let products =
            [("gate-up", [2 * model.width, model.hidden]), ("down", [model.hidden, model.width])];
        for (product, nk) in products {
            for (layout, kind, format) in LAYOUTS {
                let mut runs: Vec<(usize, usize, String)> = Vec::new();
                for m in (0..15).map(|log| 1 << log) {
                    let shape = shape(model, kind, format, m, nk);
                    let choice = choose(&shape, &DeviceSpec::H800, &options).expect("a choice");
                    let choice = describe(&choice.config);
                    match runs.last_mut() {
                        Some((_, last, text)) if *text == choice => *last = m,
                        _ => runs.push((m, m, choice)),
                    }
                }
                for (first, last, choice) in runs {
                    let range =
                        if first == last { format!("{first}") } else { format!("{first}-{last}") };
                    let _ = writeln!(
                        text,
                        "{:<12} {product:<8} {layout:<15} {range:<11} {choice}",
                        model.name
                    );
                }
            }
        }
    }
    text
}

#[test]
fn the_choices_for_the_models_are_those_of_the_table() {
    let table = table();
    if std::env::var_os("MOEKIT_BLESS").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PATH);
        return std::fs::write(path, table).expect("the table can be written");
    }
    for (line_idx, (got, want)) in table.lines().zip(TABLE.lines()).enumerate() {
        assert_eq!(got, want, "{PATH}:{}; see the table's head", line_idx + 1);
    }
    assert_eq!(table.lines().count(), TABLE.lines().count(), "lines of {PATH}");
}
