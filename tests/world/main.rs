//! Worlds of MPI processes: every world case, and what the survivors of a failure hear.
//!
//! The program starts itself under `mpirun` (from `MOEKIT_MPIRUN`, or the PATH), once per trial.
//! Arguments are libtest's; `MOEKIT_WORLD_CASE` keeps the cases whose name contains it.

mod cases;
#[path = "../common/ep_step.rs"]
mod ep_step;
mod failures;
mod launch;
#[path = "../common/moe_model.rs"]
mod moe_model;
#[path = "../common/mpirun.rs"]
mod mpirun;
mod passes;

use std::process::ExitCode;

use libtest_mimic::Arguments;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["rank", "passes", ranks_per_node, ref names @ ..] => {
            return passes::rank(ranks_per_node, names);
        }
        ["rank", "fails", ranks_per_node, how, at, folder] => {
            return failures::rank(ranks_per_node, how, at, folder.as_ref());
        }
        _ => {}
    }
    let mut arguments = Arguments::from_args();
    if !arguments.list
        && let Err(error) = mpirun::mpirun()
    {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    // Each trial fills the machine with processes.
    arguments.test_threads = Some(1);
    let mut trials = passes::trials();
    trials.extend(failures::trials());
    let conclusion = libtest_mimic::run(&arguments, trials);
    if !arguments.list {
        println!("{} passed, {} failed", conclusion.num_passed, conclusion.num_failed);
    }
    conclusion.exit_code()
}
