//! The command-line program.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod eplb;

/// Everything a Mixture-of-Experts model needs below the model code.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Eplb(eplb::EplbArgs),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Eplb(args) => eplb::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}
