//! `cargo xtask check`: the conformance cases on one backend.

use std::process::{ExitCode, ExitStatus};

use serde_json::{Value, json};

use crate::built::Built;
use crate::error::{Error, Result};
use crate::shell::Step;
use crate::toolchain::{self, Cuda, Environment};
use crate::vgpu::{self, Findings, Mode};
use crate::{gpu_program, prerequisites, workspace};

/// The test target with the cases.
pub const CONFORMANCE: &str = "conformance";

#[derive(clap::Args)]
pub struct Args {
    /// Where the cases run.
    #[arg(long, value_enum)]
    backend: Backend,
    /// Only the cases of this stage, such as "gate" or "dispatch".
    #[arg(long)]
    stage: Option<String>,
    /// When the virtual GPU completes asynchronous work: `earliest` (if nothing is said), `latest` or
    /// `random:SEED`.
    #[arg(long = "async", value_name = "MODE")]
    asynchrony: Option<Mode>,
    /// Print the result as JSON: cases passed and failed and, on the virtual GPU, its findings.
    #[arg(long)]
    json: bool,
    /// More options and a name filter for the conformance program, after `--`.
    #[arg(last = true)]
    rest: Vec<String>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Backend {
    /// The processor, at each SIMD level that it has.
    Cpu,
    /// The CUDA kernels on the virtual GPU.
    Vgpu,
    /// The CUDA kernels on a real GPU, with the timing table; builds one program that can also be copied
    /// to a machine with a GPU and run there.
    Gpu,
}

/// Answers as the conformance program does: 1 if a case failed, 2 if the backend is not there.
pub fn run(args: &Args) -> Result<ExitCode> {
    let needs_kernels = !matches!(args.backend, Backend::Cpu);
    prerequisites::check(toolchain::required_tools(false, needs_kernels))?;
    if needs_kernels {
        Cuda::ensure()?;
    }
    let is_vgpu = matches!(args.backend, Backend::Vgpu);
    if args.asynchrony.is_some() && !is_vgpu {
        return Err(Error::Usage("--async is for --backend vgpu alone".to_owned()));
    }
    let mut environment = Environment::default();
    if is_vgpu {
        let args = ["build", "--package", "vgpu-driver", "--lib"];
        let driver = Built::new("build the virtual GPU", &args, &environment)?.cdylib()?;
        vgpu::add_to(&mut environment, &driver)?;
    }
    let program = match args.backend {
        Backend::Gpu => gpu_program::build()?,
        _ => {
            let args = ["test", "--test", CONFORMANCE, "--no-run"];
            Built::new("build the conformance cases", &args, &Environment::default())?
                .test(CONFORMANCE)?
        }
    };
    let cases = Step::new("run the conformance cases", program)
        .args(conformance_args(args))
        .current_dir(&workspace::root());
    let cases = environment.apply(cases);
    let status = match is_vgpu {
        true => on_vgpu(cases, args)?,
        false => cases.status()?,
    };
    Ok(match status.code() {
        Some(0) => ExitCode::SUCCESS,
        Some(2) => ExitCode::from(2),
        _ => ExitCode::FAILURE,
    })
}

/// Runs the cases in a mode and adds what the virtual GPU has found to their JSON.
fn on_vgpu(cases: Step, args: &Args) -> Result<ExitStatus> {
    let mode = args.asynchrony.unwrap_or(Mode::Earliest);
    let cases = mode.apply(cases);
    if !args.json {
        return cases.status();
    }
    let findings = Findings::new()?;
    let (status, text) = findings.apply(cases).output()?;
    let findings = findings.take()?;
    match with_findings(&text, mode, findings) {
        Some(result) => println!("{result:#}"),
        // The program was asked for something else than results.
        None => print!("{text}"),
    }
    Ok(status)
}

fn with_findings(text: &str, mode: Mode, findings: Vec<String>) -> Option<Value> {
    let mut result: Value = serde_json::from_str(text).ok()?;
    let fields = result.as_object_mut()?;
    fields.insert("async".to_owned(), json!(mode.to_string()));
    fields.insert("findings".to_owned(), json!(findings));
    Some(result)
}

fn conformance_args(args: &Args) -> Vec<&str> {
    let backend = match args.backend {
        Backend::Cpu => "cpu",
        Backend::Vgpu => "vgpu",
        Backend::Gpu => "gpu",
    };
    let mut all = vec!["--backend", backend];
    if let Some(stage) = &args.stage {
        all.extend(["--stage", stage]);
    }
    // The table of times is text.
    if matches!(args.backend, Backend::Gpu) && !args.json {
        all.push("--timing");
    }
    if args.json {
        all.push("--json");
    }
    all.extend(args.rest.iter().map(String::as_str));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_reaches_the_conformance_program() {
        let args = Args {
            backend: Backend::Vgpu,
            stage: Some("gate".to_owned()),
            asynchrony: Some(Mode::Latest),
            json: true,
            rest: vec!["--list".to_owned()],
        };
        let expected = ["--backend", "vgpu", "--stage", "gate", "--json", "--list"];
        assert_eq!(conformance_args(&args), expected);
    }

    #[test]
    fn a_gpu_is_timed_unless_the_result_is_json() {
        let args = |json| Args {
            backend: Backend::Gpu,
            stage: None,
            asynchrony: None,
            json,
            rest: Vec::new(),
        };
        assert_eq!(conformance_args(&args(false)), ["--backend", "gpu", "--timing"]);
        assert_eq!(conformance_args(&args(true)), ["--backend", "gpu", "--json"]);
    }

    #[test]
    fn findings_stand_beside_the_cases() {
        let findings = vec!["a fault".to_owned()];
        let result = with_findings(r#"{"num_failed": 1}"#, Mode::Random(7), findings);
        let expected = json!({"num_failed": 1, "async": "random:7", "findings": ["a fault"]});
        assert_eq!(result, Some(expected));
        assert_eq!(with_findings("gate: test\n", Mode::Earliest, Vec::new()), None);
    }
}
