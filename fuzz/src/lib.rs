//! What the fuzz targets share: files in a folder that each run overwrites.
//!
//! `cargo +nightly fuzz run safetensors` (with cargo-fuzz installed); `cargo check` needs stable Rust alone.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use tempfile::TempDir;

static FOLDER: LazyLock<TempDir> =
    LazyLock::new(|| tempfile::tempdir().expect("a temporary folder should be to be had"));

/// The folder of this process.
pub fn folder() -> &'static Path {
    FOLDER.path()
}

/// Writes a file in the folder.
pub fn write(name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder().join(name);
    std::fs::write(&path, bytes).expect("the temporary folder should take a file");
    path
}

/// A configuration that fits the tensors of few and small experts.
pub const CONFIG: &str = r#"{
    "hidden_size": 16, "moe_intermediate_size": 16, "n_routed_experts": 2, "n_shared_experts": null,
    "num_experts_per_tok": 1, "n_group": null, "topk_group": null, "scoring_func": "softmax",
    "norm_topk_prob": true, "routed_scaling_factor": 1.0, "num_hidden_layers": 1
}"#;
