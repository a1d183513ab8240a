//! Every case on 2, 4 and 8 processes, on one and on several nodes.

use std::process::ExitCode;
use std::time::Duration;

use libtest_mimic::{Failed, Trial};
use moekit::comm::{World, WorldOptions};

use crate::cases;
use crate::launch::{AS_CHOSEN, Nodes, OVER_TCP, launch};

/// A slow machine with all its ranks on two cores stays well below.
const LIMIT: Duration = Duration::from_secs(120);

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for num_ranks in [2, 4, 8] {
        for nodes in Nodes::variants(num_ranks) {
            let name = format!("all_cases_pass::{num_ranks}_ranks::{nodes}_per_node");
            trials.push(Trial::test(name, move || all_cases_pass(num_ranks, nodes, &AS_CHOSEN)));
        }
    }
    let nodes = Nodes(Some(1));
    let name = format!("all_cases_pass::4_ranks::{nodes}_per_node_over_tcp");
    trials.push(Trial::test(name, move || all_cases_pass(4, nodes, &OVER_TCP)));
    trials
}

/// A case that fails ends its world; the ones after it run in a fresh one.
fn all_cases_pass(num_ranks: usize, nodes: Nodes, options: &[&str]) -> Result<(), Failed> {
    let wanted = std::env::var("MOEKIT_WORLD_CASE").unwrap_or_default();
    let mut names: Vec<String> = cases::all().iter().map(|(name, _)| name.to_string()).collect();
    names.retain(|name| name.contains(&wanted));
    let mut failures = String::new();
    while !names.is_empty() {
        let mut args = vec!["rank".into(), "passes".into(), nodes.to_string()];
        args.extend(names.iter().cloned());
        let outcome = launch(num_ranks, options, &args, LIMIT);
        let passed = outcome.stdout.lines().filter_map(|line| line.strip_prefix("passed: "));
        let num_passed = passed.zip(&names).take_while(|(passed, name)| passed == name).count();
        names.drain(..num_passed);
        if outcome.is_success && names.is_empty() {
            break;
        }
        let failed = if names.is_empty() { "the end".into() } else { names.remove(0) };
        let overdue = if outcome.is_overdue { " (killed: it took too long)" } else { "" };
        failures += &format!("{failed} failed{overdue}:\n{}\n", outcome.stderr);
    }
    if failures.is_empty() { Ok(()) } else { Err(failures.into()) }
}

/// One process of a launch.
pub fn rank(ranks_per_node: &str, names: &[&str]) -> ExitCode {
    let ranks_per_node = Nodes::parse(ranks_per_node).0;
    let options = WorldOptions { ranks_per_node, ..WorldOptions::default() };
    let run = || {
        let world = World::mpi(options)?;
        for (name, case) in cases::all().into_iter().filter(|(name, _)| names.contains(name)) {
            case(&world)?;
            world.barrier("next case")?;
            if world.rank_idx() == 0 {
                println!("passed: {name}");
            }
        }
        world.close()
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
