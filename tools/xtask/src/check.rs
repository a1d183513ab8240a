//! `cargo xtask check`: the conformance cases on one backend.

use std::process::ExitCode;

use crate::error::Result;
use crate::shell::Step;
use crate::toolchain::{self, Cuda, Environment};
use crate::{cargo, prerequisites, vgpu, workspace};

#[derive(clap::Args)]
pub struct Args {
    /// Where the cases run.
    #[arg(long, value_enum)]
    backend: Backend,
    /// Only the cases of this stage, such as "gate" or "dispatch".
    #[arg(long)]
    stage: Option<String>,
    /// Print the result as JSON.
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
    /// The CUDA kernels on a real GPU.
    Gpu,
}

/// Answers as the conformance program does: 1 if a case failed, 2 if the backend is not there.
pub fn run(args: &Args) -> Result<ExitCode> {
    let needs_kernels = !matches!(args.backend, Backend::Cpu);
    prerequisites::check(toolchain::required_tools(false, needs_kernels))?;
    if needs_kernels {
        Cuda::ensure()?;
    }
    let mut environment = Environment::default();
    if let Backend::Vgpu = args.backend {
        vgpu::add_to(&mut environment)?;
    }
    let program = cargo::build_test("conformance")?;
    let cases = Step::new("run the conformance cases", program)
        .args(conformance_args(args))
        .current_dir(&workspace::root());
    let status = environment.apply(cases).status()?;
    Ok(match status.code() {
        Some(0) => ExitCode::SUCCESS,
        Some(2) => ExitCode::from(2),
        _ => ExitCode::FAILURE,
    })
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
            json: true,
            rest: vec!["--list".to_owned()],
        };
        let expected = ["--backend", "vgpu", "--stage", "gate", "--json", "--list"];
        assert_eq!(conformance_args(&args), expected);
    }
}
