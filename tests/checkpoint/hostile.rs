//! Files made to break a reader: each is refused by one typed error that names the file.

use std::fs;
use std::path::Path;

use moekit::Error;
use moekit::checkpoint::Checkpoint;
use serde_json::{Value, json};

use crate::store::{Format, Store, with_header};

/// Opens the checkpoint and lists its tensors, which reads every header.
fn open(dir: &Path) -> Result<(), Error> {
    Checkpoint::open(dir)?.tensors().map(drop)
}

fn assert_refused(dir: &Path, file: &str, what: &str) {
    let error = open(dir).expect_err(what);
    let is_typed =
        matches!(error, Error::Format { .. } | Error::Io { .. } | Error::Checkpoint { .. });
    let text = error.to_string();
    assert!(is_typed && text.contains(file) && !text.contains('\n'), "{what}: {text}");
}

fn tensor(dtype: &str, shape: Value, data_offsets: Value) -> String {
    json!({ "t": { "dtype": dtype, "shape": shape, "data_offsets": data_offsets } }).to_string()
}

/// Headers, each before 8 bytes of data.
fn bad_headers() -> Vec<(&'static str, String)> {
    let nested = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let two = |a: [u64; 2], b: [u64; 2]| {
        let info =
            |offsets: [u64; 2]| json!({ "dtype": "U8", "shape": [4], "data_offsets": offsets });
        json!({ "a": info(a), "b": info(b) }).to_string()
    };
    vec![
        ("no object", "[]".into()),
        ("null", "null".into()),
        ("no JSON", "{".into()),
        ("a number for a tensor", r#"{"t": 1}"#.into()),
        ("deep nesting", nested),
        ("deep nesting within", format!("{{\"t\": {}1", "{\"x\":".repeat(5000))),
        ("no dtype", r#"{"t": {"shape": [8], "data_offsets": [0, 8]}}"#.into()),
        ("an unknown dtype", tensor("F7", json!([8]), json!([0, 8]))),
        ("a shape that is no list", tensor("U8", json!(8), json!([0, 8]))),
        ("a negative extent", tensor("U8", json!([-8]), json!([0, 8]))),
        ("a fraction of an extent", tensor("U8", json!([8.5]), json!([0, 8]))),
        ("an extent beyond 64 bits", tensor("U8", json!([1e30]), json!([0, 8]))),
        ("a shape that wraps to the size", tensor("U8", json!([1u64 << 61, 8, 8]), json!([0, 8]))),
        ("bits that wrap to the size", tensor("F32", json!([(1u64 << 59) + 2]), json!([0, 8]))),
        ("an end before the start", tensor("U8", json!([8]), json!([8, 0]))),
        ("one offset", tensor("U8", json!([8]), json!([0]))),
        ("three offsets", tensor("U8", json!([8]), json!([0, 4, 8]))),
        ("a start beyond 0", tensor("U8", json!([4]), json!([4, 8]))),
        ("a size that differs from the shape", tensor("U8", json!([7]), json!([0, 8]))),
        ("half a byte", tensor("F4", json!([15]), json!([0, 8]))),
        ("more data than the file has", tensor("U8", json!([9]), json!([0, 9]))),
        ("data beyond 64 bits", tensor("U8", json!([u64::MAX]), json!([0, u64::MAX]))),
        ("less data than the file has", tensor("U8", json!([7]), json!([0, 7]))),
        ("tensors that overlap", two([0, 4], [2, 6])),
        ("a gap between tensors", two([0, 4], [5, 9])),
        ("metadata that is no map of text", r#"{"__metadata__": {"format": 1}}"#.into()),
    ]
}

#[test]
fn bad_safetensors_headers_are_refused() {
    let dir = Store::new(Format::Bf16, 16).write_single();
    let path = dir.path().join("model.safetensors");
    for (what, header) in bad_headers() {
        fs::write(&path, with_header(&header, &[0; 8])).expect("written");
        assert_refused(dir.path(), "model.safetensors", what);
    }
    let good = with_header(&tensor("U8", json!([8]), json!([0, 8])), &[0; 8]);
    for len in 0..good.len() {
        fs::write(&path, &good[..len]).expect("written");
        assert_refused(dir.path(), "model.safetensors", &format!("{len} bytes of {}", good.len()));
    }
    for header_bytes in [0, 1, 9, good.len() as u64, u64::MAX, 1 << 63, 100_000_001] {
        let file = [&header_bytes.to_le_bytes()[..], &good[8..]].concat();
        fs::write(&path, file).expect("written");
        let what = format!("a header of {header_bytes} bytes");
        assert_refused(dir.path(), "model.safetensors", &what);
    }
    fs::write(&path, with_header("{\"\u{e9}", &[0; 8])).expect("written");
    assert_refused(dir.path(), "model.safetensors", "a header that ends within a string");
    fs::write(&path, &good).expect("written");
    open(dir.path()).expect("the good one");
}

#[test]
fn a_folder_or_a_pipe_in_place_of_a_file_is_refused() {
    let dir = Store::new(Format::Bf16, 16).write_single();
    for name in ["model.safetensors", "model.safetensors.index.json", "config.json"] {
        let path = dir.path().join(name);
        let whole = fs::read(&path).ok();
        fs::remove_file(&path).ok();
        fs::create_dir(&path).expect("a folder");
        assert_refused(dir.path(), name, "a folder");
        fs::remove_dir(&path).expect("removed");
        if let Some(whole) = whole {
            fs::write(&path, whole).expect("written");
        }
    }
    let path = dir.path().join("model.safetensors");
    fs::remove_file(&path).expect("removed");
    assert_refused(dir.path(), "neither model.safetensors.index.json nor", "no weights");
    std::os::unix::fs::symlink("/dev/zero", &path).expect("a link");
    assert_refused(dir.path(), "model.safetensors", "an endless file");
}

#[test]
fn bad_indexes_are_refused() {
    let dir = Store::new(Format::Bf16, 16).write_sharded();
    let in_file = |file: &str| json!({ "weight_map": { "t": file } }).to_string();
    for (what, text) in [
        ("nothing", String::new()),
        ("no JSON", "{".into()),
        ("a list", "[]".into()),
        ("no map", "{}".into()),
        ("a map of numbers", r#"{"weight_map": {"t": 1}}"#.into()),
        ("a map that is a list", r#"{"weight_map": ["t"]}"#.into()),
        ("a negative size", r#"{"metadata": {"total_size": -1}, "weight_map": {}}"#.into()),
        ("deep nesting", "{\"weight_map\":".repeat(10_000)),
        ("no name", in_file("")),
        ("the folder itself", in_file(".")),
        ("the folder above", in_file("..")),
        ("a file of another folder", in_file("../model.safetensors")),
        ("a file of the system", in_file("/etc/passwd")),
        ("a file of a folder", in_file("a/model.safetensors")),
        ("a name with a zero", in_file("a\0b")),
        ("a file that is not there", in_file("model-00001-of-00002.safetensors")),
        ("a file that is no safetensors", in_file("config.json")),
    ] {
        fs::write(dir.path().join("model.safetensors.index.json"), text).expect("written");
        let error = open(dir.path()).expect_err(what).to_string();
        assert!(error.contains(&dir.path().display().to_string()), "{what}: {error}");
    }
}

#[test]
fn bad_configurations_are_refused() {
    let store = Store::new(Format::Bf16, 16);
    let dir = store.write_single();
    let refused = |text: &str, what: &str| {
        fs::write(dir.path().join("config.json"), text).expect("written");
        assert_refused(dir.path(), "config.json", what);
    };
    for text in ["", "{", "[]", "null", "{}", "\u{feff}{}", "NaN"] {
        refused(text, text);
    }
    refused(&"[".repeat(100_000), "deep nesting");
    fs::write(dir.path().join("config.json"), b"\xff\xfe").expect("written");
    assert_refused(dir.path(), "config.json", "no UTF-8");
    for (key, values) in [
        (
            "hidden_size",
            vec![json!(0), json!(-16), json!(100), json!(u64::MAX), json!(1e30), json!("16")],
        ),
        ("moe_intermediate_size", vec![json!(0), json!(17), json!(1u64 << 21), Value::Null]),
        ("n_routed_experts", vec![json!(0), json!(5), json!(1u64 << 62)]),
        ("n_shared_experts", vec![json!(-1), json!(1u64 << 20), json!(1.5)]),
        ("num_experts_per_tok", vec![json!(0), json!(4), json!(7)]),
        ("n_group", vec![json!(0), json!(4), json!(7)]),
        ("topk_group", vec![json!(0), json!(3)]),
        ("topk_method", vec![json!("group_limited_greedy"), json!("greedy"), json!(1)]),
        ("scoring_func", vec![json!("tanh"), Value::Null]),
        ("norm_topk_prob", vec![json!(1), Value::Null]),
        ("routed_scaling_factor", vec![json!(1e300), json!("2.5")]),
        ("num_hidden_layers", vec![json!(-1), json!(1u64 << 30)]),
        ("swiglu_limit", vec![json!(0), json!(-1), json!(1e300)]),
        (
            "quantization_config",
            vec![
                json!({}),
                json!({ "quant_method": "awq", "weight_block_size": [128, 128] }),
                json!({ "quant_method": "fp8", "weight_block_size": [64, 64] }),
                json!({ "quant_method": "fp8", "weight_block_size": [128] }),
            ],
        ),
    ] {
        for value in values {
            let mut config = store.config.clone();
            config[key] = value.clone();
            refused(&config.to_string(), &format!("{key} = {value}"));
        }
        let mut config = store.config.clone();
        config.as_object_mut().expect("an object").remove(key);
        fs::write(dir.path().join("config.json"), config.to_string()).expect("written");
        if let Err(error) = open(dir.path()) {
            assert!(error.to_string().contains(key), "without {key}: {error}");
        }
    }
}
