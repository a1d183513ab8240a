//! Expert loads and traces: the first byte chooses the format.

#![no_main]

use libfuzzer_sys::fuzz_target;
use moekit::eplb::{read_load, read_trace};
use moekit_fuzz::write;

fuzz_target!(|bytes: &[u8]| {
    let Some((format, bytes)) = bytes.split_first() else { return };
    let name = ["load.json", "load.csv", "load.safetensors"][usize::from(*format) % 3];
    let path = write(name, bytes);
    if let Ok(load) = read_load(&path) {
        assert!(load.layers().flatten().all(|weight| weight.is_finite() && *weight >= 0.0));
    }
    if let Ok(trace) = read_trace(&path) {
        assert!(!trace.is_empty());
    }
});
