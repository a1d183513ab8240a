//! `moekit checkpoint`.

use crate::{assert_refused, json, moekit};

const SMALL: [&str; 8] =
    ["--hidden", "64", "--intermediate-hidden", "48", "--num-experts", "4", "--num-topk", "2"];

#[test]
fn what_generate_writes_show_lists() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("deep/checkpoint");
    let dir = dir.to_str().expect("UTF-8");
    let generate = ["checkpoint", "generate", "--out", dir];
    let generated = json(&[&generate[..], &SMALL, &["--max-shard-bytes", "20000"]].concat());
    let files = generated["files"].as_array().expect("files").len();
    assert!(files > 1, "{generated}");
    let shown = json(&["checkpoint", "show", dir]);
    let tensors = shown["tensors"].as_array().expect("tensors");
    assert_eq!(generated["num_tensors"], tensors.len());
    let total: u64 =
        tensors.iter().map(|tensor| tensor["num_bytes"].as_u64().expect("bytes")).sum();
    assert_eq!(generated["num_bytes"], total);
    assert_eq!(shown["config"]["n_routed_experts"], 4);
    let text = String::from_utf8(moekit(&["checkpoint", "show", dir]).stdout).expect("UTF-8");
    assert!(text.contains("model.layers.0.mlp.experts.3.down_proj.weight_scale_inv"), "{text}");
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_does_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let shard = |name: &str, seed: &str| {
        let dir = folder.path().join(name);
        let out = ["checkpoint", "generate", "--out", dir.to_str().expect("UTF-8"), "--seed", seed];
        assert!(moekit(&[&out[..], &SMALL].concat()).status.success());
        std::fs::read(dir.join("model-00001-of-00001.safetensors")).expect("a shard")
    };
    let first = shard("first", "7");
    assert_eq!(first, shard("second", "7"));
    assert_ne!(first, shard("third", "8"));
}

#[test]
fn bad_input_is_refused_with_its_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().to_str().expect("UTF-8");
    assert_refused(&["checkpoint", "show", "no/such/folder"], 2, &["no/such/folder/config.json"]);
    assert_refused(&["checkpoint", "show", dir], 2, &["config.json"]);
    let generate =
        |more: &[&'static str]| [&["checkpoint", "generate", "--out", dir], more].concat();
    assert_refused(&generate(&["--hidden", "100"]), 2, &["hidden", "100", "multiple of 16"]);
    assert_refused(&generate(&["--num-topk", "65"]), 2, &["num_topk", "65"]);
    assert_refused(&generate(&["--num-layers", "0"]), 2, &["layers"]);
    assert_refused(&generate(&["--swiglu-limit=-1"]), 2, &["swiglu_limit"]);
    let absurd = ["--hidden", "1048576", "--intermediate-hidden", "1048576", "--num-experts"];
    assert_refused(&generate(&[&absurd[..], &["1048576"]].concat()), 1, &["needs", "are free"]);
    assert!(folder.path().read_dir().expect("a folder").next().is_none(), "nothing is written");
    let file = folder.path().join("file");
    std::fs::write(&file, "").expect("written");
    let file = file.to_str().expect("UTF-8");
    assert_refused(&["checkpoint", "generate", "--out", file], 2, &["file", "exists"]);
    assert_refused(&["checkpoint", "show", file], 2, &["file/config.json"]);
    assert_refused(&["checkpoint", "generate", "--out", "/proc/no"], 2, &["/proc/no"]);
    std::fs::write(folder.path().join("config.json"), "{}").expect("written");
    assert_refused(&generate(&SMALL), 2, &["folder", "without a checkpoint"]);
}
