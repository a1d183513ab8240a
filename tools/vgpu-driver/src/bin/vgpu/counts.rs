//! Counts of launches: one JSON file from the library's lines, and tables of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::table::{grouped, table};
use crate::{Problem, Result, print};

#[derive(clap::Args)]
pub struct Args {
    /// What `vgpu run --counts FILE` wrote, or a file of `VGPU_COUNTS`
    file: PathBuf,
    /// By source line in place of by kernel
    #[arg(long)]
    lines: bool,
    /// Only this kernel
    #[arg(long, value_name = "NAME")]
    kernel: Option<String>,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let mut launches = read(&args.file)?;
    launches.retain(|it| args.kernel.as_deref().is_none_or(|name| it["kernel"] == name));
    if launches.is_empty() {
        return Err(Problem(format!("{}: no such launch", args.file.display())));
    }
    let groups = if args.lines { by_line(&launches) } else { by_kernel(&launches) };
    let rows: Vec<Vec<String>> = groups.iter().map(|(name, sums)| row(name, sums)).collect();
    let first = if args.lines { "line" } else { "kernel" };
    let head: Vec<&str> = std::iter::once(first).chain(COLUMNS.map(|(name, _)| name)).collect();
    print(&table(&head, &rows))?;
    Ok(ExitCode::SUCCESS)
}

/// Makes one JSON value of the library's lines.
pub fn collect(lines: &Path, file: &Path) -> Result<()> {
    // A program without a launch has written nothing.
    let launches = if lines.exists() { read(lines)? } else { Vec::new() };
    let text = format!("{:#}\n", json!({ "launches": launches }));
    fs::write(file, text).map_err(Problem::of(format!("write {}", file.display())))
}

/// Launches of either kind of file.
fn read(file: &Path) -> Result<Vec<Value>> {
    let name = file.display();
    let text = fs::read_to_string(file).map_err(Problem::of(format!("read {name}")))?;
    if let Ok(Value::Object(mut whole)) = serde_json::from_str(&text)
        && let Some(Value::Array(launches)) = whole.remove("launches")
    {
        return Ok(launches);
    }
    let parse =
        |line| serde_json::from_str(line).map_err(Problem::of(format!("{name}: no counts")));
    text.lines().map(parse).collect()
}

/// Columns: their names and the counts that they add up.
const COLUMNS: [(&str, &[&str]); 14] = [
    ("launches", &["launches"]),
    ("instructions", &["instructions"]),
    ("global read", &["bytes", "global", "read"]),
    ("global written", &["bytes", "global", "written"]),
    ("sectors", &["global_sectors"]),
    ("shared read", &["bytes", "shared", "read"]),
    ("shared written", &["bytes", "shared", "written"]),
    ("passes", &["shared_passes"]),
    ("conflicts", &["bank_conflicts"]),
    ("TMA read", &["bulk", "read"]),
    ("TMA written", &["bulk", "written"]),
    ("MAC", &["macs"]),
    ("retries", &["retries"]),
    ("polls", &["polls"]),
];

type Sums = [u64; COLUMNS.len()];

fn by_kernel(launches: &[Value]) -> Vec<(String, Sums)> {
    let mut groups: BTreeMap<String, Sums> = BTreeMap::new();
    for launch in launches {
        add(groups.entry(text(&launch["kernel"])).or_default(), launch);
    }
    groups.into_iter().collect()
}

fn by_line(launches: &[Value]) -> Vec<(String, Sums)> {
    let mut groups: BTreeMap<(String, u64), Sums> = BTreeMap::new();
    for line in launches.iter().flat_map(|it| it["lines"].as_array()).flatten() {
        let place = (text(&line["file"]), line["line"].as_u64().unwrap_or(0));
        add(groups.entry(place).or_default(), line);
    }
    let named = |((file, line), sums)| (format!("{file}:{line}"), sums);
    groups.into_iter().map(named).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("?").to_owned()
}

fn add(sums: &mut Sums, counts: &Value) {
    for (sum, (_, path)) in sums.iter_mut().zip(COLUMNS) {
        *sum += match path {
            ["launches"] => 1,
            _ => path.iter().fold(counts, |value, key| &value[key]).as_u64().unwrap_or(0),
        };
    }
}

fn row(name: &str, sums: &Sums) -> Vec<String> {
    std::iter::once(name.to_owned()).chain(sums.iter().map(|it| grouped(*it))).collect()
}
