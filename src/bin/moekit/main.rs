//! The command-line program.

mod eplb;
mod pipeline;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Everything a Mixture-of-Experts model needs below the model code.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Place expert replicas on GPUs, plan moves, replay load traces
    Eplb(eplb::EplbArgs),
    /// Generate, check, simulate and draw pipeline schedules
    Pipeline(pipeline::PipelineArgs),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Eplb(args) => eplb::run(&args),
        Command::Pipeline(args) => pipeline::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}
