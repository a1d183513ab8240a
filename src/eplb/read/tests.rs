//! Good and bad files, each with the exact complaint; and no file that makes a reader panic.

use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;

fn json_load(text: &str) -> Result<ExpertLoad> {
    json::load(Path::new("f.json"), text.as_bytes())
}

fn csv_trace(text: &str) -> Result<Trace> {
    csv::trace(Path::new("f.csv"), text.as_bytes())
}

fn message<T: std::fmt::Debug>(result: Result<T>) -> String {
    result.expect_err("the file should be refused").to_string()
}

#[test]
fn a_bare_matrix_and_one_under_weight_read_alike() {
    let bare = json_load("[[1, 2.5], [0, 4]]").expect("bare");
    assert_eq!(bare, json_load(r#"{"weight": [[1, 2.5], [0, 4]]}"#).expect("keyed"));
    let csv = csv::load(Path::new("f.csv"), b"a, b\n1, 2.5\n0, 4\n").expect("CSV");
    assert_eq!(bare, csv);
}

#[test]
fn both_layouts_of_a_csv_trace_read_alike() {
    let long = "step,layer,expert,count\n0,0,1,3\n1,1,0,7\n1,0,1,2\n";
    let wide = "step,layer,e0,e1\n0,0,0,3\n1,0,0,2\n1,1,7,0\n";
    let trace = csv_trace(long).expect("long");
    assert_eq!(trace, csv_trace(wide).expect("wide"));
    assert_eq!(trace[1].layer(1), [7.0, 0.0]);
    let json = r#"{"trace": [[[0, 3], [0, 0]], [[0, 2], [7, 0]]]}"#;
    assert_eq!(trace, json::trace(Path::new("f.json"), json.as_bytes()).expect("JSON"));
}

#[test]
fn bad_json_names_the_place() {
    let finite = "expected finite numbers >= 0";
    assert_eq!(
        message(json_load("[[1, NaN]]")),
        format!("read_load: `load` is NaN (expected value at line 1 column 6), {finite}")
    );
    assert_eq!(
        message(json_load("[[1], [null]]")),
        format!("read_load: `load` is null (weight[1][0]), {finite}")
    );
    assert_eq!(
        message(json_load("[[1, -2]]")),
        "expert_load: `load` is -2 (layer 0, expert 1), expected finite FP32 values >= 0"
    );
    assert_eq!(
        message(json_load("[[1, 2], [3]]")),
        "expert_load: `load` is 1 experts in layer 1, expected 2 experts in every layer"
    );
    let format = "f.json: not a valid expert load (JSON)";
    assert_eq!(message(json_load("{}")), format!("{format}: no key \"weight\""));
    assert_eq!(
        message(json_load("[1]")),
        format!("{format}: weight[0] is a number, expected a list")
    );
    assert_eq!(
        message(json_load("[[1]")),
        format!("{format}: EOF while parsing a list at line 1 column 4")
    );
    let trace = |text: &str| json::trace(Path::new("f.json"), text.as_bytes());
    assert_eq!(message(trace("[]")), "read_trace: `trace` is no step, expected at least one step");
    assert_eq!(
        message(trace("[[[1]], [[1, 2]]]")),
        "read_trace: `trace` has shape [1, 2], expected [1, 1]"
    );
}

#[test]
fn bad_csv_names_the_line() {
    let format = "f.csv: not a valid expert trace (CSV)";
    let long = "step,layer,expert,count\n";
    assert_eq!(
        message(csv_trace(&format!("{long}0,0,x,1\n"))),
        format!("{format}: line 2: \"x\" is no index (0, 1, ...)")
    );
    assert_eq!(
        message(csv_trace(&format!("{long}0,0,1\n"))),
        format!("{format}: line 2: 3 fields, expected 4")
    );
    assert_eq!(
        message(csv_trace(&format!("{long}0,0,0,1\n0,0,0,2\n"))),
        format!("{format}: line 3: step 0, layer 0, expert 0 comes twice")
    );
    assert_eq!(
        message(csv_trace(&format!("{long}99999999,9999,0,1\n"))),
        "read_trace: `trace` holds 67108864 values, needs 1000000000000"
    );
    assert!(message(csv_trace(&format!("{long}18446744073709551615,0,0,1\n"))).contains("values"));
    assert_eq!(
        message(csv_trace(long)),
        "read_trace: `trace` is none, expected at least one record"
    );
    assert!(message(csv_trace("a,b\n")).contains("the first line is \"a,b\", expected"));
    assert_eq!(
        message(csv::load(Path::new("f.csv"), b"1,2\n3,x\n")),
        "f.csv: not a valid expert load (CSV): line 2: \"x\" is no number"
    );
}

#[test]
fn tensors_of_every_dtype_read_and_others_are_refused() {
    let view = |dtype, shape: &[usize], bytes: &'static [u8]| {
        let tensor = safetensors::tensor::TensorView::new(dtype, shape.to_vec(), bytes);
        safetensors::serialize([("any", tensor.expect("tensor"))], None).expect("serialised")
    };
    let path = Path::new("f.safetensors");
    let i32s = view(safetensors::Dtype::I32, &[1, 2], &[3, 0, 0, 0, 1, 0, 0, 0]);
    assert_eq!(tensors::load(path, &i32s).expect("I32").layer(0), [3.0, 1.0]);
    let f64s = view(safetensors::Dtype::F64, &[1, 1, 1], &[0, 0, 0, 0, 0, 0, 0xf8, 0x3f]);
    assert_eq!(tensors::trace(path, &f64s).expect("F64")[0].layer(0), [1.5]);
    assert_eq!(
        message(tensors::load(path, &f64s)),
        "checkpoint f.safetensors: tensor `any`: read_load expects 2 dimensions, \
         its shape is [1, 1, 1]"
    );
    let u8s = view(safetensors::Dtype::U8, &[1, 2], &[3, 1]);
    assert_eq!(
        message(tensors::load(path, &u8s)),
        "checkpoint f.safetensors: tensor `any`: dtype U8, expected F32, F64, I32 or I64"
    );
}

#[test]
fn a_placement_reads_with_and_without_its_inverse() {
    let read = |text: &str| json::placement(Path::new("f.json"), text.as_bytes(), 2);
    let rows = r#""physical_to_logical_map": [[1, 0, 1]]"#;
    let bare = read("[[1, 0, 1]]").expect("bare");
    assert_eq!(bare, read(&format!("{{{rows}}}")).expect("keyed"));
    assert_eq!(bare.replicas(0, 1), [0, 2]);
    let inverse = r#""logical_to_physical_map": [[[1, -1], [2, 0]]]"#;
    let both = read(&format!("{{{rows}, {inverse}, \"balance\": {{}}}}")).expect("both maps");
    assert_eq!(both.replicas(0, 1), [2, 0]);
    assert_eq!(
        message(read("{}")),
        "f.json: not a valid placement (JSON): no key \"physical_to_logical_map\""
    );
    let more = r#"{"physical_to_logical_map": [[0]], "logical_to_physical_map": [[[0]]]}"#;
    assert_eq!(
        message(read(more)),
        "read_placement: `logical_to_physical_map` is 1, expected 2 experts"
    );
}

#[test]
fn a_missing_file_is_an_io_error_with_its_path() {
    let path = PathBuf::from("no/such/file.json");
    assert!(message(read_load(&path)).starts_with("read_load: no/such/file.json: "));
    assert!(message(read_placement(&path, 1)).starts_with("read_placement: no/such/file.json: "));
    assert!(message(read_trace(&path)).starts_with("read_trace: no/such/file.json: "));
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        read_all(&bytes);
    }

    #[test]
    fn no_damaged_file_makes_a_reader_panic(
        which in 0..5usize,
        cut in 0..200usize,
        at in 0..200usize,
        byte in any::<u8>(),
    ) {
        let tensor = safetensors::tensor::TensorView::new(
            safetensors::Dtype::F32, vec![1, 2], &[0, 0, 128, 63, 0, 0, 0, 64],
        );
        let tensors =
            safetensors::serialize([("weight", tensor.expect("tensor"))], None).expect("file");
        let mut bytes = [
            b"{\"weight\": [[1, 2.5e3], [0, 4]], \"x\": null}".to_vec(),
            b"step,layer,expert,count\n0,0,1,3\n1,1,0,7\n".to_vec(),
            b"[[[1, 2], [3, 4]], [[5, 6], [7, 8]]]".to_vec(),
            br#"{"physical_to_logical_map": [[1, 0, 1]],
                "logical_to_physical_map": [[[1, -1], [2, 0]]]}"#.to_vec(),
            tensors,
        ][which].clone();
        bytes.truncate(bytes.len().saturating_sub(cut % 8));
        let len = bytes.len();
        bytes[at % len] = byte;
        read_all(&bytes);
    }
}

/// Reads in every format; what comes back must be valid or an error.
fn read_all(bytes: &[u8]) {
    let path = Path::new("f");
    let loads = [json::load(path, bytes), csv::load(path, bytes), tensors::load(path, bytes)];
    for load in loads.into_iter().flatten() {
        assert!(load.layers().flatten().all(|w| w.is_finite() && *w >= 0.0));
    }
    let traces = [json::trace(path, bytes), csv::trace(path, bytes), tensors::trace(path, bytes)];
    for trace in traces.into_iter().flatten() {
        assert!(!trace.is_empty());
    }
    if let Ok(placement) = json::placement(path, bytes, 2) {
        assert_eq!(placement.num_logical_experts(), 2);
    }
}
