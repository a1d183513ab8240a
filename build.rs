//! Compiles `csrc/instances/*.cu` and embeds the results; without nvcc the kernel table is empty.
//!
//! Compiled kernels are cached by content under the target folder, across profiles and features.

#[path = "build/cache.rs"]
mod cache;
#[path = "build/compile.rs"]
mod compile;
#[path = "build/embed.rs"]
mod embed;
#[path = "build/nvcc.rs"]
mod nvcc;
#[path = "build/sources.rs"]
mod sources;
#[path = "build/table.rs"]
mod table;

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use cache::Cache;
use embed::Embed;
use nvcc::Nvcc;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            for line in problem.lines() {
                println!("cargo::error={line}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let root = folder("CARGO_MANIFEST_DIR")?;
    let out_dir = folder("OUT_DIR")?;
    for path in ["build.rs", "build", "csrc"] {
        println!("cargo::rerun-if-changed={path}");
    }
    for variable in nvcc::VARIABLES.into_iter().chain([embed::VARIABLE]) {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    let modules = match Nvcc::find(&root)? {
        Some(nvcc) => {
            println!("cargo::rerun-if-changed={}", nvcc.path.display());
            println!("cargo::rustc-env=MOEKIT_NVCC_VERSION={}", nvcc.version);
            let sources = sources::read_all(&root)?;
            compile::all(&nvcc, &root, &sources, &Cache::new(&cache_dir(&out_dir)?))?
        }
        None => Vec::new(),
    };
    table::write(&out_dir, &modules, Embed::from_env()?)
}

fn folder(variable: &str) -> Result<PathBuf, String> {
    env::var_os(variable).map(PathBuf::from).ok_or(format!("cargo did not set {variable}"))
}

/// `<target>/moekit-kernels`; `out_dir` is `<target>/<profile>/build/<package>/out`.
fn cache_dir(out_dir: &Path) -> Result<PathBuf, String> {
    let target_dir = out_dir.ancestors().nth(4).unwrap_or(out_dir);
    let dir = target_dir.join("moekit-kernels");
    std::fs::create_dir_all(&dir).map_err(|error| format!("create {}: {error}", dir.display()))?;
    Ok(dir)
}
