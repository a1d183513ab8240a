//! The command `moekit`: what scripts and newcomers rely on.

mod checkpoint;
mod eplb;
mod gemm;
mod guides;
mod info;
mod moe;
#[cfg(feature = "mpi")]
mod mpi;
#[cfg(feature = "mpi")]
#[path = "../common/mpirun.rs"]
mod mpirun;

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// Runs `moekit` with words.
fn moekit(args: &[&str]) -> Output {
    moekit_in(Path::new("."), args)
}

/// Runs `moekit` in a folder.
fn moekit_in(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_moekit"));
    command.args(args).current_dir(folder).output().expect("moekit runs")
}

/// Runs `moekit`, which must succeed, and parses what it prints.
fn json(args: &[&str]) -> Value {
    parse(args, &moekit(&[args, &["--json"]].concat()))
}

fn parse(args: &[&str], output: &Output) -> Value {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "moekit {args:?}: {}: {stderr}", output.status);
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("moekit {args:?} prints no JSON: {error}"))
}

/// Runs `moekit`, which must end with `code`, no panic, and an error on stderr that has each of `parts`;
/// unless the command line itself is at fault, that is one line.
fn assert_refused(args: &[&str], code: i32, parts: &[&str]) {
    let output = moekit(args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "moekit {args:?}: {stderr}");
    assert!(output.stdout.is_empty(), "moekit {args:?} printed a result");
    let is_one_line = stderr.lines().count() == 1 || stderr.contains("--help");
    assert!(stderr.starts_with("error: ") && is_one_line, "moekit {args:?}: {stderr}");
    for part in parts {
        assert!(stderr.contains(part), "moekit {args:?}: no `{part}` in: {stderr}");
    }
}
