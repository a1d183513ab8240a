//! The command-line program.

mod checkpoint;
mod eplb;
mod gemm;
mod info;
mod moe;
mod output;
mod pipeline;

use std::io::{ErrorKind, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use moekit::Error;
use tracing_subscriber::filter::LevelFilter;

/// Everything a Mixture-of-Experts model needs below the model code.
///
/// Exit codes: 0 done; 1 something failed while it ran; 2 bad input.
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// Log what happens inside, on stderr: off, error, warn, info, debug or trace
    #[arg(long, global = true, value_name = "LEVEL", default_value = "error")]
    log: LevelFilter,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run one MoE layer over many ranks: timed, checked, digested
    Moe(moe::MoeArgs),
    /// Generate checkpoints in DeepSeek-V3's format; show what one holds
    Checkpoint(checkpoint::CheckpointArgs),
    /// Place expert replicas on GPUs, plan moves, replay load traces
    Eplb(eplb::EplbArgs),
    /// Generate, check, simulate and draw pipeline schedules
    Pipeline(pipeline::PipelineArgs),
    /// Say which GPU kernel a matrix product takes and why, and how long a model expects it to take
    Gemm(gemm::GemmArgs),
    /// Say what was found on this machine
    Info(info::InfoArgs),
}

/// How long a rank that gave up waits before it leaves.
const LAST_WORDS: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let cli = Cli::parse();
    tracing_subscriber::fmt()
        .with_max_level(cli.log)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let result = match cli.command {
        Command::Moe(args) => moe::run(&args),
        Command::Checkpoint(args) => checkpoint::run(&args),
        Command::Eplb(args) => eplb::run(&args),
        Command::Pipeline(args) => pipeline::run(&args),
        Command::Gemm(args) => gemm::run(&args),
        Command::Info(args) => info::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // NOTE: `eprintln!` would panic where standard error cannot be written.
            let _ = writeln!(std::io::stderr(), "error: {error}");
            if matches!(error, Error::PeerDied { .. } | Error::Timeout { .. }) {
                // mpirun ends the others when the first process leaves: let them tell theirs too.
                std::thread::sleep(LAST_WORDS);
            }
            exit_code(&error)
        }
    }
}

/// 2 if other input would help, 1 if the run itself failed.
fn exit_code(error: &Error) -> ExitCode {
    let is_runtime = match error {
        Error::Timeout { .. }
        | Error::PeerDied { .. }
        | Error::StaleHandle { .. }
        | Error::KernelsNotBuilt { .. }
        | Error::Unavailable { .. }
        | Error::OutOfMemory { .. } => true,
        Error::Io { source, .. } => !matches!(
            source.kind(),
            ErrorKind::NotFound
                | ErrorKind::PermissionDenied
                | ErrorKind::IsADirectory
                | ErrorKind::NotADirectory
                | ErrorKind::AlreadyExists
                | ErrorKind::InvalidInput
                | ErrorKind::InvalidFilename
                | ErrorKind::FileTooLarge
                | ErrorKind::ReadOnlyFilesystem
        ),
        _ => false,
    };
    ExitCode::from(if is_runtime { 1 } else { 2 })
}
