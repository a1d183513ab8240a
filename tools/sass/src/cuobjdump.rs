//! The program that lists cubins.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Instruction, Resources, parse_listing, parse_resources};

/// `cuobjdump` of a CUDA toolkit.
#[derive(Debug, Clone)]
pub struct Cuobjdump {
    program: PathBuf,
}

impl Cuobjdump {
    /// The one in `toolkit`, if it is there.
    pub fn in_toolkit(toolkit: &Path) -> Option<Self> {
        let program = toolkit.join("bin/cuobjdump");
        program.is_file().then_some(Self { program })
    }

    /// What every kernel of a cubin takes.
    ///
    /// # Errors
    ///
    /// What cuobjdump writes when it fails, or a line that is not understood.
    pub fn resources(&self, cubin: &Path) -> Result<Vec<Resources>, String> {
        parse_resources(&self.run(&["--dump-resource-usage".as_ref(), cubin.as_os_str()])?)
    }

    /// The instructions of one kernel of a cubin.
    ///
    /// # Errors
    ///
    /// What cuobjdump writes when it fails, or a line that is not understood.
    pub fn instructions(&self, cubin: &Path, kernel: &str) -> Result<Vec<Instruction>, String> {
        let args = ["-sass".as_ref(), "-fun".as_ref(), kernel.as_ref(), cubin.as_os_str()];
        parse_listing(&self.run(&args)?)
    }

    fn run(&self, args: &[&std::ffi::OsStr]) -> Result<String, String> {
        let output = Command::new(&self.program).args(args).output();
        let output = output.map_err(|error| format!("{}: {error}", self.program.display()))?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
