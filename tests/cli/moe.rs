//! `moekit moe`, with ranks as threads.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use serde_json::Value;
use tempfile::TempDir;

use crate::{assert_refused, json, moekit};

/// A text and a small checkpoint, made once.
static FOLDER: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    let text = "to be, or not to be: that is the question.\nWhether 'tis nobler in the mind";
    std::fs::write(folder.path().join("text"), text).expect("written");
    let dir = folder.path().join("checkpoint");
    let args = ["checkpoint", "generate", "--out", dir.to_str().expect("UTF-8")];
    assert!(moekit(&[&args[..], &SHAPE].concat()).status.success());
    folder
});

/// Widths that no block of 128 divides, and experts that few numbers of ranks divide.
const SHAPE: [&str; 8] =
    ["--hidden", "272", "--intermediate-hidden", "144", "--num-experts", "24", "--num-topk", "3"];

/// Paths of the checkpoint and the text.
pub fn inputs() -> [PathBuf; 2] {
    ["checkpoint", "text"].map(|name| FOLDER.path().join(name))
}

/// Arguments of a run on the checkpoint and the text.
pub fn on_the_text<'a>([checkpoint, text]: &'a [PathBuf; 2], more: &[&'a str]) -> Vec<&'a str> {
    let path = |path: &'a Path| path.to_str().expect("UTF-8");
    let inputs = ["moe", "--checkpoint", path(checkpoint), "--tokens", path(text)];
    [&inputs[..], &["--num-tokens", "37", "--steps", "1"], more].concat()
}

fn run(more: &[&str]) -> Value {
    json(&on_the_text(&inputs(), more))
}

#[test]
fn the_digest_is_the_same_for_any_number_of_ranks_and_layout() {
    let want = run(&["--ranks", "1"]);
    for more in [
        &["--ranks", "2"][..],
        &["--ranks", "4", "--layout", "masked"],
        &["--ranks", "8", "--expert-alignment", "128"],
        &["--ranks", "5", "--ranks-per-node", "2"],
    ] {
        let got = run(more);
        assert_eq!(got["output_digest"], want["output_digest"], "{more:?}");
        assert_eq!(got["relative_error"], want["relative_error"], "{more:?}");
    }
    assert_ne!(run(&["--seed", "1"])["output_digest"], want["output_digest"], "other tokens");
}

#[test]
fn the_report_has_every_stage_and_every_token() {
    let report = run(&["--ranks", "3"]);
    let names: Vec<_> =
        report["stages"].as_array().expect("stages").iter().map(|stage| &stage["name"]).collect();
    let want = [
        "logits",
        "gate",
        "quantize",
        "dispatch_send",
        "shared_expert",
        "plan",
        "dispatch_recv",
        "gate_up",
        "swiglu",
        "down",
        "combine_send",
        "combine_recv",
    ];
    assert_eq!(names, want);
    let total: f64 = report["stages"]
        .as_array()
        .expect("stages")
        .iter()
        .map(|stage| stage["time_us"].as_f64().expect("a time"))
        .sum();
    assert!((total / report["total_us"].as_f64().expect("a time") - 1.0).abs() < 1e-6, "{report}");
    for stage in report["stages"].as_array().expect("stages") {
        for member in ["time_us", "rank_us", "bytes", "gb_per_s", "x_of_limit"] {
            assert!(stage[member].as_f64().is_some_and(|x| x > 0.0), "{member} of {stage}");
        }
    }
    let received = report["load"]["num_tokens_per_expert"].as_array().expect("experts");
    assert_eq!(received.len(), 24);
    assert_eq!(received.iter().map(|x| x.as_u64().expect("a count")).sum::<u64>(), 37 * 3);
    // NOTE: half a unit of BF16's last place is 1.7e-3 of a typical value.
    let error = report["relative_error"].as_f64().expect("checked");
    assert!(error > 0.0 && error < 6e-3, "{error}");
    assert_eq!(report["num_checked_tokens"], 16);
}

#[test]
fn every_number_format_and_instruction_set_agrees_with_f64() {
    for more in [
        &["--dtype", "bf16"][..],
        &["--dtype", "bf16", "--layout", "masked", "--reduce", "rank"],
        &["--dtype", "fp8", "--simd", "portable", "--split", "bytes"],
        &["--dtype", "fp8", "--weighting", "down", "--layout", "masked", "--ranks", "2"],
    ] {
        let error = run(more)["relative_error"].as_f64().expect("checked");
        assert!(error < 6e-3, "{more:?}: {error}");
    }
}

#[test]
fn a_run_needs_no_files() {
    let args = [&["moe", "--num-tokens", "9", "--steps", "1", "--ranks", "2"][..], &SHAPE].concat();
    let report = json(&[&args[..], &["--check-tokens", "0"]].concat());
    assert_eq!(report["relative_error"], Value::Null);
    assert_eq!(report["layer"]["num_experts"], 24);
    let text = String::from_utf8(moekit(&args).stdout).expect("UTF-8");
    for part in ["combine_recv", "expert load", "relative error", "output digest"] {
        assert!(text.contains(part), "no {part} in:\n{text}");
    }
    assert!(!text.contains('\u{1b}'), "colours belong on a terminal");
}

#[test]
fn what_one_rank_lacks_is_told_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().to_str().expect("UTF-8");
    let generate = ["checkpoint", "generate", "--out", dir, "--max-shard-bytes", "1"];
    assert!(moekit(&[&generate[..], &SHAPE].concat()).status.success());
    let index = std::fs::read(folder.path().join("model.safetensors.index.json")).expect("index");
    let index: Value = serde_json::from_slice(&index).expect("JSON");
    let tensor = "model.layers.0.mlp.experts.13.up_proj.weight";
    let shard = index["weight_map"][tensor].as_str().expect("a file");
    std::fs::remove_file(folder.path().join(shard)).expect("removed");
    // Of 4 ranks, the one with experts 12 to 17 cannot load; the others wait for it.
    let args = ["moe", "--checkpoint", dir, "--num-tokens", "8", "--ranks", "4"];
    assert_refused(&args, 2, &[shard, tensor, "not there"]);
}

#[test]
fn results_that_cannot_be_written_fail_the_command() {
    let full = std::fs::File::options().write(true).open("/dev/full").expect("a full device");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_moekit"));
    let output = command.arg("info").stdout(full).output().expect("moekit runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.starts_with("error: moekit: standard output: No space left"), "{stderr}");
    // Nor is a panic what remains where nothing can be told.
    let full = std::fs::File::options().write(true).open("/dev/full").expect("a full device");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_moekit"));
    let status = command.args(["moe", "--ranks", "0"]).stderr(full).status().expect("moekit runs");
    assert_eq!(status.code(), Some(2));
}

#[test]
fn bad_input_is_refused_with_its_name() {
    let paths = inputs();
    let run = |more: &[&'static str]| {
        let args = on_the_text(&paths, more);
        args.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let refused = |more: &[&'static str], parts: &[&str]| {
        let args = run(more);
        assert_refused(&args.iter().map(String::as_str).collect::<Vec<_>>(), 2, parts);
    };
    refused(&["--layer", "1"], &["layer", "is 1", "0 to 0"]);
    refused(&["--ranks", "0"], &["--ranks", "at least 1"]);
    refused(&["--device", "1"], &["--device", "is 1", "--backend cuda"]);
    refused(&["--backend", "cuda", "--simd", "avx2"], &["--simd", "is avx2", "--backend cpu"]);
    refused(&["--hidden", "64"], &["--hidden", "--checkpoint"]);
    refused(&["--expert-alignment", "0"], &["expert_alignment", "at least 1"]);
    const HUGE: &str = "18446744073709551615";
    refused(&["--expert-alignment", HUGE], &["expert_alignment", "rows on a rank"]);
    refused(&["--ranks", HUGE], &["num_ranks", "1 to 1024"]);
    refused(&["--ranks-per-node", "0"], &["ranks_per_node", "at least 1"]);
    let huge = |arg| [&["moe", arg, HUGE, "--ranks", "2"][..], &SHAPE].concat();
    assert_refused(&huge("--num-tokens"), 2, &["num_max_tokens_per_rank", "slots in all"]);
    assert_refused(&huge("--steps"), 2, &["--steps", "at most"]);
    assert_refused(&huge("--hidden")[..5], 2, &["hidden_size", "at most"]);
    assert_refused(&["moe", "--num-tokens", "0"], 2, &["--num-tokens", "at least 1"]);
    assert_refused(&["moe", "--tokens", "no/such/text"], 2, &["no/such/text"]);
    assert_refused(&["moe", "--checkpoint", "no/such/folder"], 2, &["no/such/folder"]);
    let binary = FOLDER.path().join("binary");
    std::fs::write(&binary, b"text \xff").expect("written");
    let binary = binary.to_str().expect("UTF-8");
    assert_refused(&["moe", "--tokens", binary], 2, &["binary", "byte 5 is not UTF-8"]);
    let blank = FOLDER.path().join("blank");
    std::fs::write(&blank, " \n").expect("written");
    let blank = blank.to_str().expect("UTF-8");
    assert_refused(&["moe", "--tokens", blank], 2, &["blank", "no token in its 2 bytes"]);
    let folder = FOLDER.path().to_str().expect("UTF-8");
    assert_refused(&["moe", "--tokens", folder], 2, &[folder, "directory"]);
    assert_refused(&["moe", "--tokens", "/dev/zero"], 2, &["/dev/zero", "more than"]);
    assert_refused(&["moe", "--checkpoint", binary], 2, &["binary/config.json"]);
    #[cfg(not(feature = "mpi"))]
    assert_refused(&["moe", "--world", "mpi"], 1, &["MPI", "feature `mpi`"]);
}
