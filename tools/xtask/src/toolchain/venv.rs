//! Installs a set of pinned wheels into a virtual environment of its own.
//!
//! The stamp is written last and holds all that the installation depends on: what lacks a stamp,
//! or has another one, is made anew. A virtual environment cannot be moved, so its folder is part
//! of the stamp.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use crate::error::{Error, Result};
use crate::shell::Step;
use crate::toolchain::lock::Lock;
use crate::toolchain::pins::PinSet;

const STAMP_FILE: &str = "moekit-pins.txt";
/// An installation of 340 MB over a slow line.
const INSTALL_LIMIT: Duration = Duration::from_secs(30 * 60);
/// Two installations may wait in line.
const LOCK_LIMIT: Duration = Duration::from_secs(60 * 60);

/// A set of wheels in its folder.
pub struct Venv {
    set: &'static PinSet,
    dir: PathBuf,
}

impl Venv {
    /// The place of `set` below `toolchain_dir`, installed or not.
    pub fn new(toolchain_dir: &Path, set: &'static PinSet) -> Self {
        Self { set, dir: toolchain_dir.join(set.name) }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// True if exactly these pins were installed here, and completely.
    pub fn is_installed(&self) -> bool {
        fs::read_to_string(self.dir.join(STAMP_FILE)).is_ok_and(|stamp| stamp == self.stamp())
    }

    /// Installs the wheels unless they are there; `verify` tries them before they count as there.
    pub fn ensure(&self, verify: impl FnOnce(&Self) -> Result<()>) -> Result<()> {
        if self.is_installed() {
            return Ok(());
        }
        self.install(verify)
            .map_err(|source| Error::Setup { name: self.set.name, source: Box::new(source) })
    }

    fn install(&self, verify: impl FnOnce(&Self) -> Result<()>) -> Result<()> {
        let toolchain_dir = self.dir.parent().unwrap_or(&self.dir);
        fs::create_dir_all(toolchain_dir).map_err(Error::io("create", toolchain_dir))?;
        let lock = Lock::acquire(&toolchain_dir.join("install.lock"), LOCK_LIMIT)?;
        if self.is_installed() {
            return Ok(());
        }
        match fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io("remove", &self.dir)(error));
            }
            _ => {}
        }
        self.create(&lock)?;
        self.fill(&lock)?;
        verify(self)?;
        let stamp_file = self.dir.join(STAMP_FILE);
        fs::write(&stamp_file, self.stamp()).map_err(Error::io("write", stamp_file))
    }

    fn create(&self, lock: &Lock) -> Result<()> {
        python_step("make a virtual environment", "python3")
            .args(["-m", "venv"])
            .args([&self.dir])
            .limit(INSTALL_LIMIT)
            .stdin(lock.share()?)
            .remedy("apt-get install -y python3-venv python3-pip (Debian, Ubuntu), and see above")
            .run_on_stderr()
    }

    fn fill(&self, lock: &Lock) -> Result<()> {
        let purpose = format!(
            "install the {} toolchain's wheels ({} MB on disk)",
            self.set.name, self.set.installed_mb
        );
        // Without --no-deps pip would add packages that nothing pins.
        let options = ["-m", "pip", "install", "--no-input", "--no-deps", "--only-binary", ":all:"];
        python_step(&purpose, self.dir.join("bin/python"))
            .args(options)
            .args(self.set.requirements())
            .limit(INSTALL_LIMIT)
            .stdin(lock.share()?)
            .remedy(format!(
                "see that pip reaches its package index (its own settings for proxies and mirrors \
                 apply), that {} MB are free and that this is Linux on x86-64 or arm64; then run \
                 the command again. {}",
                self.set.installed_mb, self.set.alternative
            ))
            .run_on_stderr()
    }

    /// The folder that holds the wheels' modules.
    pub fn site_packages(&self) -> Result<PathBuf> {
        let lib_dir = self.dir.join("lib");
        let entries = fs::read_dir(&lib_dir).map_err(Error::io("list", &lib_dir))?;
        entries
            .filter_map(|entry| Some(entry.ok()?.path().join("site-packages")))
            .find(|path| path.is_dir())
            .ok_or_else(|| Error::Unexpected {
                what: lib_dir.display().to_string(),
                expected: "python3.*/site-packages".to_owned(),
                got: "nothing of that name".to_owned(),
            })
    }

    fn stamp(&self) -> String {
        format!("{}\n{}\n", self.dir.display(), self.set.requirements().join("\n"))
    }
}

/// Python without the user's settings that would send the installation elsewhere.
fn python_step(purpose: &str, python: impl AsRef<std::ffi::OsStr>) -> Step {
    ["PYTHONPATH", "PYTHONHOME", "PIP_USER", "PIP_TARGET", "PIP_PREFIX"]
        .iter()
        .fold(Step::new(purpose, python), |step, name| step.env_remove(name))
        .env("PIP_DISABLE_PIP_VERSION_CHECK", "1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toolchain::pins::{CUDA, MPI};

    #[test]
    fn a_folder_counts_as_installed_only_with_its_own_stamp() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let venv = Venv::new(root.path(), &MPI);
        assert!(!venv.is_installed(), "nothing is there");

        fs::create_dir_all(venv.dir()).expect("create the folder");
        fs::write(venv.dir().join(STAMP_FILE), venv.stamp()).expect("write the stamp");
        assert!(venv.is_installed(), "its own stamp is there");

        fs::write(venv.dir().join(STAMP_FILE), Venv::new(root.path(), &CUDA).stamp())
            .expect("write another stamp");
        assert!(!venv.is_installed(), "the stamp names other pins");
    }

    #[test]
    fn a_stamp_from_another_folder_does_not_count() {
        let (here, there) = (Venv::new("/a".as_ref(), &MPI), Venv::new("/b".as_ref(), &MPI));
        assert_ne!(here.stamp(), there.stamp());
    }

    #[test]
    fn an_installed_set_is_left_alone() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let venv = Venv::new(root.path(), &MPI);
        fs::create_dir_all(venv.dir()).expect("create the folder");
        fs::write(venv.dir().join(STAMP_FILE), venv.stamp()).expect("write the stamp");
        venv.ensure(|_| panic!("verify must not run")).expect("nothing to do");
    }
}
