//! Where mpirun is.

use std::path::PathBuf;

/// Finds mpirun, or says how to get one.
pub fn mpirun() -> Result<PathBuf, String> {
    if let Some(path) = std::env::var_os("MOEKIT_MPIRUN").map(PathBuf::from) {
        return if path.is_file() {
            Ok(path)
        } else {
            Err(format!("MOEKIT_MPIRUN names {}, which is no file", path.display()))
        };
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join("mpirun")).find(|path| path.is_file()).ok_or_else(
        || {
            "no mpirun: `cargo xtask test` sets one up; or install Open MPI and put it on the PATH, \
             or name it in MOEKIT_MPIRUN"
                .into()
        },
    )
}
