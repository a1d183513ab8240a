//! `cargo xtask abi`: the Rust mirrors of `csrc/abi`.

use std::process::ExitCode;

use crate::cargo;
use crate::error::Result;
use crate::prerequisites::{self, Tool};
use crate::toolchain::libclang;

#[derive(clap::Args)]
pub struct Args {
    /// Compare what is checked in instead of writing it.
    #[arg(long)]
    check: bool,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let python = libclang::needs_install().then_some(Tool::Python);
    prerequisites::check(prerequisites::BUILD.into_iter().chain(python))?;
    let mut words = vec!["run", "--quiet", "--package", "moekit-abi"];
    if args.check {
        words.extend(["--", "--check"]);
    }
    let step = cargo::step("read csrc/abi with bindgen", &words);
    libclang::ensure()?.apply(step).run()?;
    Ok(ExitCode::SUCCESS)
}
