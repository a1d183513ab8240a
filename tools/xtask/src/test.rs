//! `cargo xtask test`: sets up what is missing, then runs every test of the workspace.
//!
//! nvcc is set up before anything is built, and moekit's build script finds it; with it come the gates on
//! the kernels' machine code, and the cases that run kernels, on the virtual GPU in several modes. With MPI, everything
//! is built once, with the feature `mpi`; `tests/world` starts mpirun itself and runs alone, since its ranks
//! fill the machine.

use std::io::{IsTerminal, stderr};
use std::path::PathBuf;
use std::process::ExitCode;

use crate::built::Built;
use crate::error::{Error, Result};
use crate::shell::Step;
use crate::summary::Summary;
use crate::toolchain::{self, Cuda, Environment, Mpi, libclang};
use crate::{cargo, prerequisites, vgpu_tests, workspace};

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
    };
    let built = suite.build()?;
    let mut total = Summary::default();
    let world = if args.no_mpi { None } else { Some(built.test(WORLD)?) };
    for run in suite.runs(world) {
        total += suite.run(run)?;
    }
    if !args.no_cuda {
        total += vgpu_tests::run(&built, suite.environment)?;
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
}

impl Suite {
    /// All tests in one call. NOTE: asked for one target alone, cargo may choose other features, and build anew.
    fn build(&self) -> Result<Built> {
        let args = self.cargo_args(&["test"], &["--no-run"]);
        Built::new("build the tests", &args, &self.environment)
    }

    fn cargo_args(&self, head: &[&'static str], tail: &[&'static str]) -> Vec<&'static str> {
        [head, &["--workspace"], self.features, tail].concat()
    }

    /// The calls that run tests; `world` is the program of the target that nextest leaves out, if it is to run.
    fn runs(&self, world: Option<PathBuf>) -> Vec<Step> {
        let cargo = |purpose, head: &[&'static str], tail: &[&'static str]| {
            cargo::step(purpose, &self.cargo_args(head, tail))
        };
        if !self.has_nextest {
            // One program after another, doc tests included.
            return vec![cargo("run all tests", &["test"], &["--no-fail-fast"])];
        }
        let but_world = ["--no-fail-fast", "-E", "not binary(world)"];
        let mut runs = vec![cargo("run the tests", &["nextest", "run"], &but_world)];
        let in_root = |program| {
            Step::new("run the ranks as processes", program).current_dir(&workspace::root())
        };
        runs.extend(world.map(in_root));
        let docs = ["--no-fail-fast", "--doc"];
        runs.push(cargo("run the examples in the documentation", &["test"], &docs));
        runs
    }

    /// Failed tests are counted, and the other runs go on; a run that counts none has not started.
    fn run(&self, step: Step) -> Result<Summary> {
        let (purpose, command) = (step.purpose().to_owned(), step.command_line());
        let mut step = step.remedy("see the errors above");
        if stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
            step = step.env("CARGO_TERM_COLOR", "always");
        }
        let (status, output) = self.environment.apply(step).tee()?;
        let summary = Summary::parse(&output);
        if !status.success() && summary.num_failed == 0 {
            return Err(Error::Failed {
                purpose,
                command,
                status: status.to_string(),
                remedy: "no test failed, so the build or the runner did: see above".to_owned(),
            });
        }
        Ok(summary)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command_lines(has_nextest: bool, world: Option<&str>) -> Vec<String> {
        let features = &["--features", "moekit/mpi"];
        let suite = Suite { features, environment: Environment::default(), has_nextest };
        suite.runs(world.map(PathBuf::from)).iter().map(Step::command_line).collect()
    }

    #[test]
    fn with_nextest_the_world_target_runs_alone_and_all_runs_share_one_build() {
        assert_eq!(
            command_lines(true, Some("/t/world-1")),
            [
                "cargo nextest run --workspace --features moekit/mpi --no-fail-fast -E 'not binary(world)'",
                "/t/world-1",
                "cargo test --workspace --features moekit/mpi --no-fail-fast --doc",
            ]
        );
    }

    #[test]
    fn without_nextest_one_run_has_everything() {
        assert_eq!(
            command_lines(false, Some("/t/world-1")),
            ["cargo test --workspace --features moekit/mpi --no-fail-fast"]
        );
    }

    #[test]
    fn without_mpi_no_run_starts_the_world_target() {
        assert_eq!(command_lines(true, None).len(), 2);
    }
}
