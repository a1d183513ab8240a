//! A pipeline schedule of one's own.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use moekit::pipeline::Schedule;

fuzz_target!(|json: &str| {
    let _ = Schedule::from_json(json, Path::new("input"));
});
