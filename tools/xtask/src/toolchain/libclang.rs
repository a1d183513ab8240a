//! Finds the system's libclang, with which bindgen reads mpi.h.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use crate::shell::Step;
use crate::toolchain::toolchain_dir;

/// The folder of a system libclang, in the order of: LIBCLANG_PATH, llvm-config, usual places.
pub fn system_dir() -> Option<PathBuf> {
    let named = std::env::var_os("LIBCLANG_PATH").map(PathBuf::from);
    let configured = Step::new("ask llvm-config", "llvm-config").args(["--libdir"]).probe().ok();
    let configured = configured.map(|dir| PathBuf::from(dir.trim()));
    named
        .into_iter()
        .chain(configured)
        .chain(usual_dirs())
        .find(|dir| !dir.starts_with(toolchain_dir()) && holds_libclang(dir))
}

fn usual_dirs() -> Vec<PathBuf> {
    let mut dirs: Vec<PathBuf> =
        ["/usr/lib64", "/usr/lib", "/usr/local/lib"].map(Into::into).into();
    for entry in fs::read_dir("/usr/lib").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("llvm") {
            dirs.push(entry.path().join("lib"));
        } else if name.contains("-linux-gnu") {
            dirs.push(entry.path());
        }
    }
    dirs.sort();
    // The highest version first; LLVM's own folders come before the others.
    dirs.sort_by_key(|dir| std::cmp::Reverse(llvm_version(dir)));
    dirs
}

/// `/usr/lib/llvm-19/lib` -> 19; 0 for folders without a version.
fn llvm_version(dir: &Path) -> u32 {
    let parent = dir.parent().and_then(Path::file_name).and_then(OsStr::to_str);
    let version = parent.and_then(|name| name.strip_prefix("llvm-"));
    version.and_then(|version| version.parse().ok()).unwrap_or(0)
}

fn holds_libclang(dir: &Path) -> bool {
    fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .any(|entry| entry.file_name().to_str().is_some_and(is_libclang))
}

/// The C library: `libclang.so`, `libclang.so.1`, `libclang-14.so.1`; not `libclang-cpp.so.14`.
fn is_libclang(file_name: &str) -> bool {
    let Some(rest) = file_name.strip_prefix("libclang") else { return false };
    let version_end = rest.find(".so").unwrap_or(0);
    let (version, suffix) = rest.split_at(version_end);
    let is_c_library = version.is_empty()
        || version.strip_prefix('-').is_some_and(|it| it.starts_with(|c: char| c.is_ascii_digit()));
    is_c_library && (suffix == ".so" || suffix.starts_with(".so."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_c_library_is_told_from_the_cpp_one() {
        for name in ["libclang.so", "libclang.so.1", "libclang-14.so.1", "libclang-14.0.6.so"] {
            assert!(is_libclang(name), "{name}");
        }
        for name in
            ["libclang-cpp.so.14", "libclang.a", "libclangAST.so", "libclang_rt.so", "clang"]
        {
            assert!(!is_libclang(name), "{name}");
        }
    }

    #[test]
    fn versioned_folders_are_ordered_by_number() {
        assert_eq!(llvm_version("/usr/lib/llvm-9/lib".as_ref()), 9);
        assert_eq!(llvm_version("/usr/lib/llvm-19/lib".as_ref()), 19);
        assert_eq!(llvm_version("/usr/lib64".as_ref()), 0);
    }
}
