//! Finds nvcc.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Variables that decide which nvcc is used.
pub const VARIABLES: [&str; 3] = ["MOEKIT_NVCC", "CUDA_HOME", "CUDA_PATH"];
/// Oldest release that compiles the kernels.
const OLDEST: (u32, u32) = (12, 9);
/// Where `cargo xtask toolchain --cuda` puts the pinned one, below the repository.
const PINNED: &str = "target/toolchain/cuda/toolkit/bin/nvcc";

/// A compiler that works.
#[derive(Debug)]
pub struct Nvcc {
    pub path: PathBuf,
    /// Such as "13.2.86".
    pub version: String,
}

impl Nvcc {
    /// The one that MOEKIT_NVCC names ("none": no kernels), else the pinned one, else the system's.
    pub fn find(root: &Path) -> Result<Option<Self>, String> {
        match env::var("MOEKIT_NVCC").as_deref() {
            Ok("none") => return Ok(None),
            Ok(path) if !path.is_empty() => {
                return Self::at(Path::new(path)).map(Some).map_err(|problem| {
                    format!("MOEKIT_NVCC: {problem}; unset it, or set it to `none` for no kernels")
                });
            }
            _ => {}
        }
        for path in candidates(root).into_iter().filter(|path| path.is_file()) {
            match Self::at(&path) {
                Ok(nvcc) => return Ok(Some(nvcc)),
                Err(problem) => println!("cargo::warning=nvcc passed over: {problem}"),
            }
        }
        Ok(None)
    }

    fn at(path: &Path) -> Result<Self, String> {
        let name = path.display();
        let output = Command::new(path).arg("--version").output();
        let output = output.map_err(|error| format!("{name} does not start: {error}"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let version = parse_version(&text).ok_or(format!("{name} does not tell its release"))?;
        let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
        let release: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        if release < OLDEST {
            let (major, minor) = OLDEST;
            return Err(format!("{name} is {version}, and {major}.{minor} or later is needed"));
        }
        Ok(Self { path: path.to_owned(), version: version.to_owned() })
    }
}

fn candidates(root: &Path) -> Vec<PathBuf> {
    let homes = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(env::var_os);
    let in_homes = homes.map(|home| PathBuf::from(home).join("bin/nvcc"));
    let path = env::var_os("PATH").unwrap_or_default();
    let on_path: Vec<_> = env::split_paths(&path).map(|dir| dir.join("nvcc")).collect();
    let usual = PathBuf::from("/usr/local/cuda/bin/nvcc");
    [root.join(PINNED)].into_iter().chain(in_homes).chain(on_path).chain([usual]).collect()
}

/// `Cuda compilation tools, release 13.2, V13.2.86` -> `13.2.86`
fn parse_version(text: &str) -> Option<&str> {
    let (_, version) = text.split_once(", V")?;
    version.split_whitespace().next()
}
