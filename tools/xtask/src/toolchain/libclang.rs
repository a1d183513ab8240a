//! libclang, with which bindgen reads mpi.h and the kernels' structs: the system's, else a wheel's.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::shell::Step;
use crate::toolchain::environment::{Change, Environment};
use crate::toolchain::venv::Venv;
use crate::toolchain::{pins, toolchain_dir};

const PROBE_LIMIT: Duration = Duration::from_secs(60);

/// The environment in which bindgen finds a libclang; installs one if there is none.
pub fn ensure() -> Result<Environment> {
    let dir = match found()? {
        Some(dir) => dir,
        None => {
            let venv = own_venv();
            venv.ensure(|venv| dir_in(venv).map(drop))?;
            dir_in(&venv)?
        }
    };
    environment(&dir)
}

/// As [`ensure`], but installs nothing.
pub fn if_there() -> Result<Option<Environment>> {
    found()?.map(|dir| environment(&dir)).transpose()
}

/// True if [`ensure`] would install something, for which it needs Python.
pub fn needs_install() -> bool {
    !matches!(found(), Ok(Some(_)))
}

fn own_venv() -> Venv {
    Venv::new(&toolchain_dir(), &pins::CLANG)
}

/// The system's, MPI's, or the one of its own.
fn found() -> Result<Option<PathBuf>> {
    if let Some(dir) = system_dir() {
        return Ok(Some(dir));
    }
    let venvs = [Venv::new(&toolchain_dir(), &pins::MPI), own_venv()];
    venvs.iter().find(|venv| venv.is_installed()).map(dir_in).transpose()
}

/// The folder of a wheel's libclang.
pub fn dir_in(venv: &Venv) -> Result<PathBuf> {
    let dir = venv.site_packages()?.join("clang/native");
    let library = dir.join("libclang.so");
    fs::metadata(&library).map_err(Error::io("find", library))?;
    Ok(dir)
}

fn environment(dir: &Path) -> Result<Environment> {
    Ok(Environment(changes(dir, &gcc_include_dir()?).into()))
}

/// What bindgen takes to find libclang in `dir` and the compiler's headers.
pub fn changes(dir: &Path, gcc_include: &Path) -> [(&'static str, Change); 2] {
    // A libclang without clang's own headers lacks stddef.h; gcc's will do.
    let headers = format!("-isystem {}", gcc_include.display());
    [
        ("LIBCLANG_PATH", Change::Set(dir.into())),
        ("BINDGEN_EXTRA_CLANG_ARGS", Change::Append(headers)),
    ]
}

pub fn gcc_include_dir() -> Result<PathBuf> {
    let step = Step::new("ask gcc for its headers", "gcc").args(["-print-file-name=include"]);
    Ok(PathBuf::from(step.limit(PROBE_LIMIT).probe()?.trim()))
}

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
