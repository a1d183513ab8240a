//! The command-line program: runs programs of the CUDA driver API on the virtual GPU, and looks PTX,
//! counts and timelines through.

mod counts;
mod ptx;
mod run;
mod table;
mod timeline;

use std::fmt::Display;
use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Runs programs of the CUDA driver API on the processor, without a GPU.
///
/// Exit codes: 0 done; 1 something is wrong with the PTX; 2 it could not be done. `vgpu run` ends as
/// the program that it runs.
#[derive(Parser)]
#[command(name = "vgpu", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a program with the virtual GPU in place of the driver
    Run(run::Args),
    /// List a PTX file's kernels, and what the virtual GPU lacks to run them
    Ptx(ptx::Args),
    /// Print the counts that `vgpu run --counts` has written, as a table
    Counts(counts::Args),
    /// Print, convert or draw the timelines that `vgpu run --timeline` has written
    Timeline(timeline::Args),
}

/// Why a command could not be done, in words for the user.
struct Problem(String);

type Result<T> = std::result::Result<T, Problem>;

impl Problem {
    /// For `map_err`: what was done to what.
    fn of<E: Display>(what: impl Display) -> impl FnOnce(E) -> Self {
        move |error| Problem(format!("{what}: {error}"))
    }
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Ptx(args) => ptx::run(&args),
        Command::Counts(args) => counts::run(&args),
        Command::Timeline(args) => timeline::run(&args),
    };
    result.unwrap_or_else(|problem| {
        eprintln!("vgpu: {}", problem.0);
        ExitCode::from(2)
    })
}

/// Writes a result to standard output; a reader that has gone wants no more.
fn print(text: &str) -> Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Problem(format!("write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}
