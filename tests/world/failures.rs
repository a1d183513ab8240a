//! A process fails; each survivor must name it, and say so in a file before it ends.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};
use moekit::comm::{SymmetricBuffer, World, WorldOptions};
use moekit::{Error, Result};
use rustix::process::{Signal, getpid, kill_process};

use crate::ep_step::{HALVES, Step};
use crate::launch::{
    AS_CHOSEN, MAY_LOSE_RANKS, Nodes, OVER_TCP, TELLS_OF_DEATHS, can_tell_of_deaths, launch,
};

/// The rank that fails.
const CULPRIT: usize = 1;
/// Long enough for all ranks of a busy machine to get to the step, short enough for a test.
const TIMEOUT: Duration = Duration::from_millis(2000);
const LIMIT: Duration = Duration::from_secs(60);

/// How the culprit fails.
const HOWS: [&str; 5] = ["killed", "exits", "drops_its_world", "panics", "hangs"];
/// The step at which it does, besides the halves of dispatch and combine.
const STEPS: [&str; 6] = ["barrier", "all_gather", "alloc", "signal", "ring", "close"];

/// How messages travel.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Link {
    /// As mpirun chooses on one machine; a death on another node shows as silence.
    Plain,
    /// By TCP, as between machines, with Open MPI's fault tolerance, which tells of deaths: without
    /// it, Open MPI aborts the survivors when a connection breaks.
    TolerantTcp,
}

/// One launch.
#[derive(Clone, Copy)]
struct Scene {
    num_ranks: usize,
    nodes: Nodes,
    link: Link,
    how: &'static str,
    at: &'static str,
}

impl Scene {
    fn all() -> Vec<Self> {
        let mut scenes = Vec::new();
        for how in HOWS {
            let scene = |num_ranks, nodes, at| {
                let nodes = Nodes(nodes);
                Self { num_ranks, nodes, link: Link::Plain, how, at }
            };
            scenes.extend(STEPS.map(|at| scene(4, None, at)));
            for at in ["signal", "ring"] {
                let apart = scene(4, Some(1), at);
                scenes.extend([scene(4, Some(2), at), apart]);
                scenes.push(Self { link: Link::TolerantTcp, ..apart });
            }
            scenes.extend([scene(2, None, "signal"), scene(8, None, "ring")]);
            if matches!(how, "killed" | "hangs") {
                scenes.push(scene(2, Some(1), "put"));
                scenes.extend(HALVES.map(|at| scene(4, None, at)));
                scenes.extend(["dispatch_recv", "combine_recv"].map(|at| scene(4, Some(2), at)));
            }
        }
        scenes
    }

    fn name(&self) -> String {
        let Self { num_ranks, nodes, link, how, at } = self;
        let link = if *link == Link::Plain { "" } else { "_over_tcp" };
        format!("a_rank_that::{how}::at_{at}::is_named::{num_ranks}_ranks::{nodes}_per_node{link}")
    }

    /// Whether an error of this kind tells all that the survivors can know.
    fn fits(&self, kind: &str) -> bool {
        // A process that was killed cannot say so to other nodes.
        let is_silent = self.nodes.0.is_some() && self.link == Link::Plain;
        match kind {
            "late" => self.how == "hangs" || is_silent,
            "died" => self.how != "hangs",
            _ => false,
        }
    }
}

pub fn trials() -> Vec<Trial> {
    let can_tell_of_deaths = can_tell_of_deaths();
    let trial = |scene: Scene| {
        Trial::test(scene.name(), move || every_survivor_names(&scene))
            .with_ignored_flag(scene.link == Link::TolerantTcp && !can_tell_of_deaths)
    };
    Scene::all().into_iter().map(trial).collect()
}

fn every_survivor_names(scene: &Scene) -> Result<(), Failed> {
    let Scene { num_ranks, nodes, link, how, at } = *scene;
    let folder = tempfile::tempdir()?;
    let args = ["rank", "fails", &nodes.to_string(), how, at, &folder.path().to_string_lossy()];
    let mut options = MAY_LOSE_RANKS.to_vec();
    match link {
        Link::Plain => options.extend(AS_CHOSEN),
        Link::TolerantTcp => options.extend(OVER_TCP.iter().chain(&TELLS_OF_DEATHS)),
    }
    let outcome = launch(num_ranks, &options, &args.map(String::from), LIMIT);
    let mut steps = BTreeSet::new();
    for rank in (0..num_ranks).filter(|&rank| rank != CULPRIT) {
        let Ok(report) = fs::read_to_string(report_path(folder.path(), rank)) else {
            return Err(format!("rank {rank} reported nothing\n{}", outcome.stderr).into());
        };
        let [kind, peer, step, message] = report.lines().collect::<Vec<_>>()[..] else {
            return Err(format!("rank {rank} reported {report:?}").into());
        };
        if peer != CULPRIT.to_string() {
            return Err(format!("rank {rank} names {peer}: {message}").into());
        }
        if !scene.fits(kind) {
            return Err(format!("rank {rank}: {message}").into());
        }
        steps.insert(step.to_string());
    }
    if steps.len() != 1 {
        return Err(format!("the survivors name different steps: {steps:?}").into());
    }
    if outcome.is_overdue {
        return Err(format!("not over after {LIMIT:?}\n{}", outcome.stderr).into());
    }
    Ok(())
}

fn report_path(folder: &Path, rank: usize) -> std::path::PathBuf {
    folder.join(format!("rank_{rank}"))
}

/// One process of a launch.
pub fn rank(ranks_per_node: &str, how: &str, at: &str, folder: &Path) -> ExitCode {
    let ranks_per_node = Nodes::parse(ranks_per_node).0;
    let world = World::mpi(WorldOptions { timeout: TIMEOUT, ranks_per_node }).expect("a world");
    let (rank, num_ranks) = (world.rank_idx(), world.num_ranks());
    // More than may be under way at once, where that matters.
    let num_bytes = if at == "put" { 64 << 20 } else { 4096 };
    let buffer = world.alloc_symmetric(num_bytes, 1).expect("a buffer");
    let mut step = HALVES.contains(&at).then(|| Step::new(&world).expect("a buffer"));
    world.barrier("set-up").expect("all ranks are well");
    // The culprit may leave the barrier, and fail, before the others have left it.
    if rank == CULPRIT {
        wait_until(|| have_all_left(folder, "ready", num_ranks));
        step.iter_mut().for_each(|step| step.run_until(at).expect("all ranks are well"));
        return fail(how, world, || have_all_left(folder, "rank", num_ranks));
    }
    fs::write(folder.join(format!("ready_{rank}")), "").expect("a file");
    let outcome = match &mut step {
        Some(step) => step.run(),
        None => take_part(&world, &buffer, at),
    };
    let error = match outcome {
        Ok(()) => world.close().expect_err("a rank has failed"),
        Err(error) => {
            drop(world);
            error
        }
    };
    let (kind, peer, step) = match &error {
        Error::PeerDied { peer, step, .. } => ("died", *peer, step.to_string()),
        Error::Timeout { peer, step, .. } => ("late", *peer, step.to_string()),
        other => ("other", usize::MAX, other.to_string()),
    };
    // Written under another name first: a report that is there is whole.
    let draft = folder.join(format!("draft_{rank}"));
    fs::write(&draft, format!("{kind}\n{peer}\n{step}\n{error}\n")).expect("a report");
    fs::rename(&draft, report_path(folder, rank)).expect("a report");
    // mpirun ends the others when the first process leaves without MPI_Finalize.
    wait_until(|| have_all_left(folder, "rank", num_ranks));
    ExitCode::SUCCESS
}

/// Whether every survivor has left a file of this kind.
fn have_all_left(folder: &Path, kind: &str, num_ranks: usize) -> bool {
    (0..num_ranks).all(|rank| rank == CULPRIT || folder.join(format!("{kind}_{rank}")).exists())
}

/// Gives up after longer than any survivor may take.
fn wait_until(mut is_over: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_over() && started.elapsed() < TIMEOUT * 4 {
        thread::sleep(Duration::from_millis(10));
    }
}

fn fail(how: &str, world: World, is_over: impl FnMut() -> bool) -> ExitCode {
    match how {
        "killed" => kill_process(getpid(), Signal::KILL).expect("a process may kill itself"),
        "exits" => std::process::exit(0),
        "drops_its_world" => {
            drop(world);
            // Alive, so that its end is not what the others see.
            wait_until(is_over);
        }
        "panics" => panic!("this rank panics on purpose"),
        "hangs" => wait_until(is_over),
        other => unreachable!("no way to fail is called {other}"),
    }
    ExitCode::SUCCESS
}

fn take_part(world: &World, buffer: &SymmetricBuffer, at: &str) -> Result<()> {
    let (own, num_ranks) = (world.rank_idx(), world.num_ranks());
    match at {
        "barrier" => world.barrier("test"),
        "all_gather" => world.all_gather("test", &[1, 2, 3]).map(drop),
        "alloc" => world.alloc_symmetric(100, 1).map(drop),
        "signal" => {
            for dst in 0..num_ranks {
                buffer.put("test", "exchange", dst, own, &[1])?;
                buffer.signal("test", "exchange", dst, 0, 1)?;
            }
            (0..num_ranks).try_for_each(|src| buffer.wait_signal("test", "exchange", src, 0, 1))
        }
        // Only the rank after the culprit waits for it; the others wait for each other.
        "ring" => {
            let previous = (own + num_ranks - 1) % num_ranks;
            buffer.wait_signal("test", "ring", previous, 0, 1)?;
            buffer.signal("test", "ring", (own + 1) % num_ranks, 0, 1)
        }
        "put" => {
            buffer.put("test", "put", CULPRIT, 0, &vec![1; buffer.num_bytes()])?;
            buffer.wait_signal("test", "put", CULPRIT, 0, 1)
        }
        "close" => Ok(()),
        other => unreachable!("no step is called {other}"),
    }
}
