//! `moekit info`: what was found on this machine.

use std::ffi::c_int;
use std::process::Command;

use clap::Args;
use moekit::backend::cuda::{KERNEL_MODULES, NVCC_VERSION};
use moekit::backend::{Limits, SimdLevel};
use moekit::{Cpu, Result};
use serde::Serialize;

use crate::output::{OutputArgs, num_cores};

/// Say what was found: processor, MPI, nvcc, CUDA driver.
#[derive(Debug, Args)]
pub struct InfoArgs {
    /// Measure the processor's limits too, in about a second
    #[arg(long)]
    measure: bool,

    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Serialize)]
struct Info {
    version: &'static str,
    simd: String,
    simd_levels: Vec<String>,
    num_cores: usize,
    /// Whether this program can be a rank under mpirun.
    built_with_mpi: bool,
    mpirun: Option<String>,
    nvcc: Option<String>,
    /// CUDA kernels in this program.
    num_kernels: usize,
    /// Release of the nvcc that compiled them.
    kernels_nvcc: Option<&'static str>,
    /// CUDA version that the driver supports, such as 13.2.
    cuda_driver: Option<String>,
    limits: Option<Limits>,
}

/// Runs the command.
pub fn run(args: &InfoArgs) -> Result<()> {
    let best = Cpu::new().simd();
    let info = Info {
        version: env!("CARGO_PKG_VERSION"),
        simd: best.to_string(),
        simd_levels: SimdLevel::ALL
            .iter()
            .filter(|level| **level <= best)
            .map(ToString::to_string)
            .collect(),
        num_cores: num_cores(),
        built_with_mpi: cfg!(feature = "mpi"),
        mpirun: version_of("mpirun", |line| line.contains("mpirun")),
        nvcc: version_of("nvcc", |line| line.contains("release")),
        num_kernels: KERNEL_MODULES.iter().map(|module| module.kernels.len()).sum(),
        kernels_nvcc: NVCC_VERSION,
        cuda_driver: cuda_driver(),
        limits: args.measure.then(Limits::measure),
    };
    args.output.print(&info, Info::text)
}

impl Info {
    fn text(&self) -> String {
        let or_none = |found: &Option<String>| found.clone().unwrap_or("not found".to_owned());
        let mut lines = vec![
            ("moekit", self.version.to_owned()),
            (
                "processor",
                format!(
                    "{} cores, {} (of {})",
                    self.num_cores,
                    self.simd,
                    self.simd_levels.join(", ")
                ),
            ),
            (
                "MPI in moekit",
                if self.built_with_mpi { "yes" } else { "no (feature `mpi`)" }.to_owned(),
            ),
            ("mpirun", or_none(&self.mpirun)),
            ("nvcc", or_none(&self.nvcc)),
            (
                "CUDA kernels",
                match self.kernels_nvcc {
                    Some(nvcc) => format!("{}, compiled by nvcc {nvcc}", self.num_kernels),
                    None => "none (no nvcc when moekit was built)".to_owned(),
                },
            ),
            ("CUDA driver", or_none(&self.cuda_driver)),
        ];
        if let Some(limits) = &self.limits {
            let Limits { num_threads, fma_gflop_per_s, memcpy_gb_per_s, read_gb_per_s } = limits;
            let found = format!(
                "FP32 FMA {fma_gflop_per_s:.0} GFLOP/s, memcpy {memcpy_gb_per_s:.1} GB/s, \
                 read {read_gb_per_s:.1} GB/s ({num_threads} threads)"
            );
            lines.push(("limits", found));
        }
        lines.iter().map(|(name, found)| format!("{name:<14} {found}\n")).collect()
    }
}

/// The line of `PROGRAM --version` that tells the version.
fn version_of(program: &str, is_version: impl Fn(&str) -> bool) -> Option<String> {
    let output = Command::new(program).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().find(|line| is_version(line)).map(|line| line.trim().to_owned())
}

fn cuda_driver() -> Option<String> {
    // SAFETY: the CUDA driver's initialisers are meant to run in any process that loads it.
    let library = unsafe { libloading::Library::new("libcuda.so.1") }.ok()?;
    type DriverGetVersion = unsafe extern "C" fn(*mut c_int) -> c_int;
    // SAFETY: the type is that of `cuDriverGetVersion` in the CUDA driver API.
    let get_version = unsafe { library.get::<DriverGetVersion>(b"cuDriverGetVersion\0") }.ok()?;
    let mut version = 0;
    // SAFETY: the pointer is that of a live integer.
    let status = unsafe { get_version(&mut version) };
    (status == 0).then(|| format!("CUDA {}.{}", version / 1000, version % 1000 / 10))
}
