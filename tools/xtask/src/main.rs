//! moekit's set-up-and-go commands: `cargo xtask <command>`.
//!
//! Standard output carries results alone; what is being run, and why, goes to standard error.

mod abi;
mod bench;
mod built;
mod cargo;
mod check;
mod demo;
mod error;
mod gpu_program;
mod prerequisites;
mod sass;
mod shell;
mod summary;
mod test;
mod toolchain;
mod vgpu;
mod vgpu_tests;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use error::Result;

const EXIT_CODES: &str = "Exit codes: 0 = done; 1 = something ran and failed (a test, a build, a \
    benchmark); 2 = it could not be run (usage, a missing prerequisite, set-up).";

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Set up what is missing and run every test.
    Test(test::Args),
    /// Build moekit and run a mixture-of-experts layer over 4 ranks on the repository's own text.
    Demo(demo::Args),
    /// Run the conformance cases on one backend.
    Check(check::Args),
    /// Run the benchmarks and keep their tables under target/bench/.
    Bench(bench::Args),
    /// Regenerate the Rust mirrors of the kernels' parameter structs (csrc/abi).
    Abi(abi::Args),
    /// Print a kernel's main loop in machine code, with its control bits, and counts by class.
    Sass(sass::Args),
    /// Install the pinned MPI and CUDA toolchains under target/toolchain/ (no root needed).
    Toolchain(toolchain::Args),
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error}");
            error.exit_code()
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Test(args) => test::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Abi(args) => abi::run(&args),
        Command::Sass(args) => sass::run(&args),
        Command::Toolchain(args) => toolchain::run(&args),
    }
}
