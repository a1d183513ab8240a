//! What `moekit eplb` prints.

use std::io::{IsTerminal, Write};

use moekit::Result;
use moekit::eplb::{Balance, HeatMap, Placement, load_bar, load_bar_colored};
use serde_json::{Value, json};

use crate::output::print;

/// Bars in a line of a terminal drawing.
const BAR_WIDTH: usize = 48;

/// The maps of a placement as nested lists.
pub fn maps(placement: &Placement) -> Value {
    let layers = 0..placement.num_layers();
    let experts = 0..placement.num_logical_experts();
    let padded = |layer_idx: usize, e: usize| {
        let mut slots = placement.replicas(layer_idx, e).to_vec();
        slots.resize(placement.max_replicas(), -1);
        slots
    };
    let inverse = |layer_idx| experts.clone().map(|e| padded(layer_idx, e)).collect::<Vec<_>>();
    json!({
        "physical_to_logical_map":
            layers.clone().map(|l| placement.physical_to_logical(l)).collect::<Vec<_>>(),
        "logical_to_physical_map": layers.clone().map(inverse).collect::<Vec<_>>(),
        "logical_count": layers.map(|l| placement.logical_count(l)).collect::<Vec<_>>(),
    })
}

/// Draws the layers' loads before and after, a line each.
pub fn draw(
    out: &mut dyn Write,
    balance: &Balance,
    [before, after]: [&HeatMap; 2],
) -> std::io::Result<()> {
    let colored = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let num_bars =
        after.loads.first().map_or(0, |loads| load_bar(loads, BAR_WIDTH).chars().count());
    let width = num_bars.max("before".len());
    let bar = |loads: &[f64]| {
        let bar = match colored {
            true => load_bar_colored(loads, BAR_WIDTH),
            false => load_bar(loads, BAR_WIDTH),
        };
        format!("{bar}{}", " ".repeat(width - num_bars))
    };
    let ratio = |loads: &[f64], mean: f64| {
        if mean > 0.0 { loads.iter().copied().fold(0.0, f64::max) / mean } else { 1.0 }
    };
    writeln!(out, "before: {}; after: {}", before.caption, after.caption)?;
    let (before_head, after_head) = ("before", "after");
    writeln!(out, "layer  {before_head:width$}  max/mean  {after_head:width$}  max/mean      gap")?;
    let rows = before.loads.iter().zip(&after.loads).zip(&balance.layers).enumerate();
    for (layer_idx, ((before, after), layer)) in rows {
        writeln!(
            out,
            "{layer_idx:>5}  {}  {:>8.3}  {}  {:>8.3}  {:>5.2} %",
            bar(before),
            ratio(before, layer.mean_load),
            bar(after),
            layer.max_over_mean,
            1e2 * layer.gap,
        )?;
    }
    writeln!(
        out,
        "max/mean {:.4} on average, {:.4} in the worst layer; on average at most {:.2} % above the \
         optimum (gap); {} slots repeat an expert of their GPU",
        balance.mean_max_over_mean,
        balance.worst_max_over_mean,
        1e2 * balance.mean_gap,
        balance.num_duplicates,
    )
}

/// Prints one JSON value on a line.
pub fn print_json(value: &Value) -> Result<()> {
    print(|out| writeln!(out, "{value}"))
}

/// The flag that sets an argument of the library.
pub fn flag_of(arg: &'static str) -> &'static str {
    match arg {
        "load" => "--load",
        "trace" => "--trace",
        "num_physical_experts" => "--replicas (num_physical_experts)",
        "num_expert_groups" => "--groups (num_expert_groups)",
        "num_nodes" => "--nodes (num_nodes)",
        "num_gpus" => "--gpus (num_gpus)",
        "policy" => "--policy",
        "gpu_slots" => "--gpu-slots",
        "gpu_speeds" => "--gpu-speeds",
        "failed_gpus" => "--failed-gpus",
        "max_moves" => "--max-moves",
        "target_balance" => "--target-balance",
        "physical_to_logical_map"
        | "logical_to_physical_map"
        | "placement.physical_to_logical_map"
        | "placement.logical_count"
        | "current" => "--current",
        "us_per_token" | "us_per_load" => "--us-per-token",
        "intra_gb_per_s" => "--intra-gb-per-s",
        "inter_gb_per_s" => "--inter-gb-per-s",
        "interval" => "--interval",
        "window" => "--window",
        "decay" => "--decay",
        other => other,
    }
}
