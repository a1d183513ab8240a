//! Starting this program under mpirun, for a limited time.

use std::fmt;
use std::io::Read;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::mpirun::mpirun;

/// How the ranks of a machine count as nodes.
#[derive(Clone, Copy, Debug)]
pub struct Nodes(pub Option<usize>);

impl fmt::Display for Nodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("all"),
            Some(ranks_per_node) => write!(f, "{ranks_per_node}"),
        }
    }
}

impl Nodes {
    /// Reads what `Display` wrote.
    pub fn parse(text: &str) -> Self {
        Self(text.parse().ok())
    }

    /// One node, two nodes, every rank a node of its own; each once.
    pub fn variants(num_ranks: usize) -> Vec<Self> {
        let mut sizes = vec![None, Some(num_ranks / 2), Some(1)];
        sizes.dedup();
        sizes.into_iter().map(Self).collect()
    }
}

/// What became of a launch.
pub struct Outcome {
    pub is_success: bool,
    /// Whether it had to be killed.
    pub is_overdue: bool,
    pub stdout: String,
    pub stderr: String,
}

/// Open MPI chooses; but looking for libfabric's networks would take each launch a second.
pub const AS_CHOSEN: [&str; 3] = ["--mca", "btl", "^ofi"];
/// Open MPI carries messages by TCP, as between machines, where else it would copy memory.
pub const OVER_TCP: [&str; 3] = ["--mca", "btl", "tcp,self"];
/// Else mpirun ends the survivors before they can tell.
pub const MAY_LOSE_RANKS: [&str; 1] = ["--enable-recovery"];
/// Open MPI's fault tolerance, from its version 5.
pub const TELLS_OF_DEATHS: [&str; 2] = ["--with-ft", "ulfm"];

/// Whether this mpirun knows [`TELLS_OF_DEATHS`].
pub fn can_tell_of_deaths() -> bool {
    let version = mpirun().ok().and_then(|path| Command::new(path).arg("--version").output().ok());
    let version = version.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let major = version.as_deref().and_then(|text| {
        text.lines().next()?.split_whitespace().last()?.split('.').next()?.parse::<u32>().ok()
    });
    major.is_some_and(|major| major >= 5)
}

/// Runs this program on `num_ranks` processes with `args`, for at most `limit`.
pub fn launch(num_ranks: usize, options: &[&str], args: &[String], limit: Duration) -> Outcome {
    let mut command = Command::new(mpirun().expect("main should have found mpirun"));
    // UCX's one-sided component prints errors where it finds no network.
    command.args(["--allow-run-as-root", "--oversubscribe", "--mca", "osc", "^ucx"]);
    command.args(options);
    command.args(["-n", &num_ranks.to_string()]);
    command.arg(std::env::current_exe().expect("a program should know its path")).args(args);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("mpirun should start");
    let stdout = read_all(child.stdout.take());
    let stderr = read_all(child.stderr.take());
    let started = Instant::now();
    let mut is_overdue = false;
    let is_success = loop {
        if let Some(status) = child.try_wait().expect("a child should be waited for") {
            break status.success();
        }
        if started.elapsed() > limit && !is_overdue {
            is_overdue = true;
            // mpirun passes the end on to its ranks.
            let pid = Pid::from_child(&child);
            kill_process(pid, Signal::TERM).expect("a child should be killed");
        }
        thread::sleep(Duration::from_millis(5));
    };
    let join = |reader: thread::JoinHandle<String>| reader.join().unwrap_or_default();
    Outcome { is_success, is_overdue, stdout: join(stdout), stderr: join(stderr) }
}

fn read_all(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What came before an error is still worth showing.
            let _ = pipe.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
