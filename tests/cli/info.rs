//! `moekit info`.

use crate::{json, moekit};

#[test]
fn info_names_the_processor_and_what_is_installed() {
    let info = json(&["info"]);
    assert_eq!(info["version"], env!("CARGO_PKG_VERSION"));
    let levels = info["simd_levels"].as_array().expect("levels");
    assert_eq!(levels[0], "portable");
    assert_eq!(levels.last(), Some(&info["simd"]));
    assert!(info["num_cores"].as_u64().expect("cores") >= 1);
    assert_eq!(info["built_with_mpi"], cfg!(feature = "mpi"));
    let num_kernels = info["num_kernels"].as_u64().expect("a count");
    assert_eq!(num_kernels > 0, info["kernels_nvcc"].is_string(), "kernels and their compiler");
    for tool in ["mpirun", "nvcc", "cuda_driver"] {
        assert!(info[tool].is_string() || info[tool].is_null(), "{tool}: {}", info[tool]);
    }
}

#[test]
fn info_as_text_has_a_line_for_each() {
    let output = moekit(&["info", "--measure"]);
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    for part in ["moekit", "processor", "mpirun", "nvcc", "CUDA kernels", "CUDA driver", "GFLOP/s"]
    {
        assert!(text.contains(part), "no {part} in:\n{text}");
    }
}
