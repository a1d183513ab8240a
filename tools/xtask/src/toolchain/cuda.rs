//! nvcc and its tools, from pinned wheels.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cargo;
use crate::error::{Error, Result};
use crate::shell::Step;
use crate::toolchain::environment::{Change, Environment};
use crate::toolchain::venv::Venv;
use crate::toolchain::{pins, toolchain_dir};

const PROBE_LIMIT: Duration = Duration::from_secs(120);
const PROBE_KERNEL: &str =
    "__global__ void probe(float* values) { values[threadIdx.x] *= 2.0f; }\n";

/// The pinned CUDA compiler.
#[derive(Debug, serde::Serialize)]
pub struct Cuda {
    pub version: &'static str,
    /// `bin`, `include`, `lib`, `nvvm`; the same path whatever Python made it.
    pub toolkit: PathBuf,
    pub nvcc: PathBuf,
}

impl Cuda {
    /// True if [`Cuda::ensure`] would install something, for which it needs Python.
    pub fn needs_install() -> bool {
        !venv().is_installed()
    }

    /// Installs the pinned compiler unless it is there.
    pub fn ensure() -> Result<Self> {
        let venv = venv();
        let toolkit = venv.dir().join("toolkit");
        let cuda = Self { version: pins::CUDA_VERSION, nvcc: toolkit.join("bin/nvcc"), toolkit };
        let was_installed = venv.is_installed();
        venv.ensure(|venv| {
            let target = venv.site_packages()?.join("nvidia/cu13");
            symlink(&target, &cuda.toolkit).map_err(Error::io("link", &cuda.toolkit))?;
            cuda.verify(venv.dir())
        })?;
        if !was_installed {
            drop_builds_without_kernels()?;
        }
        Ok(cuda)
    }

    /// Where the pinned toolkit is, or would be.
    pub fn toolkit_dir() -> PathBuf {
        venv().dir().join("toolkit")
    }

    /// The environment in which builds use this nvcc.
    pub fn environment(&self) -> Environment {
        Environment(vec![("MOEKIT_NVCC", Change::Set(self.nvcc.clone().into()))])
    }

    /// Asks nvcc's release and compiles a kernel, which also tries the C++ host compiler.
    fn verify(&self, scratch_dir: &Path) -> Result<()> {
        let text = Step::new("ask nvcc", &self.nvcc).args(["--version"]).limit(PROBE_LIMIT);
        let text = text.probe()?;
        if !text.contains(&format!("V{}", self.version)) {
            return Err(Error::Unexpected {
                what: "nvcc --version".to_owned(),
                expected: format!("V{}", self.version),
                got: text.trim().to_owned(),
            });
        }
        let (source, cubin) = (scratch_dir.join("probe.cu"), scratch_dir.join("probe.cubin"));
        fs::write(&source, PROBE_KERNEL).map_err(Error::io("write", &source))?;
        Step::new("try nvcc on a kernel for sm_90a", &self.nvcc)
            .args(["-gencode=arch=compute_90a,code=sm_90a", "-cubin", "-o"])
            .args([&cubin, &source])
            .limit(PROBE_LIMIT)
            .remedy("nvcc needs g++: apt-get install -y build-essential (Debian, Ubuntu)")
            .run_on_stderr()?;
        for file in [source, cubin] {
            fs::remove_file(&file).map_err(Error::io("remove", file))?;
        }
        Ok(())
    }
}

/// moekit's build script does not see that nvcc has come, and would keep its empty kernel table.
fn drop_builds_without_kernels() -> Result<()> {
    for profile in ["dev", "release"] {
        let purpose = "drop builds of moekit without kernels";
        cargo::step(purpose, &["clean", "--package", "moekit", "--profile", profile])
            .run_on_stderr()?;
    }
    Ok(())
}

fn venv() -> Venv {
    Venv::new(&toolchain_dir(), &pins::CUDA)
}
