//! Files to which several processes append lines of JSON.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use serde_json::Value;

/// Appends a line to the file that the environment variable `name` names; what goes wrong is reported.
pub fn append(name: &str, path: &Path, line: &Value) {
    // One write, so that lines of several processes do not mix.
    let file = OpenOptions::new().create(true).append(true).open(path);
    if let Err(error) = file.and_then(|mut it| it.write_all(format!("{line}\n").as_bytes())) {
        eprintln!("vgpu: {name} {}: {error}", path.display());
    }
}
