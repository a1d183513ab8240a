//! What must be on the machine before anything is built: everything missing is told at once.

use std::fmt::Write;
use std::time::Duration;

use crate::cargo;
use crate::error::{Error, Result};
use crate::shell::Step;

const LIMIT: Duration = Duration::from_secs(60);

/// A tool that a command needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    Cargo,
    Gcc,
    /// nvcc needs the C++ compiler, and gcc alone does not bring it.
    Gxx,
    /// Python with the modules that make a virtual environment; pip comes with these.
    Python,
    Git,
}

/// What linking a Rust program and compiling C take.
pub const BUILD: [Tool; 3] = [Tool::Cargo, Tool::Gcc, Tool::Gxx];

/// A tool that is not there or does not work, and why.
#[derive(Debug)]
pub struct Missing {
    tool: Tool,
    reason: String,
}

/// Checks every tool of `tools`; the error lists all that are missing.
pub fn check(tools: impl IntoIterator<Item = Tool>) -> Result<()> {
    let missing: Vec<_> = tools.into_iter().filter_map(Tool::missing).collect();
    if missing.is_empty() { Ok(()) } else { Err(Error::Prerequisites(missing)) }
}

/// The missing tools, and the packages that bring them.
pub fn report(missing: &[Missing]) -> String {
    let mut text = "this machine lacks what the command needs:".to_owned();
    for Missing { tool, reason } in missing {
        write!(text, "\n  - {}: {reason}", tool.need()).expect("a String takes any text");
    }
    let mut packages: Vec<_> =
        missing.iter().filter_map(|missing| missing.tool.debian_package()).collect();
    packages.dedup();
    if !packages.is_empty() {
        write!(
            text,
            "\n  what to do, on Debian or Ubuntu, as root or with sudo:\n    \
             apt-get update && apt-get install -y {}",
            packages.join(" ")
        )
        .expect("a String takes any text");
    }
    if missing.iter().any(|missing| missing.tool == Tool::Cargo) {
        text += "\n  what to do: install Rust with rustup (the default profile)";
    }
    text
}

impl Tool {
    fn missing(self) -> Option<Missing> {
        let error = self.probe().limit(LIMIT).probe().err()?;
        let reason = match error {
            Error::Start { source, .. } => source.to_string(),
            Error::Failed { status, remedy, .. } => format!("{status}; {remedy}"),
            other => other.to_string(),
        };
        Some(Missing { tool: self, reason })
    }

    /// A command that succeeds if and only if the tool does its work.
    fn probe(self) -> Step {
        let compile = |compiler, program: &str| {
            let script = format!("printf '{program}' | {compiler} -S -o - -");
            Step::new("compile a file", "sh").args(["-c", script.as_str()])
        };
        match self {
            Self::Cargo => Step::new("ask cargo", cargo::program()).args(["--version"]),
            Self::Gcc => compile("gcc -x c", r"#include <stdio.h>\nint main(void) { return 0; }\n"),
            Self::Gxx => compile("g++ -x c++", r"#include <vector>\nstd::vector<int> v;\n"),
            Self::Python => {
                Step::new("ask python3", "python3").args(["-c", "import venv, ensurepip"])
            }
            Self::Git => Step::new("ask git", "git").args(["--version"]),
        }
    }

    fn need(self) -> &'static str {
        match self {
            Self::Cargo => "cargo",
            Self::Gcc => "gcc that compiles a C file",
            Self::Gxx => "g++ that compiles a C++ file",
            Self::Python => "python3 that makes a virtual environment (venv, ensurepip)",
            Self::Git => "git",
        }
    }

    fn debian_package(self) -> Option<&'static str> {
        match self {
            Self::Cargo => None,
            Self::Gcc | Self::Gxx => Some("build-essential"),
            Self::Python => Some("python3-venv python3-pip"),
            Self::Git => Some("git"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(tool: Tool) -> Missing {
        Missing { tool, reason: "not found".to_owned() }
    }

    #[test]
    fn the_report_names_every_missing_tool_and_each_package_once() {
        let text = report(&[missing(Tool::Gcc), missing(Tool::Gxx), missing(Tool::Python)]);
        assert!(text.contains("g++ that compiles a C++ file: not found"), "{text}");
        assert!(
            text.ends_with("apt-get install -y build-essential python3-venv python3-pip"),
            "{text}"
        );
    }

    #[test]
    fn a_missing_cargo_asks_for_rustup_and_no_package() {
        let text = report(&[missing(Tool::Cargo)]);
        assert!(text.contains("rustup") && !text.contains("apt-get"), "{text}");
    }
}
