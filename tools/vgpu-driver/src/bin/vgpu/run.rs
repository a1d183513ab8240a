//! `vgpu run`: a program finds the virtual GPU's library where it looks for the driver's.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus};

use tempfile::TempDir;
use vgpu::{Accumulation, Asynchrony, Checks};

use crate::{Problem, Result, counts};

/// The names under which programs look for the driver.
const NAMES: [&str; 2] = ["libcuda.so", "libcuda.so.1"];
/// The library as cargo names it.
const LIBRARY: &str = "libvgpu_driver.so";
const SEARCH_PATH: &str = "LD_LIBRARY_PATH";

#[derive(clap::Args)]
pub struct Args {
    /// Devices that the program sees (8 without this)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    devices: Option<u32>,
    /// Streaming multiprocessors of each device (132 without this)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    sms: Option<u32>,
    /// Memory of each device in MiB (81559 without this)
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..))]
    memory_mb: Option<u64>,
    /// When copies and other asynchronous work complete: earliest (without this), latest or
    /// random:SEED
    #[arg(long = "async", value_name = "MODE", value_parser = mode)]
    asynchrony: Option<String>,
    /// The same as `--async random:SEED`
    #[arg(long, value_name = "SEED", conflicts_with = "asynchrony")]
    seed: Option<u64>,
    /// Mistakes that are looked for: all, none (without this) or a list of initialised, races, proxies
    /// and barriers
    #[arg(long, value_name = "LIST", value_parser = checks)]
    check: Option<String>,
    /// How tensor cores add: fp32 (without this), or hopper, as an H100 or H200 does, to the bit
    #[arg(long, value_name = "HOW", value_parser = accumulation)]
    accumulation: Option<String>,
    /// Warp instructions after which a launch counts as endless
    #[arg(long, value_name = "N")]
    fuel: Option<u64>,
    /// Say on stderr why calls of the driver API are refused
    #[arg(long)]
    log: bool,
    /// Count what every launch does, and write it to FILE as JSON
    #[arg(long, value_name = "FILE")]
    counts: Option<PathBuf>,
    /// Work out when the first cluster of every launch would do what, and write it to FILE for
    /// `vgpu timeline`
    #[arg(long, value_name = "FILE")]
    timeline: Option<PathBuf>,
    /// Append kernels' faults to FILE; they are on stderr too
    #[arg(long, value_name = "FILE")]
    faults: Option<PathBuf>,
    /// The virtual GPU's library (libvgpu_driver.so beside this program without this)
    #[arg(long, value_name = "FILE")]
    driver: Option<PathBuf>,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    program: Vec<OsString>,
}

fn mode(text: &str) -> std::result::Result<String, String> {
    text.parse::<Asynchrony>().map(|_| text.to_owned()).map_err(|error| error.to_string())
}

fn checks(text: &str) -> std::result::Result<String, String> {
    text.parse::<Checks>().map(|_| text.to_owned()).map_err(|error| error.to_string())
}

fn accumulation(text: &str) -> std::result::Result<String, String> {
    text.parse::<Accumulation>().map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// Ends as the program does; a signal is 128 and its number.
pub fn run(args: &Args) -> Result<ExitCode> {
    let folder = TempDir::with_prefix("vgpu-").map_err(Problem::of("make a folder"))?;
    let library = library(args.driver.as_deref())?;
    for name in NAMES {
        symlink(&library, folder.path().join(name)).map_err(Problem::of("link the library"))?;
    }
    let counted = args.counts.as_ref().map(|_| folder.path().join("counts.jsonl"));
    for file in [&args.counts, &args.timeline].into_iter().flatten() {
        // Rather before the run than after it.
        fs::write(file, "").map_err(Problem::of(format!("write {}", file.display())))?;
    }
    let mut command = command(args, folder.path(), counted.as_deref())?;
    let name = Path::new(command.get_program()).display().to_string();
    let child = command.spawn().map_err(Problem::of(format!("start {name}")))?;
    let status = wait(child).map_err(Problem::of(format!("wait for {name}")))?;
    if let (Some(lines), Some(file)) = (counted, &args.counts) {
        counts::collect(&lines, file)?;
    }
    Ok(ExitCode::from(code(status)))
}

/// Where the library is.
fn library(chosen: Option<&Path>) -> Result<PathBuf> {
    if let Some(path) = chosen {
        return path.canonicalize().map_err(Problem::of(format!("--driver {}", path.display())));
    }
    let program = env::current_exe().map_err(Problem::of("find this program"))?;
    let folder = program.parent().unwrap_or(Path::new("."));
    let places = [folder.join(LIBRARY), folder.join("deps").join(LIBRARY)];
    // `cargo build` puts it in both places, `cargo test` in the second: the newer one is meant.
    let time = |path: &PathBuf| path.metadata().and_then(|it| it.modified()).ok();
    let found = places.into_iter().filter(|path| path.is_file()).max_by_key(time);
    found.ok_or_else(|| {
        let folder = folder.display();
        Problem(format!(
            "no {LIBRARY} in {folder}: `cargo build -p vgpu-driver` makes it; --driver says where it is"
        ))
    })
}

fn command(args: &Args, folder: &Path, counted: Option<&Path>) -> Result<Command> {
    let (program, rest) =
        args.program.split_first().ok_or_else(|| Problem("no program is named".to_owned()))?;
    let mut command = Command::new(program);
    let mut search = vec![folder.to_owned()];
    search.extend(env::var_os(SEARCH_PATH).iter().flat_map(env::split_paths));
    let search = env::join_paths(search).map_err(Problem::of(SEARCH_PATH))?;
    command.args(rest).env(SEARCH_PATH, search);
    let random = args.seed.map(|seed| format!("random:{seed}"));
    let number = |number: Option<u64>| number.map(|it| it.to_string());
    let settings = [
        ("VGPU_DEVICES", number(args.devices.map(u64::from))),
        ("VGPU_SMS", number(args.sms.map(u64::from))),
        ("VGPU_MEMORY_MB", number(args.memory_mb)),
        ("VGPU_FUEL", number(args.fuel)),
        ("VGPU_ASYNC", args.asynchrony.clone().or(random)),
        ("VGPU_CHECK", args.check.clone()),
        ("VGPU_ACCUMULATION", args.accumulation.clone()),
        ("VGPU_LOG", args.log.then(|| "1".to_owned())),
    ];
    for (name, value) in settings {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    let files = [
        ("VGPU_FAULT_FILE", args.faults.as_deref()),
        ("VGPU_COUNTS", counted),
        ("VGPU_TIMELINE", args.timeline.as_deref()),
    ];
    for (name, file) in files {
        if let Some(file) = file {
            // The program may change its folder.
            let file = std::path::absolute(file).map_err(Problem::of(name))?;
            command.env(name, file);
        }
    }
    Ok(command)
}

/// Waits; an interrupt from the terminal is for the program, and this one cleans up behind it.
fn wait(mut child: Child) -> std::io::Result<ExitStatus> {
    for signal in [libc::SIGINT, libc::SIGQUIT] {
        // SAFETY: no handler is set, so nothing runs in one.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    child.wait()
}

fn code(status: ExitStatus) -> u8 {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    u8::try_from(code).unwrap_or(u8::MAX)
}
