//! The tests that run kernels, on the virtual GPU, in the modes in which asynchronous work completes.

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, available_parallelism};
use std::time::Instant;

use crate::built::Built;
use crate::check::CONFORMANCE;
use crate::error::{Error, Result};
use crate::shell::Step;
use crate::summary::Summary;
use crate::toolchain::Environment;
use crate::vgpu::{self, Mode};
use crate::workspace;

/// A test target, with what it is called with and in which modes.
struct Program {
    name: &'static str,
    args: &'static [&'static str],
    modes: &'static [Mode],
    /// Whether tensor cores add as Hopper's do.
    is_hopper: bool,
}

const PROGRAMS: [Program; 6] = [
    Program {
        name: CONFORMANCE,
        args: &["--backend", "vgpu"],
        modes: &Mode::TESTED,
        is_hopper: false,
    },
    // Bounds must hold with the sums of a GPU's tensor cores too, for the kernels that are chosen.
    Program {
        name: CONFORMANCE,
        args: &["--backend", "vgpu", "--stage", "gemm", "vgpu::gemm::"],
        modes: &[Mode::Earliest],
        is_hopper: true,
    },
    Program {
        name: CONFORMANCE,
        args: &["--backend", "vgpu", "--stage", "layer"],
        modes: &[Mode::Earliest],
        is_hopper: true,
    },
    // The table of times that goes with a check of a GPU.
    Program {
        name: CONFORMANCE,
        args: &["--backend", "vgpu", "--stage", "plan", "--timing", "--divide", "64"],
        modes: &[Mode::Earliest],
        is_hopper: false,
    },
    // Where lanes run one by one, in a random order, they do not meet in the banks as on a GPU.
    Program { name: "counts", args: &[], modes: &[Mode::Earliest], is_hopper: false },
    Program { name: "cuda", args: &[], modes: &Mode::TESTED, is_hopper: false },
];

/// Runs the programs, `built` with all tests in `environment`, in their modes, as many at a time as there are
/// cores.
pub fn run(built: &Built, mut environment: Environment) -> Result<Summary> {
    vgpu::add_to(&mut environment, &built.cdylib()?)?;
    let mut jobs = Vec::new();
    for Program { name, args, modes, is_hopper } in PROGRAMS {
        let program = built.test(name)?;
        let job = |&mode: &Mode| Job { name, args, mode, is_hopper, program: program.clone() };
        jobs.extend(modes.iter().map(job));
    }
    let num_jobs = jobs.len();
    eprintln!(
        "==> run kernels on the virtual GPU: {num_jobs} runs, in several modes of completion"
    );
    let started = Instant::now();
    let results = side_by_side(jobs, |job| job.run(&environment));
    let mut total = Summary::default();
    for result in results {
        total += result?;
    }
    let time_s = started.elapsed().as_secs_f64();
    println!("on the virtual GPU: {total}, {num_jobs} runs in {time_s:.1} s");
    Ok(total)
}

/// A program in a mode.
struct Job {
    name: &'static str,
    args: &'static [&'static str],
    mode: Mode,
    /// Tensor cores add as Hopper's do, not in FP32; that is all that is looked at.
    is_hopper: bool,
    program: PathBuf,
}

impl Job {
    /// Shows one line, or all that the program wrote if a test has failed.
    fn run(&self, environment: &Environment) -> Result<Summary> {
        let Self { name, args, mode, is_hopper, program } = self;
        let how = if *is_hopper { ", sums of Hopper" } else { "" };
        let purpose = format!("run `{name}` on the virtual GPU, {mode}{how}");
        let root: &Path = &workspace::root();
        let step = Step::new(&purpose, program).args(*args).current_dir(root).silent();
        let mut step = mode.apply(environment.apply(step));
        if *is_hopper {
            step = step.env("VGPU_ACCUMULATION", "hopper").env("VGPU_CHECK", "none");
        }
        let (status, output) = step.output_unseen()?;
        let summary = Summary::parse(&output);
        println!("{name} on the virtual GPU, {mode}{how}: {summary}");
        if !status.success() {
            println!("{output}");
        }
        if !status.success() && summary.num_failed == 0 {
            return Err(Error::Failed {
                purpose,
                command: program.display().to_string(),
                status: status.to_string(),
                remedy: "no test failed, so the program did: see above".to_owned(),
            });
        }
        Ok(summary)
    }
}

/// Applies `run` to all jobs, on a thread for each core.
fn side_by_side<J: Send, R: Send>(jobs: Vec<J>, run: impl Fn(J) -> R + Sync) -> Vec<R> {
    let num_threads = available_parallelism().map_or(1, NonZero::get).min(jobs.len());
    let (queue, results) = (Mutex::new(jobs.into_iter()), Mutex::new(Vec::new()));
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    thread::scope(|scope| {
        for _ in 0..num_threads {
            scope.spawn(|| {
                while let Some(job) = next() {
                    let result = run(job);
                    results.lock().unwrap_or_else(PoisonError::into_inner).push(result);
                }
            });
        }
    });
    results.into_inner().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_job_is_run_once() {
        let mut results = side_by_side((0..20).collect(), |job: u32| job * 2);
        results.sort_unstable();
        assert_eq!(results, (0..20).map(|job| job * 2).collect::<Vec<_>>());
        assert!(side_by_side(Vec::<u32>::new(), |job| job).is_empty());
    }

    #[test]
    fn a_program_that_breaks_off_is_an_error_and_a_failed_test_is_counted() {
        let job = |script: &'static [&'static str]| Job {
            name: "script",
            args: script,
            mode: Mode::Latest,
            is_hopper: false,
            program: "sh".into(),
        };
        let broken = job(&["-c", "exit 3"]).run(&Environment::default());
        assert!(matches!(broken, Err(Error::Failed { .. })), "{broken:?}");
        const FAILED: &str = "test $VGPU_ASYNC = latest && \
            echo 'test result: FAILED. 1 passed; 2 failed; 0 ignored'; exit 1";
        assert_eq!(
            job(&["-c", FAILED]).run(&Environment::default()).expect("it ran").num_failed,
            2
        );
    }
}
