//! `moekit eplb --load`: one placement, from scratch or from the one in use.

use moekit::eplb::{
    Balance, Cluster, ExpertLoad, Goal, Gpu, HeatMap, IncrementalParams, MigrationPlan, Placement,
    Policy, TokenSplit, break_even_steps, gpu_loads, heat_maps_svg, place_on_cluster,
    plan_migration, read_load, read_placement, rebalance_experts, rebalance_incremental,
    split_tokens,
};
use moekit::{Error, Result};
use serde_json::{Value, json};

use super::args::{EplbArgs, PolicyArg};
use super::report;
use crate::output::{print, write_file};

/// Places, prints and draws.
pub fn run(args: &EplbArgs) -> Result<()> {
    let path = args.load.as_deref().expect("clap should require --load without --trace");
    let load = read_load(path)?;
    args.params().check(load.num_logical_experts())?;
    let cluster = args.gpus()?;
    let current = args
        .moves
        .current
        .as_deref()
        .map(|path| read_placement(path, load.num_logical_experts()))
        .transpose()?;
    let placement = place(args, &load, &cluster, current.as_ref())?;
    let balance = Balance::new(&load, &placement, &cluster)?;
    let split = args.split_tokens.then(|| split_tokens(&load, &placement, &cluster)).transpose()?;
    let migration = current
        .as_ref()
        .map(|current| Migration::new(args, &load, current, &placement, &cluster, &balance))
        .transpose()?;
    let mean_loads: Vec<f64> = balance.layers.iter().map(|layer| layer.mean_load).collect();
    let map = |caption: &str, loads: Vec<Vec<f64>>| HeatMap {
        caption: caption.to_owned(),
        loads,
        mean_loads: mean_loads.clone(),
    };
    // A placement with experts on failed GPUs cannot run.
    let in_use = current.and_then(|current| gpu_times(&load, &current, &cluster).ok());
    let before = match in_use {
        Some(times) => map("the placement in use", times),
        None => map("experts in order, no replicas", unbalanced(&load, &cluster)),
    };
    let after = map(&args.target(), gpu_times(&load, &placement, &cluster)?);
    if let Some(path) = &args.svg {
        let titled = |when: &str, map: &HeatMap| HeatMap {
            caption: format!("Load per GPU {when}: {}", map.caption),
            ..map.clone()
        };
        let maps = [titled("before", &before), titled("after", &after)];
        write_file(path, &heat_maps_svg(&maps))?;
    }
    if args.json {
        return report::print_json(&as_json(&placement, &balance, split.as_ref(), &migration));
    }
    print(|out| {
        report::draw(out, &balance, [&before, &after])?;
        if let Some(split) = &split {
            let split_max: f64 = (0..split.num_layers()).map(|l| split.max_load(l)).sum();
            let even_max: f64 = balance.layers.iter().map(|layer| layer.max_load).sum();
            writeln!(out, "token split: maxima sum to {split_max:.1}, {even_max:.1} if even")?;
        }
        migration.iter().try_for_each(|migration| migration.print(out))
    })
}

fn place(
    args: &EplbArgs,
    load: &ExpertLoad,
    cluster: &Cluster,
    current: Option<&Placement>,
) -> Result<Placement> {
    let goal = match (args.moves.target_balance, args.moves.max_moves) {
        (Some(target), _) => Some(Goal::ReachBalance(target)),
        (_, Some(max_moves)) => Some(Goal::AtMostMoves(max_moves)),
        _ => None,
    };
    match (current, goal, args.policy) {
        (_, _, PolicyArg::Fixed | PolicyArg::Incremental) => {
            let expected = "deepseek or optimized; fixed and incremental are for --trace";
            Err(Error::value("eplb", "policy", expected, args.policy.name()))
        }
        (None, Some(_), _) => {
            Err(Error::value("eplb", "current", "a file, as moves are limited", "none"))
        }
        (Some(current), Some(goal), _) => {
            let params =
                IncrementalParams { goal, num_expert_groups: args.groups, options: args.options() };
            rebalance_incremental(load, current, cluster, &params)
        }
        (_, None, PolicyArg::Deepseek) if args.gpus_differ() => {
            let expected = "optimized where GPUs differ or have failed";
            Err(Error::value("eplb", "policy", expected, "deepseek"))
        }
        (_, None, PolicyArg::Deepseek) => {
            rebalance_experts(load, &args.params(), &Policy::DeepSeek)
        }
        (_, None, PolicyArg::Optimized) => {
            place_on_cluster(load, cluster, args.groups, &args.options())
        }
    }
}

/// The way from the placement in use to the new one.
struct Migration {
    plan: MigrationPlan,
    time_us: f64,
    break_even_steps: Option<f64>,
}

impl Migration {
    fn new(
        args: &EplbArgs,
        load: &ExpertLoad,
        current: &Placement,
        next: &Placement,
        cluster: &Cluster,
        after: &Balance,
    ) -> Result<Self> {
        let plan = plan_migration(current, next, cluster, args.moves.expert_bytes)?;
        let time_us = plan.time_us(cluster, &args.links()?);
        // A placement with experts on failed GPUs cannot run: there is nothing to compare with.
        let before = Balance::new(load, current, cluster).ok();
        let break_even_steps = before
            .and_then(|before| break_even_steps(&before, after, args.moves.us_per_token, time_us));
        Ok(Self { plan, time_us, break_even_steps })
    }

    fn as_json(&self) -> Value {
        json!({
            "plan": self.plan,
            "time_us": self.time_us,
            "break_even_steps": self.break_even_steps,
        })
    }

    fn print(&self, out: &mut dyn std::io::Write) -> std::io::Result<()> {
        let MigrationPlan { rounds, num_transfers, total_bytes, .. } = &self.plan;
        writeln!(
            out,
            "migration: {num_transfers} transfers, {total_bytes} bytes, rounds: {}, {:.0} us; {}",
            rounds.len(),
            self.time_us,
            match self.break_even_steps {
                Some(steps) => format!("won back after {:.0} steps", steps.ceil()),
                None => "no step becomes faster".to_owned(),
            }
        )?;
        for (round_idx, round) in rounds.iter().enumerate() {
            for transfer in round {
                let source = match transfer.src_gpu {
                    Some(gpu) => format!("GPU {gpu}"),
                    None => "storage".to_owned(),
                };
                writeln!(
                    out,
                    "  round {round_idx}: layer {} expert {}: {source} -> GPU {} slot {}",
                    transfer.layer_idx, transfer.expert_idx, transfer.dst_gpu, transfer.dst_slot
                )?;
            }
        }
        Ok(())
    }
}

fn as_json(
    placement: &Placement,
    balance: &Balance,
    split: Option<&TokenSplit>,
    migration: &Option<Migration>,
) -> Value {
    let mut value = report::maps(placement);
    value["balance"] = json!(balance);
    if let Some(split) = split {
        let experts = 0..placement.num_logical_experts();
        let layer = |l| experts.clone().map(|e| split.fractions(l, e)).collect::<Vec<_>>();
        let layers = 0..split.num_layers();
        value["token_split"] = json!({
            "fractions": layers.clone().map(layer).collect::<Vec<_>>(),
            "max_load": layers.map(|l| split.max_load(l)).collect::<Vec<_>>(),
        });
    }
    if let Some(migration) = migration {
        value["migration"] = migration.as_json();
    }
    value
}

/// Every GPU's load by its speed; NaN for failed GPUs.
fn gpu_times(load: &ExpertLoad, placement: &Placement, cluster: &Cluster) -> Result<Vec<Vec<f64>>> {
    Ok(gpu_loads(load, placement, cluster)?.iter().map(|row| times(row, cluster)).collect())
}

/// Every GPU's time if the experts were spread over the working GPUs in order, each once.
fn unbalanced(load: &ExpertLoad, cluster: &Cluster) -> Vec<Vec<f64>> {
    let usable: Vec<usize> = cluster.usable_gpus().collect();
    let row = |weights: &[f32]| {
        let mut loads = vec![0.0; cluster.num_gpus()];
        for (e, &weight) in weights.iter().enumerate() {
            loads[usable[e * usable.len() / weights.len()]] += f64::from(weight);
        }
        times(&loads, cluster)
    };
    load.layers().map(row).collect()
}

fn times(loads: &[f64], cluster: &Cluster) -> Vec<f64> {
    let time = |(load, gpu): (&f64, &Gpu)| if gpu.failed { f64::NAN } else { load / gpu.speed };
    loads.iter().zip(cluster.gpus()).map(time).collect()
}
