//! `cargo xtask bench`: runs benchmarks and keeps their tables under `target/bench/`.

use std::fs;
use std::process::ExitCode;

use crate::cargo::MemberTarget;
use crate::error::{Error, Result};
use crate::shell::Step;
use crate::toolchain::{self, Environment, Mpi};
use crate::{cargo, prerequisites, workspace};

#[derive(clap::Args)]
pub struct Args {
    /// Benchmarks to run, as their files are named under benches/; all if none is named.
    names: Vec<String>,
    /// Run on these processors alone, such as "0" or "0,2-3". A benchmark pins its own threads to
    /// processors among these.
    #[arg(long)]
    cpus: Option<String>,
    /// Options for the benchmarks themselves, after `--`.
    #[arg(last = true)]
    rest: Vec<String>,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    prerequisites::check(prerequisites::BUILD)?;
    let benches = select(cargo::targets("bench")?, &args.names)?;
    let needs_mpi = benches.iter().any(|bench| bench.needs_mpi);
    prerequisites::check(toolchain::required_tools(needs_mpi, false))?;
    let mpi = if needs_mpi { Mpi::ensure()?.environment()? } else { Environment::default() };
    let bench_dir = workspace::target_dir().join("bench");
    fs::create_dir_all(&bench_dir).map_err(Error::io("create", &bench_dir))?;

    let place = place(args.cpus.as_deref());
    for bench in benches {
        // Others are built as if there were no MPI.
        let environment = if bench.needs_mpi { &mpi } else { &Environment::default() };
        let mut build = vec!["bench", "--no-run"];
        build.extend(target_args(&bench));
        // With all processors, whatever --cpus says.
        let build = cargo::step(&format!("build the benchmark `{}`", bench.name), &build);
        environment.apply(build).run()?;
        let table = environment.apply(bench_step(&bench, args)).tee_stdout()?;
        let path = bench_dir.join(format!("{}.txt", bench.name));
        fs::write(&path, format!("{place}\n{table}")).map_err(Error::io("write", &path))?;
        eprintln!("==> kept in {}", path.display());
    }
    Ok(ExitCode::SUCCESS)
}

fn select(known: Vec<MemberTarget>, names: &[String]) -> Result<Vec<MemberTarget>> {
    if known.is_empty() {
        return Err(Error::Usage("the workspace has no benchmarks".to_owned()));
    }
    let is_known = |name: &&String| known.iter().any(|bench| bench.name == **name);
    if let Some(unknown) = names.iter().find(|name| !is_known(name)) {
        let known: Vec<_> = known.iter().map(|bench| bench.name.as_str()).collect();
        return Err(Error::Usage(format!(
            "no benchmark is named `{unknown}`; there are: {}",
            known.join(", ")
        )));
    }
    let is_wanted = |bench: &MemberTarget| names.is_empty() || names.contains(&bench.name);
    Ok(known.into_iter().filter(is_wanted).collect())
}

fn target_args(bench: &MemberTarget) -> Vec<&str> {
    let mut words = vec!["--package", &bench.package, "--bench", &bench.name];
    if bench.needs_mpi {
        words.extend(["--features", "mpi"]);
    }
    words
}

fn bench_step(bench: &MemberTarget, args: &Args) -> Step {
    let purpose = format!("run the benchmark `{}`", bench.name);
    let mut words = Vec::new();
    if let Some(cpus) = &args.cpus {
        words.extend(["taskset".into(), "--cpu-list".into(), cpus.into()]);
    }
    words.push(cargo::program());
    words.push("bench".into());
    words.extend(target_args(bench).into_iter().map(Into::into));
    if !args.rest.is_empty() {
        words.push("--".into());
        words.extend(args.rest.iter().map(Into::into));
    }
    Step::new(purpose, &words[0]).args(&words[1..]).current_dir(&workspace::root())
}

/// Where the figures were taken: processor, compiler, commit.
fn place(cpus: Option<&str>) -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let num_cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let first_line = |program: &str, args: &[&str]| {
        let text = Step::new("describe the place", program)
            .args(args)
            .current_dir(&workspace::root())
            .probe()
            .unwrap_or_default();
        text.lines().next().unwrap_or("unknown").to_owned()
    };
    format!(
        "# processor: {}, {num_cpus} seen, run on {}\n# compiler: {}\n# commit: {}\n",
        processor(&cpuinfo),
        cpus.unwrap_or("all"),
        first_line("rustc", &["--version"]),
        first_line("git", &["describe", "--always", "--dirty"]),
    )
}

/// The model that /proc/cpuinfo names first.
fn processor(cpuinfo: &str) -> &str {
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"));
    model.and_then(|rest| rest.split_once(':')).map_or("unknown", |(_, name)| name.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Vec<MemberTarget> {
        ["gemm", "dispatch"]
            .map(|name| MemberTarget {
                package: "moekit".to_owned(),
                name: name.to_owned(),
                needs_mpi: false,
            })
            .into()
    }

    #[test]
    fn no_name_selects_all_and_a_name_selects_itself() {
        assert_eq!(select(known(), &[]).expect("all"), known());
        let one = select(known(), &["gemm".to_owned()]).expect("gemm is known");
        assert_eq!(one, known()[..1]);
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_known_ones() {
        let error = select(known(), &["gem".to_owned()]).expect_err("there is no such benchmark");
        assert_eq!(error.to_string(), "no benchmark is named `gem`; there are: gemm, dispatch");
    }

    #[test]
    fn a_workspace_without_benchmarks_says_so() {
        let error = select(Vec::new(), &[]).expect_err("there is nothing to run");
        assert_eq!(error.to_string(), "the workspace has no benchmarks");
    }

    #[test]
    fn the_processor_is_read_from_cpuinfo() {
        let cpuinfo = "processor\t: 0\nmodel name\t: Some CPU @ 2.0GHz\nprocessor\t: 1\n";
        assert_eq!(processor(cpuinfo), "Some CPU @ 2.0GHz");
        assert_eq!(processor(""), "unknown");
    }
}
