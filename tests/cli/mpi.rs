//! `moekit moe` under mpirun.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::moe::{inputs, on_the_text};
use crate::mpirun::mpirun;
use crate::{json, parse};

const NUM_RANKS: usize = 4;
/// Beyond the commands' own timeout.
const LIMIT: Duration = Duration::from_secs(100);

fn under_mpirun(num_ranks: usize, args: &[&str]) -> Command {
    let mut command = Command::new(mpirun().unwrap_or_else(|error| panic!("{error}")));
    command.args(["--allow-run-as-root", "--oversubscribe", "--enable-recovery"]);
    command.args(["--mca", "osc", "^ucx", "--mca", "btl", "^ofi"]);
    command.args(["-n", &num_ranks.to_string(), env!("CARGO_BIN_EXE_moekit")]).args(args);
    command.args(["--world", "mpi"]).stdin(Stdio::null());
    command
}

#[test]
fn processes_give_the_bits_that_threads_give() {
    let paths = inputs();
    let want = json(&on_the_text(&paths, &["--ranks", "1"]));
    for (num_ranks, more) in [(2, &[][..]), (4, &["--ranks-per-node", "2"]), (8, &[])] {
        let args = on_the_text(&paths, &[more, &["--json"]].concat());
        let got = parse(&args, &under_mpirun(num_ranks, &args).output().expect("mpirun runs"));
        assert_eq!(got["num_ranks"], num_ranks);
        assert_eq!(got["output_digest"], want["output_digest"], "{num_ranks} ranks, {more:?}");
    }
}

#[test]
fn the_ranks_generate_a_checkpoint_together() {
    let args = ["moe", "--hidden", "256", "--intermediate-hidden", "128", "--num-tokens", "8"];
    let args = [&args[..], &["--num-experts", "16", "--steps", "1", "--json"]].concat();
    let got = parse(&args, &under_mpirun(2, &args).output().expect("mpirun runs"));
    assert!(got["relative_error"].as_f64().is_some_and(|error| error < 6e-3), "{got}");
}

#[test]
fn ranks_that_mpirun_did_not_start_are_refused() {
    let paths = inputs();
    let output = under_mpirun(2, &on_the_text(&paths, &["--ranks", "3"])).output();
    let output = output.expect("mpirun runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && stderr.contains("expected 2"), "{stderr}");
}

#[test]
fn survivors_name_the_rank_that_was_killed() {
    let paths = inputs();
    let endless = ["--log", "info", "--steps", "1000000000", "--timeout", "30"];
    let args: Vec<&str> = on_the_text(&paths, &[]).into_iter().filter(|arg| *arg != "1").collect();
    let args: Vec<&str> = args.into_iter().filter(|arg| *arg != "--steps").chain(endless).collect();
    let mut job = under_mpirun(NUM_RANKS, &args);
    let mut job = job.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("mpirun starts");
    let mut stderr = BufReader::new(job.stderr.take().expect("piped"));
    let victim = 2;
    let pid = pid_in_the_steps(&mut stderr, victim);
    // Deep in the run, wherever that may be.
    std::thread::sleep(Duration::from_millis(300));
    kill_process(Pid::from_raw(pid).expect("a process"), Signal::KILL).expect("killed");

    wait(&mut job);
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).expect("UTF-8");
    let named = rest.matches(&format!("rank {victim} died")).count();
    assert_eq!(named, NUM_RANKS - 1, "every survivor names rank {victim}:\n{rest}");
}

/// Reads the log until all ranks are in their steps; returns the process of one.
fn pid_in_the_steps(log: &mut impl BufRead, rank_idx: usize) -> i32 {
    let (mut seen, mut pid) = (0, None);
    let mut line = String::new();
    while seen < NUM_RANKS {
        line.clear();
        assert_ne!(log.read_line(&mut line).expect("UTF-8"), 0, "the ranks ended early");
        if line.contains("the steps begin") {
            seen += 1;
            if line.contains(&format!("rank_idx={rank_idx} ")) {
                pid = line.split("pid=").nth(1).and_then(|pid| pid.trim().parse().ok());
            }
        }
    }
    pid.unwrap_or_else(|| panic!("no process of rank {rank_idx}"))
}

fn wait(job: &mut Child) {
    let start = Instant::now();
    while job.try_wait().expect("a child").is_none() {
        if start.elapsed() > LIMIT {
            job.kill().expect("a child");
            panic!("the survivors still wait after {LIMIT:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
