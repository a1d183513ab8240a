//! `cargo xtask demo`: one mixture-of-experts layer over 4 ranks, on the repository's own text.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use crate::error::{Error, Result};
use crate::prerequisites::{self, Tool};
use crate::shell::Step;
use crate::{cargo, workspace};

#[derive(clap::Args)]
pub struct Args {}

/// A small model in DeepSeek-V3's format: all its parts, at a size that runs in a minute.
const CHECKPOINT: &str =
    "--hidden 2048 --intermediate-hidden 1024 --num-experts 64 --num-topk 8 --seed 1";
/// The run: ranks as threads, the text as tokens, FP8 on the wire and in the GEMMs.
const LAYER: &str = "--world threads --num-tokens 4096 --dtype fp8";
/// Begins the line of the report that tells the output's digest.
const DIGEST: &str = "output digest";

pub fn run(_: &Args) -> Result<ExitCode> {
    prerequisites::check(prerequisites::BUILD.into_iter().chain([Tool::Git]))?;
    cargo::step("build moekit", &["build", "--release", "--bin", "moekit"]).run()?;

    let demo_dir = workspace::target_dir().join("demo");
    fs::create_dir_all(&demo_dir).map_err(Error::io("create", &demo_dir))?;
    let (checkpoint, text) = (demo_dir.join("checkpoint"), demo_dir.join("text.txt"));
    let (checkpoint, text_path) = (checkpoint.to_string_lossy(), text.to_string_lossy());
    let num_bytes = write_text(&text)?;
    eprintln!("==> the repository's own text: {num_bytes} bytes in {text_path}");

    moekit("say what was found on this machine", "info", &["--measure"], "")?;
    let out = ["generate", "--out", &checkpoint];
    moekit("generate a checkpoint", "checkpoint", &out, CHECKPOINT)?;
    let inputs = ["--checkpoint", &checkpoint, "--tokens", &text_path];
    let layer = |purpose: &str, options: [&str; 4]| {
        let args = inputs.iter().chain(&options).copied().chain(LAYER.split_whitespace());
        moekit_step(purpose, "moe").args(args)
    };
    let purpose = "route, dispatch, compute and combine over 4 ranks";
    let over_4 = digest(&layer(purpose, ["--ranks", "4", "--check-tokens", "32"]).tee_stdout()?)?;
    let purpose = "the same over 1 rank, for the digest of its output alone";
    let over_1 = digest(&layer(purpose, ["--ranks", "1", "--check-tokens", "0"]).capture()?)?;
    println!("{over_1}");
    if over_4 != over_1 {
        return Err(unexpected("the output over 4 ranks", &over_1, &over_4));
    }
    eprintln!("==> the output has the same bits over 4 ranks as over 1");
    Ok(ExitCode::SUCCESS)
}

/// The line of a report that tells the output's digest.
fn digest(report: &str) -> Result<String> {
    let line = report.lines().find(|line| line.starts_with(DIGEST)).map(str::to_owned);
    line.ok_or_else(|| unexpected("the report", "a line with the digest", "none"))
}

fn unexpected(what: &str, expected: &str, got: &str) -> Error {
    let [what, expected, got] = [what, expected, got].map(str::to_owned);
    Error::Unexpected { what, expected, got }
}

fn moekit(purpose: &str, command: &str, inputs: &[&str], options: &str) -> Result<()> {
    moekit_step(purpose, command).args(inputs).args(options.split_whitespace()).run()
}

fn moekit_step(purpose: &str, command: &str) -> Step {
    cargo::step(purpose, &["run", "--quiet", "--release", "--bin", "moekit", "--", command])
}

/// Joins the tracked Rust and Markdown files into `path`; returns the number of bytes.
fn write_text(path: &Path) -> Result<usize> {
    let root = workspace::root();
    let listing = Step::new("list the repository's files", "git")
        .args(["ls-files", "-z", "--", "*.rs", "*.md"])
        .current_dir(&root)
        .remedy("run the demo in a clone of the repository")
        .silent()
        .capture()?;
    let mut text = Vec::new();
    for file in listing.split_terminator('\0').map(|name| root.join(name)) {
        // A tracked file may be deleted in the work tree.
        if file.is_file() {
            text.extend(fs::read(&file).map_err(Error::io("read", &file))?);
        }
    }
    fs::write(path, &text).map_err(Error::io("write", path))?;
    Ok(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_utf8_and_holds_this_very_file() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("text.txt");
        let num_bytes = write_text(&path).expect("the tests run in a clone");
        let text = fs::read_to_string(&path).expect("the sources are UTF-8");
        assert_eq!(text.len(), num_bytes);
        assert!(text.contains("the_text_is_utf8_and_holds_this_very_file"));
    }
}
