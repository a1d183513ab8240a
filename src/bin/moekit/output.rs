//! How commands print: text or JSON, progress on a terminal.

use std::io::{ErrorKind, Write};
use std::path::Path;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use moekit::{Error, Result};
use serde::Serialize;

/// Options of every command that reports.
#[derive(Debug, Clone, Copy, Args)]
pub struct OutputArgs {
    /// Print JSON for scripts instead of text
    #[arg(long)]
    pub json: bool,

    /// Show no progress
    #[arg(long, short)]
    pub quiet: bool,
}

impl OutputArgs {
    /// Prints one value: as JSON, or as the text that `text` makes of it.
    pub fn print<T: Serialize>(self, value: &T, text: impl FnOnce(&T) -> String) -> Result<()> {
        let mut page = if self.json {
            serde_json::to_string_pretty(value).map_err(|error| stdout_error(error.into()))?
        } else {
            text(value)
        };
        if !page.ends_with('\n') {
            page.push('\n');
        }
        print(|out| out.write_all(page.as_bytes()))
    }

    /// A bar over `total` steps or bytes; drawn on a terminal alone.
    pub fn bar(self, total: u64, template: &str) -> ProgressBar {
        if self.quiet {
            return ProgressBar::hidden();
        }
        // NOTE: indicatif draws on stderr, and nothing where that is no terminal.
        let style = ProgressStyle::with_template(template).unwrap_or(ProgressStyle::default_bar());
        ProgressBar::new(total).with_style(style)
    }
}

/// Writes to the standard output; a reader that has gone away is no error.
pub fn print(write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<()> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    match write(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(stdout_error(error)),
        _ => Ok(()),
    }
}

/// Writes a picture or a trace.
pub fn write_file(path: &Path, content: &str) -> Result<()> {
    std::fs::write(path, content).map_err(|error| Error::io("moekit", path, error))
}

/// Names the flag where an error names the library's argument.
pub fn with_flag(error: Error, flag_of: impl Fn(&'static str) -> &'static str) -> Error {
    match error {
        Error::Value { op, arg, expected, got } => {
            Error::Value { op, arg: flag_of(arg), expected, got }
        }
        Error::Shape { op, arg, expected, got } => {
            Error::Shape { op, arg: flag_of(arg), expected, got }
        }
        other => other,
    }
}

fn stdout_error(source: std::io::Error) -> Error {
    Error::io("moekit", "standard output", source)
}

/// Cores that this process may use.
pub fn num_cores() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get())
}
