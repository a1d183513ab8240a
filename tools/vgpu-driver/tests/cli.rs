//! The program `vgpu`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

fn vgpu(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vgpu"));
    command.args(args).output().expect("vgpu starts")
}

fn texts(output: &Output) -> [String; 2] {
    [&output.stdout, &output.stderr].map(|it| String::from_utf8_lossy(it).into_owned())
}

/// A program in C that opens `libcuda.so.1` by its name.
fn c_program(folder: &Path) -> String {
    let program = folder.join("program");
    let mut gcc = Command::new("gcc");
    gcc.args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-o"]).arg(&program);
    let compiled = gcc.arg(tests().join("c/program.c")).arg("-ldl").output().expect("gcc starts");
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    program.to_str().expect("a plain path").to_owned()
}

#[test]
fn a_program_runs_with_the_settings_and_is_counted() {
    let folder = TempDir::new().unwrap();
    let program = c_program(folder.path());
    let counts = folder.path().join("counts.json");
    let counts = counts.to_str().unwrap();
    let ptx = tests().join("ptx/basic.ptx");
    let options = ["run", "--devices", "2", "--async", "latest", "--log", "--counts", counts];
    let named = [&program, "libcuda.so.1", ptx.to_str().unwrap()];
    let output = vgpu(&[&options[..], &named[..]].concat());
    let [stdout, stderr] = texts(&output);
    assert!(output.status.success(), "{stdout}{stderr}");
    assert!(stdout.starts_with("done on NVIDIA H100"), "{stdout}");
    // The log tells of a call that the program expects to be refused.
    assert!(stderr.contains("cuDeviceGet: CUDA_ERROR_INVALID_DEVICE"), "{stderr}");
    let whole: Value = serde_json::from_str(&fs::read_to_string(counts).unwrap()).unwrap();
    assert_eq!(whole["launches"][0]["kernel"], "scale");
    assert_eq!(whole["launches"][0]["bytes"]["global"]["read"], 2000);
    let [table, _] = texts(&vgpu(&["counts", counts]));
    let row = table.lines().nth(1).unwrap();
    assert!(row.starts_with("scale") && row.contains("2,000"), "{table}");
}

#[test]
fn a_programs_timelines_are_printed_converted_and_drawn() {
    let folder = TempDir::new().unwrap();
    let program = c_program(folder.path());
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let ptx = tests().join("ptx/basic.ptx");
    let lines = file("timeline.jsonl");
    let args = ["run", "--timeline", &lines, &program, "libcuda.so.1", ptx.to_str().unwrap()];
    let output = vgpu(&args);
    assert!(output.status.success(), "{:?}", texts(&output));
    let (trace, picture) = (file("trace.json"), file("picture.svg"));
    let args = ["timeline", &lines, "--kernel", "scale", "--trace", &trace, "--svg", &picture];
    let [table, stderr] = texts(&vgpu(&args));
    let row = table.lines().nth(1).unwrap_or_else(|| panic!("{table}{stderr}"));
    assert!(row.starts_with("scale "), "{table}");
    let events: Value = serde_json::from_str(&fs::read_to_string(&trace).unwrap()).unwrap();
    let events = events["traceEvents"].as_array().unwrap();
    assert!(events.iter().any(|it| it["name"] == "run" && it["dur"].as_u64() > Some(0)));
    let picture = fs::read_to_string(&picture).unwrap();
    assert!(picture.starts_with("<svg") && picture.contains("warp 0"), "{picture}");
    for (args, part) in [
        (&["--kernel", "none"][..], "no such launch"),
        (&["--svg", "/tmp/x.svg", "--from", "99999999"], "--from 99999999"),
        (&["--from", "5", "--to", "5"], "less than --to"),
        (&["--trace", "/nonexistent/trace"], "write /nonexistent/trace"),
    ] {
        let output = vgpu(&[&["timeline", &lines], args].concat());
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(texts(&output)[1].contains(part), "{args:?}: {:?}", texts(&output));
    }
    let broken = file("broken.jsonl");
    fs::write(&broken, "{}\n").unwrap();
    assert!(texts(&vgpu(&["timeline", &broken]))[1].contains("a line is no timeline"));
}

#[test]
fn a_program_ends_as_it_ends_and_its_arguments_are_its_own() {
    let output = vgpu(&["run", "--seed", "3", "sh", "-c", "echo $VGPU_ASYNC; exit 7"]);
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(texts(&output)[0], "random:3\n");
    let output = vgpu(&["run", "--check", "races,barriers", "sh", "-c", "echo $VGPU_CHECK"]);
    assert_eq!(texts(&output)[0], "races,barriers\n");
    assert!(!vgpu(&["run", "--check", "race", "true"]).status.success());
    let args = ["run", "--accumulation", "hopper", "sh", "-c", "echo $VGPU_ACCUMULATION"];
    assert_eq!(texts(&vgpu(&args))[0], "hopper\n");
    assert!(!vgpu(&["run", "--accumulation", "fp16", "true"]).status.success());
    let output = vgpu(&["run", "sh", "-c", "kill -9 $$"]);
    assert_eq!(output.status.code(), Some(128 + 9));
    let folders = texts(&vgpu(&["run", "sh", "-c", "echo ${LD_LIBRARY_PATH%%:*}"]));
    let folder = folders[0].trim();
    assert!(!folder.is_empty() && !Path::new(folder).exists(), "the folder is gone: {folder}");
}

#[test]
fn what_cannot_be_done_is_said() {
    let refused = |args: &[&str], part: &str| {
        let output = vgpu(args);
        let [stdout, stderr] = texts(&output);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {stdout}{stderr}");
        assert!(stderr.contains(part), "{args:?}: {stderr}");
    };
    refused(&["run"], "PROGRAM");
    refused(&["run", "/nonexistent/program"], "start /nonexistent/program");
    refused(&["run", "--driver", "/nonexistent.so", "true"], "--driver /nonexistent.so");
    refused(&["run", "--async", "sometimes", "true"], "`earliest`, `latest` or `random:SEED`");
    refused(&["run", "--counts", "/nonexistent/counts", "true"], "write /nonexistent/counts");
    refused(&["ptx", "/nonexistent.ptx"], "read /nonexistent.ptx");
    refused(&["counts", "/nonexistent.json"], "read /nonexistent.json");
}

#[test]
fn kernels_are_listed() {
    let ptx = tests().join("ptx/basic.ptx");
    let ptx = ptx.to_str().unwrap();
    let output = vgpu(&["ptx", ptx]);
    let [stdout, stderr] = texts(&output);
    assert!(output.status.success(), "{stderr}");
    assert!(stdout.contains("\nadd: load 2, atomic 1, control 1"), "{stdout}");
    let whole: Value = serde_json::from_str(&texts(&vgpu(&["ptx", ptx, "--json"]))[0]).unwrap();
    let kernels = whole["kernels"].as_array().unwrap();
    let scale = kernels.iter().find(|it| it["name"] == "scale").unwrap();
    assert_eq!((&scale["param_bytes"], &scale["instructions"]), (&24.into(), &18.into()));
    assert_eq!(whole["unsupported"], serde_json::json!([]));
}

#[test]
fn what_is_unsupported_is_listed_with_its_lines() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("k.ptx");
    let write = |body: &str| {
        let head =
            ".version 8.7\n.target sm_90a\n.address_size 64\n.entry k() {\n.reg .b32 %r<2>;\n";
        fs::write(&file, format!("{head}{body}\nret;\n}}\n")).unwrap();
        let output = vgpu(&["ptx", file.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1));
        texts(&output)
    };
    let [stdout, _] = write("mov.u32 %r1, 0;\nfrobnicate.u32 %r1, %r1;");
    assert!(stdout.contains("\nk: control 1, move 1\n"), "{stdout}");
    assert!(stdout.contains("not supported: 1\n  line 7: "), "{stdout}");
    let [stdout, stderr] = write("mov.u32 %r1, ;");
    assert!(stdout.is_empty() && stderr.contains("line 6"), "{stdout}{stderr}");
}
