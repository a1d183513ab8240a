//! The check of a GPU as one program that needs nothing of this repository: the conformance cases and the
//! timing table with the kernels' machine code in it.

use std::fs;
use std::path::PathBuf;

use crate::built::Built;
use crate::check::CONFORMANCE;
use crate::error::{Error, Result};
use crate::toolchain::{Change, Environment};
use crate::workspace;

/// Cargo's profile, which strips.
const PROFILE: &str = "gpu-check";
const NAME: &str = "moekit-gpu-check";
/// So that it is quickly copied to a machine far away.
const MAX_BYTES: u64 = 64 << 20;

/// Builds the program and says on standard error where it is.
pub fn build() -> Result<PathBuf> {
    let machine_code_alone = Change::Set("cubin".into());
    let environment = Environment(vec![("MOEKIT_EMBED", machine_code_alone)]);
    let args = ["test", "--test", CONFORMANCE, "--no-run", "--profile", PROFILE];
    let built = Built::new("build the check of a GPU", &args, &environment)?.test(CONFORMANCE)?;
    let program = workspace::target_dir().join(PROFILE).join(NAME);
    let num_bytes = fs::copy(&built, &program).map_err(Error::io("copy to", &program))?;
    if num_bytes > MAX_BYTES {
        return Err(Error::Unexpected {
            what: program.display().to_string(),
            expected: format!("at most {MAX_BYTES} bytes"),
            got: num_bytes.to_string(),
        });
    }
    let mib = num_bytes as f64 / f64::from(1 << 20);
    eprintln!("==> built {}, {mib:.1} MiB", program.display());
    eprintln!("    elsewhere: copy it there, then ./{NAME} --backend gpu --timing");
    Ok(program)
}
