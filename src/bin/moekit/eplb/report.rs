//! What `moekit eplb` prints.

use std::io::{IsTerminal, Write};
use std::path::Path;

use moekit::eplb::{Balance, Placement, load_bar, load_bar_colored};
use moekit::{Error, Result};
use serde_json::{Value, json};

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
    out: &mut impl Write,
    balance: &Balance,
    [before, after]: [&[Vec<f64>]; 2],
) -> std::io::Result<()> {
    let colored = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let bar = |loads: &[f64]| {
        if colored { load_bar_colored(loads, BAR_WIDTH) } else { load_bar(loads, BAR_WIDTH) }
    };
    let ratio = |loads: &[f64]| {
        let mean = loads.iter().sum::<f64>() / loads.len() as f64;
        if mean > 0.0 { loads.iter().copied().fold(0.0, f64::max) / mean } else { 1.0 }
    };
    writeln!(out, "layer  before (max/mean)  after (max/mean, gap to the lower bound)")?;
    let rows = before.iter().zip(after).zip(&balance.layers).enumerate();
    for (layer_idx, ((before, after), layer)) in rows {
        writeln!(
            out,
            "{layer_idx:>5}  {} {:.3}  {} {:.3}  {:.2} %",
            bar(before),
            ratio(before),
            bar(after),
            layer.max_over_mean,
            1e2 * layer.gap,
        )?;
    }
    writeln!(
        out,
        "max/mean {:.4} on average, {:.4} in the worst layer; on average at most {:.2} % above the \
         optimum; {} slots repeat an expert of their GPU",
        balance.mean_max_over_mean,
        balance.worst_max_over_mean,
        1e2 * balance.mean_gap,
        balance.num_duplicates,
    )
}

/// Writes to standard output; a reader that left early is no error.
pub fn print(write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<()> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    match write(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::io("eplb", "<standard output>", error))
        }
        _ => Ok(()),
    }
}

/// Prints one JSON value on a line.
pub fn print_json(value: &Value) -> Result<()> {
    print(|out| writeln!(out, "{value}"))
}

/// Writes a picture.
pub fn write_svg(path: &Path, picture: &str) -> Result<()> {
    std::fs::write(path, picture).map_err(|error| Error::io("eplb", path, error))
}

/// Names the flag where an error names the library's argument.
pub fn with_flag(error: Error) -> Error {
    match error {
        Error::Value { op, arg, expected, got } => {
            Error::Value { op, arg: flag_of(arg), expected, got }
        }
        Error::Shape { op, arg, expected, got } => {
            Error::Shape { op, arg: flag_of(arg), expected, got }
        }
        other => other,
    }
}

fn flag_of(arg: &'static str) -> &'static str {
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
