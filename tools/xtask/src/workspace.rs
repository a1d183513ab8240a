//! Where things are in the repository.

use std::path::{Path, PathBuf};

/// The repository's root.
///
/// Cargo names this crate's folder at run time; the folder it was compiled in serves when the
/// program is started by hand.
pub fn root() -> PathBuf {
    let manifest_dir = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest_dir.ancestors().nth(2).map_or_else(|| manifest_dir.clone(), Path::to_path_buf)
}

/// `target/` in the repository, whatever CARGO_TARGET_DIR says: the build script and the tests
/// look for toolchains here.
pub fn target_dir() -> PathBuf {
    root().join("target")
}
