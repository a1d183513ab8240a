//! `cargo xtask test`: sets up what is missing, then runs every test of the workspace.
//!
//! nvcc is set up before anything is built, and moekit's build script finds it; with it come the gates on
//! the kernels' machine code, and the cases that run kernels, on the virtual GPU in several modes. With MPI, everything
//! is built once, with the feature `mpi`; `tests/world` starts mpirun itself and runs alone, since its ranks
//! fill the machine.

use std::io::{IsTerminal, stderr};
use std::process::ExitCode;

use crate::cargo;
use crate::error::{Error, Result};
use crate::prerequisites;
use crate::shell::quote;
use crate::summary::Summary;
use crate::toolchain::{self, Cuda, Environment, Mpi, libclang};
use crate::vgpu_tests;

#[derive(clap::Args)]
pub struct Args {
    /// Leave out what needs MPI: ranks are threads alone, and no MPI is installed.
    #[arg(long)]
    no_mpi: bool,
    /// Leave out what needs nvcc: the kernels are not compiled, unless there is one already.
    #[arg(long)]
    no_cuda: bool,
}

/// The test target that starts mpirun.
const WORLD: &str = "world";

pub fn run(args: &Args) -> Result<ExitCode> {
    prerequisites::check(toolchain::required_tools(!args.no_mpi, !args.no_cuda))?;
    let environment = if args.no_mpi {
        libclang::if_there()?.unwrap_or_default()
    } else {
        Mpi::ensure()?.environment()?
    };
    if !args.no_cuda {
        Cuda::ensure()?;
    }
    let suite = Suite {
        features: if args.no_mpi { &[] } else { &["--features", "moekit/mpi"] },
        environment,
        has_nextest: cargo::step("look for nextest", &["nextest", "--version"]).probe().is_ok(),
        has_world: cargo::targets("test")?.iter().any(|target| target.name == WORLD),
    };
    let mut total = Summary::default();
    for run in suite.runs(args.no_mpi) {
        total += suite.run(&run)?;
    }
    if !args.no_cuda {
        total += vgpu_tests::run(suite.environment, suite.features)?;
    }
    if args.no_mpi {
        eprintln!("==> left out (--no-mpi): the ranks-as-processes cases of tests/{WORLD}");
    }
    if args.no_cuda {
        eprintln!(
            "==> left out (--no-cuda), unless there was an nvcc: the kernels and their gates"
        );
    }
    if total.num_failed > 0 {
        return Err(Error::TestsFailed(total));
    }
    if total.num_passed == 0 {
        return Err(Error::Unexpected {
            what: "the test runners' closing lines".to_owned(),
            expected: "a number of passed tests".to_owned(),
            got: "none".to_owned(),
        });
    }
    println!("{total}");
    Ok(ExitCode::SUCCESS)
}

/// How the workspace's tests are run here.
struct Suite {
    features: &'static [&'static str],
    environment: Environment,
    has_nextest: bool,
    has_world: bool,
}

/// One call of a test runner.
#[derive(Debug, PartialEq, Eq)]
struct Run {
    purpose: &'static str,
    args: Vec<&'static str>,
}

impl Suite {
    fn runs(&self, no_mpi: bool) -> Vec<Run> {
        let command = |purpose, head: &[&'static str], tail: &[&'static str]| Run {
            purpose,
            args: [head, &["--workspace", "--no-fail-fast"], self.features, tail].concat(),
        };
        if !self.has_nextest {
            // One program after another, doc tests included.
            return vec![command("run all tests", &["test"], &[])];
        }
        let but_world: &[_] = if self.has_world { &["-E", "not binary(world)"] } else { &[] };
        let mut runs = vec![command("run the tests", &["nextest", "run"], but_world)];
        if self.has_world && !no_mpi {
            runs.push(command("run the ranks as processes", &["test"], &["--test", WORLD]));
        }
        runs.push(command("run the examples in the documentation", &["test"], &["--doc"]));
        runs
    }

    /// Failed tests are counted, and the other runs go on; a run that counts none has not started.
    fn run(&self, run: &Run) -> Result<Summary> {
        let mut step = cargo::step(run.purpose, &run.args).remedy("see the errors above");
        if stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
            step = step.env("CARGO_TERM_COLOR", "always");
        }
        let (status, output) = self.environment.apply(step).tee()?;
        let summary = Summary::parse(&output);
        if !status.success() && summary.num_failed == 0 {
            return Err(Error::Failed {
                purpose: run.purpose.to_owned(),
                command: format!("cargo {}", quoted(&run.args)),
                status: status.to_string(),
                remedy: "no test failed, so the build or the runner did: see above".to_owned(),
            });
        }
        Ok(summary)
    }
}

fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suite(has_nextest: bool, has_world: bool) -> Suite {
        Suite {
            features: &["--features", "moekit/mpi"],
            environment: Environment::default(),
            has_nextest,
            has_world,
        }
    }

    fn command_lines(runs: &[Run]) -> Vec<String> {
        runs.iter().map(|run| run.args.join(" ")).collect()
    }

    #[test]
    fn with_nextest_the_world_target_runs_alone_and_all_runs_share_one_build() {
        let runs = suite(true, true).runs(false);
        assert_eq!(
            command_lines(&runs),
            [
                "nextest run --workspace --no-fail-fast --features moekit/mpi -E not binary(world)",
                "test --workspace --no-fail-fast --features moekit/mpi --test world",
                "test --workspace --no-fail-fast --features moekit/mpi --doc",
            ]
        );
    }

    #[test]
    fn without_nextest_one_run_has_everything() {
        let runs = suite(false, true).runs(false);
        assert_eq!(command_lines(&runs), ["test --workspace --no-fail-fast --features moekit/mpi"]);
    }

    #[test]
    fn without_mpi_no_run_starts_the_world_target() {
        let runs = Suite { features: &[], ..suite(true, true) }.runs(true);
        assert!(command_lines(&runs).iter().all(|it| !it.contains("--test world")), "{runs:?}");
    }
}
