//! `moekit eplb --trace`: what a policy and an interval would have reached.

use std::path::Path;

use moekit::eplb::{
    SimulatedPolicy, Simulation, SimulationParams, load_bar, read_trace, simulate_trace,
    simulation_svg,
};
use moekit::{Error, Result};
use serde_json::json;

use super::args::{EplbArgs, PolicyArg};
use super::report;
use crate::output::{print, write_file};

/// Replays, prints and draws.
pub fn run(args: &EplbArgs, path: &Path) -> Result<()> {
    let trace = read_trace(path)?;
    args.params().check(trace.first().map_or(0, |load| load.num_logical_experts()))?;
    let params = SimulationParams {
        cluster: args.gpus()?,
        num_expert_groups: args.groups,
        policy: policy(args)?,
        options: args.options(),
        interval: args.replay.interval,
        estimator: args.estimator(),
        split_tokens: args.split_tokens,
        expert_bytes: args.moves.expert_bytes,
        links: args.links()?,
        us_per_load: args.moves.us_per_token,
    };
    let simulation = simulate_trace(&trace, &params)?;
    if let Some(path) = &args.svg {
        let policy = match params.policy {
            SimulatedPolicy::Incremental { max_moves } => {
                format!("incremental, at most {max_moves} transfers")
            }
            _ => args.policy.name().to_owned(),
        };
        let caption = format!("{policy}, every {} steps", params.interval);
        write_file(path, &simulation_svg(&simulation, &caption))?;
    }
    if args.json {
        let mut value = json!(simulation);
        value["placement"] = report::maps(&simulation.placement);
        return report::print_json(&value);
    }
    print(|out| write_steps(out, &simulation))
}

fn policy(args: &EplbArgs) -> Result<SimulatedPolicy> {
    Ok(match args.policy {
        PolicyArg::Deepseek => SimulatedPolicy::DeepSeek,
        PolicyArg::Optimized => SimulatedPolicy::Optimized,
        PolicyArg::Fixed => SimulatedPolicy::Fixed,
        PolicyArg::Incremental => SimulatedPolicy::Incremental {
            max_moves: args.moves.max_moves.ok_or_else(|| {
                Error::value("eplb", "max_moves", "a number, for --policy incremental", "none")
            })?,
        },
    })
}

fn write_steps(out: &mut dyn std::io::Write, simulation: &Simulation) -> std::io::Result<()> {
    writeln!(out, "step  max/mean  worst layer      time us  moves       bytes  stall us")?;
    for (i, step) in simulation.steps.iter().enumerate() {
        writeln!(
            out,
            "{i:>4}  {:>8.4}  {:>11.4}  {:>11.1}  {:>5}  {:>10}  {:>8.1}",
            step.mean_max_over_mean,
            step.worst_max_over_mean,
            step.time_us,
            step.num_moves,
            step.moved_bytes,
            step.stall_us,
        )?;
    }
    let excess: Vec<f64> =
        simulation.steps.iter().map(|step| step.mean_max_over_mean - 1.0).collect();
    writeln!(out, "above the mean: {}", load_bar(&excess, 72))?;
    writeln!(
        out,
        "max/mean {:.4} on average, {:.4} at worst; {} transfers, {} bytes, {:.0} us of stall in \
         {:.0} us",
        simulation.mean_max_over_mean,
        simulation.worst_max_over_mean,
        simulation.num_moves,
        simulation.moved_bytes,
        simulation.stall_us,
        simulation.total_us,
    )
}
