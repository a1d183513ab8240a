//! `moekit moe`: one MoE layer over many ranks.

mod args;
mod model;
mod rank;
mod reference;
mod report;
mod text;

use std::sync::Arc;

use moekit::comm::World;
use moekit::{Error, Result};

pub use args::MoeArgs;
use args::WorldArg;
use model::Model;
use report::Report;

/// Runs the command.
pub fn run(args: &MoeArgs) -> Result<()> {
    args.check()?;
    let report = match args.world {
        WorldArg::Threads => run_threads(args)?,
        WorldArg::Mpi => run_mpi(args)?,
    };
    // Under MPI, the lowest rank reports for all.
    report.map_or(Ok(()), |report| args.output.print(&report, text::text))
}

fn run_threads(args: &MoeArgs) -> Result<Option<Report>> {
    let model = Arc::new(Model::prepare(args)?);
    let shared_args = Arc::new(args.clone());
    let num_ranks = args.ranks.unwrap_or(4);
    let results = World::run_threads(num_ranks, args.world_options(), move |world| {
        let report = rank::run(&shared_args, &model, &world)?;
        world.close()?;
        Ok(report)
    })?;
    first_failure(results)
}

/// The report, or the error of the rank that failed first: the others only say whom they waited for.
fn first_failure(results: Vec<Result<Option<Report>>>) -> Result<Option<Report>> {
    let mut report = None;
    let mut failures = Vec::new();
    for (rank_idx, result) in results.into_iter().enumerate() {
        match result {
            Ok(found) => report = report.or(found),
            Err(error) => failures.push((rank_idx, error)),
        }
    }
    let is_cause = |error: &Error| !matches!(error, Error::Timeout { .. } | Error::PeerDied { .. });
    let cause = failures.iter().position(|(_, error)| is_cause(error)).unwrap_or(0);
    for (idx, (rank_idx, error)) in failures.iter().enumerate() {
        if idx != cause {
            eprintln!("rank {rank_idx}: {error}");
        }
    }
    match failures.into_iter().nth(cause) {
        Some((_, error)) => Err(error),
        None => Ok(report),
    }
}

#[cfg(feature = "mpi")]
fn run_mpi(args: &MoeArgs) -> Result<Option<Report>> {
    let world = World::mpi(args.world_options())?;
    if args.ranks.is_some_and(|ranks| ranks != world.num_ranks()) {
        let expected = format!("{}, which mpirun started", world.num_ranks());
        return Err(Error::value("moekit moe", "--ranks", expected, args.ranks.unwrap_or(0)));
    }
    share_cores(&world)?;
    let model = Model::prepare_together(args, &world)?;
    let report = rank::run(args, &model, &world)?;
    world.close()?;
    Ok(report)
}

/// Gives every process of a machine an equal share of its cores; this thread computes on one of them.
#[cfg(feature = "mpi")]
fn share_cores(world: &World) -> Result<()> {
    let hosts = world.all_gather("moekit moe", rustix::system::uname().nodename().to_bytes())?;
    let num_neighbours = hosts.iter().filter(|host| **host == hosts[world.rank_idx()]).count();
    let num_threads = (crate::output::num_cores() / num_neighbours.max(1)).max(1);
    let threads = rayon::ThreadPoolBuilder::new().num_threads(num_threads).use_current_thread();
    threads.build_global().map_err(|error| Error::Unavailable {
        op: "moekit moe",
        what: "threads",
        reason: error.to_string(),
    })
}

#[cfg(not(feature = "mpi"))]
fn run_mpi(_: &MoeArgs) -> Result<Option<Report>> {
    Err(Error::Unavailable {
        op: "moekit moe",
        what: "MPI",
        reason: "this moekit was built without the feature `mpi`".to_owned(),
    })
}
