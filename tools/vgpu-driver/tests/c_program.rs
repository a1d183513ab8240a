//! A C program that opens the library, with no Rust and no header of NVIDIA's.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

#[test]
fn a_c_program_runs_on_the_virtual_gpu() {
    let build = tempfile::TempDir::new().expect("a temporary folder");
    let program = build.path().join("program");
    let mut gcc = Command::new("gcc");
    gcc.args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-o"]).arg(&program);
    let compiled = gcc.arg(folder().join("c/program.c")).arg("-ldl").output().expect("gcc starts");
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    let library = env::current_exe().expect("the test's path").with_file_name("libvgpu_driver.so");
    let mut run = Command::new(&program);
    let output = run.arg(library).arg(folder().join("ptx/basic.ptx")).output().expect("it starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("done on NVIDIA H100"));
    assert!(stderr.contains("cuTexRefCreate is not supported"), "{stderr}");
}
