//! The compiled kernels that this build holds.

use crate::error::{Error, Result};

/// One file of `csrc/instances`, compiled.
#[derive(Debug)]
pub struct KernelModule {
    /// The file's stem, such as "quant".
    pub name: &'static str,
    /// Names of its kernels, such as "quantize_bf16".
    pub kernels: &'static [&'static str],
    /// Machine code for SM 9.0a.
    pub cubin: &'static [u8],
    /// PTX text, for devices that do not take the cubin; empty in a build with `MOEKIT_EMBED=cubin`.
    pub ptx: &'static str,
}

/// Every compiled file of instances; empty where there was no nvcc.
pub static KERNEL_MODULES: &[KernelModule] = include!(concat!(env!("OUT_DIR"), "/kernel_table.rs"));

/// Release of the nvcc that compiled the kernels, such as "13.2.86".
pub const NVCC_VERSION: Option<&str> = option_env!("MOEKIT_NVCC_VERSION");

/// [`Error::KernelsNotBuilt`] in a build without kernels.
pub(super) fn check_built() -> Result<()> {
    if KERNEL_MODULES.is_empty() {
        return Err(Error::KernelsNotBuilt { op: "cuda backend" });
    }
    Ok(())
}
