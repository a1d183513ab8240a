//! The virtual GPU's driver, in place of libcuda.

use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::shell::Step;
use crate::toolchain::{Change, Environment};
use crate::workspace;

/// The names under which programs look for the driver.
const LIBRARIES: [&str; 2] = ["libcuda.so", "libcuda.so.1"];

/// When asynchronous work of the virtual GPU completes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// As soon as it is issued.
    Earliest,
    /// When a thread waits for it and nothing else can go on.
    Latest,
    /// At random moments; the number is the seed.
    Random(u64),
}

impl Mode {
    /// Those in which the tests run kernels.
    pub const TESTED: [Mode; 4] = [Mode::Earliest, Mode::Latest, Mode::Random(1), Mode::Random(2)];

    /// Has `step` run in this mode.
    pub fn apply(self, step: Step) -> Step {
        step.env("VGPU_ASYNC", self.to_string())
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "earliest" => return Ok(Self::Earliest),
            "latest" => return Ok(Self::Latest),
            _ => {}
        }
        let seed = text.strip_prefix("random:").and_then(|seed| seed.parse().ok());
        seed.map(Self::Random).ok_or_else(|| "expected earliest, latest or random:SEED".to_owned())
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Earliest => f.write_str("earliest"),
            Self::Latest => f.write_str("latest"),
            Self::Random(seed) => write!(f, "random:{seed}"),
        }
    }
}

/// The file in which the driver writes down what is wrong with kernels.
pub struct Findings(PathBuf);

/// How the driver begins each finding.
const FINDING: &str = "vgpu: ";

impl Findings {
    /// A file without findings.
    pub fn new() -> Result<Self> {
        let folder = workspace::target_dir().join("vgpu");
        fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        let file = folder.join(format!("findings-{}.txt", std::process::id()));
        fs::write(&file, "").map_err(Error::io("write", &file))?;
        Ok(Self(file))
    }

    /// Has `step` write its findings here.
    pub fn apply(&self, step: Step) -> Step {
        step.env("VGPU_FAULT_FILE", &self.0)
    }

    /// The findings; the file is gone then.
    pub fn take(self) -> Result<Vec<String>> {
        let text = fs::read_to_string(&self.0).map_err(Error::io("read", &self.0))?;
        fs::remove_file(&self.0).map_err(Error::io("remove", &self.0))?;
        Ok(split(&text))
    }
}

/// Findings of one or more lines each.
fn split(text: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for line in text.lines() {
        match (line.strip_prefix(FINDING), all.last_mut()) {
            (Some(first), _) => all.push(first.to_owned()),
            (None, Some(last)) => *last += &format!("\n{line}"),
            (None, None) => all.push(line.to_owned()),
        }
    }
    all
}

/// Chooses what kernels are checked for; all, unless the caller says something else.
const CHECKS: &str = "VGPU_CHECK";

/// Changes `environment` so that programs find the driver `library` before any other, and it looks for every
/// mistake.
pub fn add_to(environment: &mut Environment, library: &Path) -> Result<()> {
    let folder = workspace::target_dir().join("vgpu");
    fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
    for name in LIBRARIES {
        replace_link(library, &folder.join(name))?;
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
    fn modes_are_read_and_written() {
        for mode in Mode::TESTED {
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
        assert!("random".parse::<Mode>().is_err() && "random:x".parse::<Mode>().is_err());
    }

    #[test]
    fn a_finding_keeps_its_lines_together() {
        let text = "vgpu: CUDA_ERROR_ASSERT: kernel `a`\n  at PTX line 3\nvgpu: CUDA_ERROR_X: b\n";
        assert_eq!(
            split(text),
            ["CUDA_ERROR_ASSERT: kernel `a`\n  at PTX line 3", "CUDA_ERROR_X: b"]
        );
        assert!(split("").is_empty());
    }

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
