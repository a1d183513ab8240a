//! What of the compiled kernels goes into the program.

use std::env;

/// Names the choice: `all` (if it is not set) or `cubin`.
pub const VARIABLE: &str = "MOEKIT_EMBED";

/// What is embedded.
#[derive(Debug, Clone, Copy)]
pub enum Embed {
    /// Machine code, and PTX for devices that do not take it.
    All,
    /// Machine code alone, for a small program that runs on Hopper GPUs.
    Cubin,
}

impl Embed {
    pub fn from_env() -> Result<Self, String> {
        match env::var(VARIABLE).as_deref() {
            Err(env::VarError::NotPresent) | Ok("" | "all") => Ok(Self::All),
            Ok("cubin") => Ok(Self::Cubin),
            other => Err(format!("{VARIABLE} is {other:?}, expected `all` or `cubin`")),
        }
    }
}
