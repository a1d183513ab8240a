//! `moekit gemm`.

use crate::{assert_refused, json, moekit};

#[test]
fn explain_tells_the_choice_its_candidates_and_its_waves() {
    let report = json(&["gemm", "--explain", "4096", "7168", "16384", "--device", "h800"]);
    assert_eq!(report["device"]["num_sms"], 132);
    assert_eq!(report["config"], report["candidates"][0]["config"]);
    assert_eq!(report["config"]["block_k"], 128);
    assert_eq!(report["config"]["split_k"], 1);
    assert_eq!(report["estimate"]["bound"], "tensor");
    let waves = report["estimate"]["num_waves"].as_f64().expect("waves");
    let ctas = report["config"]["num_sms"].as_f64().expect("CTAs");
    assert!(waves * ctas >= report["estimate"]["num_tiles"].as_f64().expect("tiles"));
    let candidates = report["candidates"].as_array().expect("candidates");
    assert!(candidates.iter().any(|candidate| candidate["verdict"]["rejected"].is_string()));
    let tensor_us = report["floor"]["tensor_us"].as_f64().expect("a time");
    assert!(report["estimate"]["time_us"].as_f64().expect("a time") > tensor_us);
}

#[test]
fn explain_as_text_says_why() {
    let masked =
        ["gemm", "--explain", "16", "4096", "7168", "--layout", "masked", "--groups", "32"];
    let output = moekit(&masked);
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let parts = [
        "FP8 masked, 32 groups of 16 x 4096 x 7168",
        "swapped",
        "waves",
        "stages of 128 of K",
        "bytes of shared memory",
        "bound by memory",
        "x floor",
        "rejected candidates",
        "another group's",
        "nothing was measured",
    ];
    for part in parts {
        assert!(text.contains(part), "no `{part}` in:\n{text}");
    }
}

#[test]
fn explain_tells_whether_the_activation_pays_in_the_product() {
    let product =
        ["gemm", "--explain", "64", "4096", "7168", "--layout", "masked", "--groups", "32"];
    let explain = [&product[..], &["--out", "swiglu-fp8", "--device", "h200"]].concat();
    let report = json(&explain);
    assert_eq!(report["shape"]["out"], "swiglu-fp8");
    assert_eq!(report["config"]["block_n"], 256);
    assert_eq!(report["fusion"]["fused_us"], report["estimate"]["time_us"]);
    let text = String::from_utf8(moekit(&explain).stdout).expect("UTF-8");
    assert!(text.contains("two stages") && text.contains("one pays"), "{text}");
    assert!(json(&product)["fusion"].is_null());
    let dense = ["gemm", "--explain", "64", "4096", "7168", "--out", "swiglu-fp8"];
    assert_refused(&dense, 2, &["--out swiglu-fp8", "contiguous"]);
    let odd =
        ["gemm", "--explain", "64", "4000", "7168", "--layout", "masked", "--out", "swiglu-fp8"];
    assert_refused(&odd, 2, &["a multiple of 256"]);
}

#[test]
fn k_is_cut_on_request_alone() {
    let explain = ["gemm", "--explain", "16", "2112", "7168"];
    assert_eq!(json(&explain)["config"]["split_k"], 1);
    let cut = json(&[&explain[..], &["--split-k", "8"]].concat());
    let parts = cut["config"]["split_k"].as_u64().expect("parts");
    assert!(parts > 1);
    let text = |args: &[&str]| String::from_utf8(moekit(args).stdout).expect("UTF-8");
    let why = format!("K in {parts} parts, a CTA each: ");
    let cut = text(&[&explain[..], &["--split-k", "8"]].concat());
    assert!(cut.contains(&why) && cut.contains("the best with K whole: "), "{cut}");
    let many = ["gemm", "--explain", "64", "24576", "1536", "--split-k", "8"];
    assert!(text(&many).contains("K stays whole: in parts it would take no less"));
    let short = ["gemm", "--explain", "64", "24576", "256", "--split-k", "8"];
    assert!(text(&short).contains("K stays whole: no tile's may be cut"));
    assert!(!text(&explain).contains("split "));
}

#[test]
fn the_model_is_compared_row_by_row() {
    let report = json(&["gemm", "--model", "h800"]);
    let rows = report["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), 28);
    assert_eq!(rows[0]["published"]["tflops"], 206.0);
    let errors: Vec<f64> =
        rows.iter().map(|row| row["error"].as_f64().expect("an error").abs()).collect();
    let mean = errors.iter().sum::<f64>() / errors.len() as f64;
    assert!((report["mean_error"].as_f64().expect("a mean") - mean).abs() < 1e-12);
    let worst = errors.iter().copied().fold(0.0, f64::max);
    assert_eq!(report["worst_error"].as_f64(), Some(worst));
}

#[test]
fn what_cannot_be_multiplied_is_refused() {
    let cases: [(&[&str], &str); 9] = [
        (&["--explain", "64", "0", "128"], "`N`"),
        (&["--explain", "64", "64", "100"], "multiple of 16"),
        (&["--explain", "64", "64", "144", "--layout", "k-grouped"], "multiple of 128"),
        (&["--explain", "64", "64", "128", "--groups", "4"], "dense"),
        (&["--explain", "64", "64", "128", "--split-k", "3"], "--split-k"),
        (&["--explain", "64", "64", "128", "--device", "a100"], "h100, h800, h200"),
        (&["--explain", "64", "64", "128", "--max-m", "64"], "masked"),
        (&["--explain", "64", "64", "128", "--layout", "masked", "--max-m", "32"], "M or more"),
        (&["--model", "h100"], "h800"),
    ];
    for (args, part) in cases {
        assert_refused(&[&["gemm"], args].concat(), 2, &[part]);
    }
    assert_refused(&["gemm"], 2, &["--explain"]);
}
