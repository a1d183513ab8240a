//! Open MPI and libclang: the system's where both are there, else from pinned wheels.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cargo;
use crate::error::{Error, Result};
use crate::shell::Step;
use crate::toolchain::environment::{Change, Environment};
use crate::toolchain::venv::Venv;
use crate::toolchain::{libclang, pins, toolchain_dir};

const PROBE_LIMIT: Duration = Duration::from_secs(60);
/// Open MPI 4 is the first with the options that the tests pass to mpirun.
const OLDEST_MAJOR: u32 = 4;

/// An Open MPI with which the feature `mpi` builds and runs.
#[derive(Debug, serde::Serialize)]
pub struct Mpi {
    /// "system" or "wheels".
    pub source: &'static str,
    pub version: String,
    pub mpicc: PathBuf,
    pub mpirun: PathBuf,
    /// Folders of libmpi.
    pub lib_dirs: Vec<PathBuf>,
    /// Folder of libclang.
    pub libclang_dir: PathBuf,
}

impl Mpi {
    /// True if [`Mpi::ensure`] would install something, for which it needs Python.
    pub fn needs_install() -> bool {
        Self::find_system().is_none() && !venv().is_installed()
    }

    /// Finds Open MPI and libclang, or installs them.
    pub fn ensure() -> Result<Self> {
        let mpi = match Self::find_system() {
            Some(mpi) => mpi,
            None => {
                let venv = venv();
                venv.ensure(|venv| Self::from_venv(venv).map(drop))?;
                Self::from_venv(&venv)?
            }
        };
        mpi.rebuild_bindings_if_changed()?;
        Ok(mpi)
    }

    /// The environment in which the feature `mpi` builds, and its programs run.
    pub fn environment(&self) -> Result<Environment> {
        Ok(self.environment_with(&libclang::gcc_include_dir()?))
    }

    fn environment_with(&self, gcc_include: &Path) -> Environment {
        let mut changes = Vec::new();
        if self.source == WHEELS {
            let bin_dir = self.mpicc.parent().unwrap_or(&self.mpicc).to_path_buf();
            changes.push(("PATH", Change::Prepend(vec![bin_dir])));
        }
        changes.extend([
            // rsmpi sets no rpath.
            ("LD_LIBRARY_PATH", Change::Prepend(self.lib_dirs.clone())),
            ("MPICC", Change::Set(self.mpicc.clone().into())),
            ("MOEKIT_MPIRUN", Change::Set(self.mpirun.clone().into())),
            // Either of these would send rsmpi to another MPI.
            ("MPI_PKG_CONFIG", Change::Remove),
            ("CRAY_MPICH_DIR", Change::Remove),
        ]);
        changes.extend(libclang::changes(&self.libclang_dir, gcc_include));
        Environment(changes)
    }

    fn find_system() -> Option<Self> {
        let mpicc = find_on_path("mpicc")?;
        let libclang_dir = libclang::system_dir()?;
        Self::from_programs(SYSTEM, mpicc, libclang_dir).ok()
    }

    fn from_venv(venv: &Venv) -> Result<Self> {
        Self::from_programs(WHEELS, venv.dir().join("bin/mpicc"), libclang::dir_in(venv)?)
    }

    fn from_programs(source: &'static str, mpicc: PathBuf, libclang_dir: PathBuf) -> Result<Self> {
        let ask =
            |argument| Step::new("ask mpicc", &mpicc).args([argument]).limit(PROBE_LIMIT).probe();
        let version = open_mpi_version(&ask("--showme:version")?)?;
        let lib_dirs = ask("--showme:libdirs")?.split_whitespace().map(PathBuf::from).collect();
        let mpirun = mpicc.with_file_name("mpirun");
        Step::new("ask mpirun", &mpirun).args(["--version"]).limit(PROBE_LIMIT).probe()?;
        Ok(Self { source, version, mpicc, mpirun, lib_dirs, libclang_dir })
    }

    /// Drops the compiled bindings when they were made with another MPI: rsmpi's build script
    /// does not see the change, and would go on linking the old one.
    fn rebuild_bindings_if_changed(&self) -> Result<()> {
        let record_file = toolchain_dir().join("mpi-in-use.txt");
        let record = format!("{} {}\n", self.mpicc.display(), self.version);
        if fs::read_to_string(&record_file).is_ok_and(|it| it == record) {
            return Ok(());
        }
        for profile in ["dev", "release"] {
            let purpose = "drop MPI bindings made with another MPI";
            cargo::step(purpose, &["clean", "--package", "mpi-sys", "--profile", profile])
                .run_on_stderr()?;
        }
        fs::create_dir_all(toolchain_dir()).map_err(Error::io("create", toolchain_dir()))?;
        fs::write(&record_file, record).map_err(Error::io("write", record_file))
    }
}

const SYSTEM: &str = "system";
const WHEELS: &str = "wheels";

fn venv() -> Venv {
    Venv::new(&toolchain_dir(), &pins::MPI)
}

/// Reads `mpicc: Open MPI 5.0.11 (Language: C)`; other MPIs and old ones are refused.
fn open_mpi_version(text: &str) -> Result<String> {
    let version = text.split_once("Open MPI ").map(|(_, rest)| rest);
    let version = version.and_then(|rest| rest.split_whitespace().next()).unwrap_or_default();
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_some_and(|major| major >= OLDEST_MAJOR) {
        return Ok(version.to_owned());
    }
    Err(Error::Unexpected {
        what: "mpicc --showme:version".to_owned(),
        expected: format!("Open MPI {OLDEST_MAJOR} or later"),
        got: text.trim().to_owned(),
    })
}

/// `program` on PATH; not our own wheels', which count only with a fitting stamp.
fn find_on_path(program: &str) -> Option<PathBuf> {
    let (path, own_dir) = (std::env::var_os("PATH")?, toolchain_dir());
    std::env::split_paths(&path)
        .filter(|dir| !dir.starts_with(&own_dir))
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mpi(source: &'static str) -> Mpi {
        Mpi {
            source,
            version: "5.0.11".to_owned(),
            mpicc: "/t/mpi/bin/mpicc".into(),
            mpirun: "/t/mpi/bin/mpirun".into(),
            lib_dirs: vec!["/t/mpi/lib".into()],
            libclang_dir: "/t/clang".into(),
        }
    }

    fn change<'a>(environment: &'a Environment, name: &str) -> Option<&'a Change> {
        environment.0.iter().find(|(it, _)| *it == name).map(|(_, change)| change)
    }

    #[test]
    fn open_mpi_is_told_from_other_mpis_and_from_old_ones() {
        let version = open_mpi_version("mpicc: Open MPI 5.0.11 (Language: C)\n");
        assert_eq!(version.expect("Open MPI 5"), "5.0.11");
        assert_eq!(open_mpi_version("mpicc: Open MPI 4.1.4 (Language: C)").expect("4"), "4.1.4");
        for other in ["mpicc: Open MPI 1.10.7 (Language: C)", "mpicc for MPICH version 4.0.2", ""] {
            let error = open_mpi_version(other).expect_err(other);
            assert!(error.to_string().contains("Open MPI 4 or later"), "{error}");
        }
    }

    #[test]
    fn the_environment_names_all_that_building_and_running_take() {
        let environment = mpi(WHEELS).environment_with("/gcc/include".as_ref());
        let expected = [
            ("PATH", Change::Prepend(vec!["/t/mpi/bin".into()])),
            ("LD_LIBRARY_PATH", Change::Prepend(vec!["/t/mpi/lib".into()])),
            ("LIBCLANG_PATH", Change::Set("/t/clang".into())),
            ("BINDGEN_EXTRA_CLANG_ARGS", Change::Append("-isystem /gcc/include".to_owned())),
            ("MOEKIT_MPIRUN", Change::Set("/t/mpi/bin/mpirun".into())),
            ("MPI_PKG_CONFIG", Change::Remove),
        ];
        for (name, wanted) in expected {
            assert_eq!(change(&environment, name), Some(&wanted), "{name}");
        }
    }

    #[test]
    fn a_system_mpi_leaves_the_path_as_it_is() {
        let environment = mpi(SYSTEM).environment_with("/gcc/include".as_ref());
        assert_eq!(change(&environment, "PATH"), None);
    }
}
