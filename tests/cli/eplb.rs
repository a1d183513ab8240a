//! `moekit eplb`: the contract for scripts.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::{assert_refused, json, moekit};

const EXAMPLE: &str = "docs/data/eplb-example.json";
const TRACE: &str = "docs/data/eplb-trace.csv";
/// The extents of the published example.
const EXTENTS: &str = "--replicas 16 --groups 4 --nodes 2 --gpus 8";

fn words(args: &str) -> Vec<&str> {
    std::iter::once("eplb").chain(args.split_whitespace()).collect()
}

fn parsed(args: &str) -> Value {
    json(&words(args))
}

fn refused(args: &str, named: &str) {
    assert_refused(&words(args), 2, &[named]);
}

/// Writes a file that lives as long as the folder.
fn file(folder: &tempfile::TempDir, name: &str, content: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, content).expect("write");
    path
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("folder")
}

#[test]
fn json_has_the_members_of_the_contract() {
    let value = parsed(&format!("--load {EXAMPLE} {EXTENTS}"));
    let expected = json!([
        [5, 6, 5, 7, 8, 4, 3, 4, 10, 9, 10, 2, 0, 1, 11, 1],
        [7, 10, 6, 8, 6, 11, 8, 9, 2, 4, 5, 1, 5, 0, 3, 1],
    ]);
    assert_eq!(value["physical_to_logical_map"], expected);
    assert_eq!(value["logical_to_physical_map"][0][1], json!([15, 13]));
    assert_eq!(value["logical_count"][0], json!([1, 2, 1, 1, 2, 2, 1, 1, 1, 1, 2, 1]));
    let layer = &value["balance"]["layers"][0];
    assert_eq!((&layer["max_load"], &layer["mean_load"]), (&json!(156.0), &json!(129.125)));
    for key in ["mean_max_over_mean", "worst_max_over_mean", "mean_gap", "num_duplicates"] {
        assert!(value["balance"][key].is_number(), "{key}");
    }
}

#[test]
fn a_bare_list_and_all_formats_of_a_load_are_read_alike() {
    let folder = folder();
    let bytes: Vec<u8> = [8.0f32, 4.0, 2.0, 2.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    let tensor = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![1, 4], &bytes);
    let tensors = safetensors::serialize([("weight", tensor.expect("tensor"))], None);
    let files = [
        file(&folder, "bare.json", b"[[8, 4, 2, 2]]"),
        file(&folder, "keyed.json", br#"{"weight": [[8, 4, 2, 2]]}"#),
        file(&folder, "load.csv", b"8,4,2,2\n"),
        file(&folder, "load.safetensors", &tensors.expect("file")),
    ];
    let values = files.map(|f| parsed(&format!("--load {} --replicas 6 --gpus 3", f.display())));
    assert_eq!(values[0]["logical_count"], json!([[3, 1, 1, 1]]));
    assert!(values.iter().all(|value| *value == values[0]));
}

#[test]
fn a_trace_in_every_format_replays_alike() {
    let folder = folder();
    let counts: Vec<f32> = (0..5 * 2 * 4).map(|i| ((i * 37) % 11) as f32).collect();
    let mut csv = "step,layer,a,b,c,d\n".to_owned();
    for (row, values) in counts.chunks(4).enumerate() {
        let values: Vec<String> = values.iter().map(f32::to_string).collect();
        csv += &format!("{},{},{}\n", row / 2, row % 2, values.join(","));
    }
    let steps: Vec<Vec<&[f32]>> = counts.chunks(8).map(|step| step.chunks(4).collect()).collect();
    let bytes: Vec<u8> = counts.iter().flat_map(|v| v.to_le_bytes()).collect();
    let tensor =
        safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![5, 2, 4], &bytes);
    let tensors = safetensors::serialize([("trace", tensor.expect("tensor"))], None);
    let files = [
        file(&folder, "trace.csv", csv.as_bytes()),
        file(&folder, "trace.json", json!({ "trace": steps }).to_string().as_bytes()),
        file(&folder, "trace.safetensors", &tensors.expect("file")),
    ];
    let values = files.map(|f| {
        parsed(&format!(
            "--trace {} --replicas 6 --gpus 2 --policy optimized --interval 2 --window 2",
            f.display()
        ))
    });
    assert_eq!(values[0]["steps"].as_array().map(Vec::len), Some(5));
    assert!(values.iter().all(|value| *value == values[0]));
}

#[test]
fn no_moves_change_nothing_and_few_moves_are_kept_to() {
    let folder = folder();
    let args = format!("--load {EXAMPLE} {EXTENTS}");
    let first = parsed(&args);
    let current = file(&folder, "current.json", first.to_string().as_bytes());
    let moved = |max_moves: usize| {
        let current = current.display();
        parsed(&format!(
            "--load docs/data/eplb-later.json {EXTENTS} --current {current} --max-moves {max_moves}"
        ))
    };
    let unmoved = moved(0);
    for key in ["physical_to_logical_map", "logical_to_physical_map", "logical_count"] {
        assert_eq!(unmoved[key], first[key], "{key}");
    }
    assert_eq!(unmoved["migration"]["plan"]["num_transfers"], 0);
    assert_eq!(unmoved["migration"]["time_us"].to_string(), "0.0");
    let worst = |value: &Value| value["balance"]["worst_max_over_mean"].as_f64().expect("a number");
    let three = moved(3);
    assert!(three["migration"]["plan"]["num_transfers"].as_u64().expect("a count") <= 3);
    assert!(three["migration"]["break_even_steps"].as_f64().expect("steps") > 0.0);
    assert!(worst(&three) <= worst(&unmoved));
}

#[test]
fn a_split_of_tokens_sums_to_one_and_never_slows_the_slowest_gpu() {
    let value = parsed(&format!("--load {EXAMPLE} {EXTENTS} --split-tokens"));
    let split = &value["token_split"];
    for (layer_idx, layer) in split["fractions"].as_array().expect("layers").iter().enumerate() {
        for shares in layer.as_array().expect("experts") {
            let shares = shares.as_array().expect("replicas").iter();
            let sum: f64 = shares.map(|share| share.as_f64().expect("a share")).sum();
            assert!((sum - 1.0).abs() < 1e-9, "{sum}");
        }
        let even = value["balance"]["layers"][layer_idx]["max_load"].as_f64();
        assert!(split["max_load"][layer_idx].as_f64() <= even);
    }
}

#[test]
fn gpus_that_differ_or_failed_are_respected() {
    let value = parsed(&format!(
        "--load {EXAMPLE} --replicas 19 --gpus 5 --policy optimized --failed-gpus 1 \
         --gpu-slots 5,4,4,3,3 --gpu-speeds 2,1,1,1,0.5"
    ));
    for row in value["physical_to_logical_map"].as_array().expect("layers") {
        let row = row.as_array().expect("slots");
        for (slot, expert) in row.iter().enumerate() {
            assert_eq!(expert == &json!(-1), (5..9).contains(&slot), "slot {slot}");
        }
    }
    assert_eq!(value["balance"]["num_duplicates"], 0);
}

#[test]
fn bad_input_names_the_argument_and_exits_with_2() {
    let folder = folder();
    for (content, named) in [
        ("[[1, 2], [3]]", "`--load` is 1 experts in layer 1, expected 2 experts in every layer"),
        ("[[1, NaN]]", "`--load` is NaN"),
        ("[[1, -2]]", "`--load` is -2 (layer 0, expert 1)"),
        ("[[1, null]]", "`--load` is null"),
        ("[]", "`--load`"),
        ("[[]]", "`--load`"),
        ("{}", "no key \"weight\""),
        ("[1, 2]", "expected a list"),
        ("[[1, 2]", "load.json"),
    ] {
        let path = file(&folder, "load.json", content.as_bytes());
        refused(&format!("--load {} --replicas 4 --gpus 2 --json", path.display()), named);
    }
    for (args, named) in [
        ("--replicas 11 --gpus 1", "--replicas"),
        ("--replicas 16 --gpus 5", "--replicas"),
        ("--replicas 16 --gpus 0", "--gpus"),
        ("--replicas 16 --gpus 8 --nodes 0", "--nodes"),
        ("--replicas 16 --gpus 8 --groups 0", "--groups"),
        ("--replicas 16 --gpus 8 --groups 5", "--groups"),
        ("--replicas 16 --gpus 8 --groups 3 --nodes 3", "--gpus"),
        ("--replicas -1 --gpus 8", "--replicas"),
        ("--replicas 16 --gpus 8.5", "--gpus"),
        ("--replicas 16 --gpus 8 --policy best", "--policy"),
        ("--replicas 16 --gpus 8 --policy fixed", "`--policy` is fixed"),
        ("--replicas 16 --gpus 8 --failed-gpus 1", "--policy"),
        ("--replicas 16 --gpus 8 --policy optimized --failed-gpus 8", "--failed-gpus"),
        ("--replicas 8 --gpus 2 --policy optimized --failed-gpus 0,1", "--replicas"),
        ("--replicas 16 --gpus 2 --policy optimized --failed-gpus 0,1", "--failed-gpus"),
        ("--replicas 16 --gpus 2 --policy optimized --gpu-slots 8,9", "--gpu-slots"),
        ("--replicas 16 --gpus 2 --policy optimized --gpu-speeds 1", "--gpu-speeds"),
        ("--replicas 16 --gpus 2 --policy optimized --gpu-speeds 1,-1", "--gpu-speeds"),
        ("--replicas 16 --gpus 8 --max-moves 3", "--current"),
        ("--replicas 16 --gpus 8 --current /no/such/file", "/no/such/file"),
        ("--replicas 16 --gpus 8 --svg /no/such/folder/x.svg", "/no/such/folder"),
    ] {
        refused(&format!("--load {EXAMPLE} {args}"), named);
    }
    for (args, named) in [
        ("--replicas 24 --gpus 8", "--replicas"),
        ("--replicas 40 --gpus 8 --interval 0", "--interval"),
        ("--replicas 40 --gpus 8 --window 0", "--window"),
        ("--replicas 40 --gpus 8 --estimator ema --decay 1", "--decay"),
        ("--replicas 40 --gpus 8 --policy incremental", "--max-moves"),
        ("--replicas 40 --gpus 8 --us-per-token -1", "--us-per-token"),
        ("--replicas 40 --gpus 8 --inter-gb-per-s 0", "--inter-gb-per-s"),
    ] {
        refused(&format!("--trace {TRACE} {args}"), named);
    }
    refused("--load /no/such/file --replicas 4 --gpus 2", "/no/such/file");
    refused("--replicas 4 --gpus 2", "--load");
}

#[test]
fn a_current_placement_of_other_extents_is_refused() {
    let folder = folder();
    for (content, named) in [
        ("[[0, 1], [1, 0]]", "--current"),
        (r#"{"logical_count": []}"#, "no key \"physical_to_logical_map\""),
        (r#"{"physical_to_logical_map": [[0]], "logical_to_physical_map": [[[1]]]}"#, "--current"),
    ] {
        let path = file(&folder, "current.json", content.as_bytes());
        refused(&format!("--load {EXAMPLE} {EXTENTS} --current {}", path.display()), named);
    }
}

#[test]
fn both_pictures_are_written() {
    let folder = folder();
    let picture = |args: &str| {
        let path = folder.path().join("picture.svg");
        let output = moekit(&words(&format!("{args} --svg {}", path.display())));
        assert!(output.status.success(), "{args}: {}", String::from_utf8_lossy(&output.stderr));
        std::fs::read_to_string(Path::new(&path)).expect("a picture")
    };
    let placed = picture(&format!(
        "--load {EXAMPLE} --replicas 18 --gpus 3 --policy optimized --failed-gpus 1"
    ));
    assert!(placed.contains("Load per GPU before: experts in order, no replicas"), "{placed}");
    assert!(placed.contains("Load per GPU after: optimized"), "{placed}");
    assert_eq!(placed.matches("GPU 1: failed").count(), 4);
    let replayed = picture(&format!(
        "--trace {TRACE} --replicas 40 --gpus 8 --policy incremental --max-moves 8"
    ));
    assert!(replayed.contains("incremental, at most 8 transfers, every 16 steps"), "{replayed}");
}
