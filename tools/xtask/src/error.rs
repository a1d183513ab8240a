//! What can go wrong in a command, and the exit code that says so.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use crate::prerequisites::Missing;
use crate::summary::Summary;

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Tools that the command needs are not on this machine.
    #[error("{}", crate::prerequisites::report(.0))]
    Prerequisites(Vec<Missing>),

    /// An external command could not be started.
    #[error("cannot {purpose}: `{program}` does not start: {source}\n  what to do: {remedy}")]
    Start { purpose: String, program: String, source: std::io::Error, remedy: String },

    /// An external command ended with a failure.
    #[error("failed to {purpose} ({status})\n  command: {command}\n  what to do: {remedy}")]
    Failed { purpose: String, command: String, status: String, remedy: String },

    /// An external command did not end in time and was stopped.
    #[error(
        "gave up after {limit:?} trying to {purpose}\n  command: {command}\n  what to do: {remedy}"
    )]
    TimedOut { purpose: String, command: String, limit: Duration, remedy: String },

    /// A toolchain could not be installed.
    #[error("the {name} toolchain could not be set up: {source}")]
    Setup { name: &'static str, source: Box<Error> },

    /// Tests ran and some failed.
    #[error("tests failed; their names are above\n{0}")]
    TestsFailed(Summary),

    /// The command line asks for something that is not there.
    #[error("{0}")]
    Usage(String),

    /// Another command's output is not what was expected.
    #[error("{what}: expected {expected}, got {got}")]
    Unexpected { what: String, expected: String, got: String },

    /// The operating system refused.
    #[error("{op} {}: {source}", path.display())]
    Io { op: &'static str, path: PathBuf, source: std::io::Error },
}

impl Error {
    /// Returns a closure for `map_err` that names the operation and the file.
    pub fn io(op: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { op, path, source }
    }

    /// 1: something ran and failed. 2: it could not be run.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Failed { .. } | Self::TimedOut { .. } | Self::TestsFailed(_) => ExitCode::from(1),
            _ => ExitCode::from(2),
        }
    }
}
