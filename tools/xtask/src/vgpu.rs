//! The virtual GPU's driver, in place of libcuda.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::error::{Error, Result};
use crate::toolchain::{Change, Environment};
use crate::{cargo, workspace};

/// The names under which programs look for the driver.
const LIBRARIES: [&str; 2] = ["libcuda.so", "libcuda.so.1"];

/// Chooses what kernels are checked for; all, unless the caller says something else.
const CHECKS: &str = "VGPU_CHECK";

/// Builds the driver and changes `environment` so that programs find it before any other, and it looks
/// for every mistake.
pub fn add_to(environment: &mut Environment) -> Result<()> {
    let library = cargo::build_cdylib("vgpu-driver")?;
    let folder = workspace::target_dir().join("vgpu");
    fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
    for name in LIBRARIES {
        replace_link(&library, &folder.join(name))?;
    }
    environment.prepend("LD_LIBRARY_PATH", folder);
    if std::env::var_os(CHECKS).is_none() {
        environment.0.push((CHECKS, Change::Set("all".into())));
    }
    Ok(())
}

fn replace_link(target: &Path, link: &Path) -> Result<()> {
    match fs::remove_file(link) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::io("replace", link)(error)),
        _ => symlink(target, link).map_err(Error::io("link", link)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_made_and_made_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let link = folder.path().join("libcuda.so");
        for target in ["/first", "/second"] {
            replace_link(Path::new(target), &link).expect("a link");
            assert_eq!(fs::read_link(&link).expect("a link"), Path::new(target));
        }
    }
}
