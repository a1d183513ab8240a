//! Timelines of launches: tables, traces for a viewer, pictures.

mod draw;
mod trace;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::Value;

use crate::table::{grouped, table};
use crate::{Problem, Result, print};

#[derive(clap::Args)]
pub struct Args {
    /// What `vgpu run --timeline FILE` wrote, or a file of `VGPU_TIMELINE`
    file: PathBuf,
    /// Only launches of this kernel
    #[arg(long, value_name = "NAME")]
    kernel: Option<String>,
    /// Write a trace for a viewer such as Perfetto (a cycle counts as a microsecond there)
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Draw the first launch's first block
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// First cycle that is drawn
    #[arg(long, value_name = "CYCLE", default_value_t = 0)]
    from: u64,
    /// Cycle behind the last that is drawn (the launch's end without this)
    #[arg(long, value_name = "CYCLE")]
    to: Option<u64>,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let to = args.to.unwrap_or(u64::MAX);
    if args.from >= to {
        return Err(Problem(format!("--from {}: expected less than --to, {to}", args.from)));
    }
    let mut launches = read(&args.file)?;
    launches.retain(|it| args.kernel.as_deref().is_none_or(|name| it["kernel"] == name));
    let Some(first) = launches.first() else {
        return Err(Problem(format!("{}: no such launch", args.file.display())));
    };
    if let Some(path) = &args.trace {
        write(path, &trace::trace(&launches).to_string())?;
    }
    if let Some(path) = &args.svg {
        write(path, &draw::draw(first, args.from..to)?)?;
    }
    let rows: Vec<Vec<String>> = launches.iter().map(row).collect();
    print(&table(&["kernel", "cycles", "tensor cores", "behind products", "hidden"], &rows))?;
    Ok(ExitCode::SUCCESS)
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(Problem::of(format!("write {}", path.display())))
}

fn read(file: &Path) -> Result<Vec<Value>> {
    let name = file.display();
    let text = fs::read_to_string(file).map_err(Problem::of(format!("read {name}")))?;
    let parse = |line| {
        let launch: Value = serde_json::from_str(line).ok()?;
        launch["tracks"].is_array().then_some(launch)
    };
    let launches: Option<Vec<Value>> = text.lines().map(parse).collect();
    launches.ok_or_else(|| Problem(format!("{name}: a line is no timeline")))
}

/// A launch: its cycles, how much of the time tensor cores are busy, instructions between a wait for products and the
/// next ones, and how much of that other products hide.
fn row(launch: &Value) -> Vec<String> {
    let number = |name: &str| launch["summary"]["tensor"][name].as_u64().unwrap_or(0);
    let share = |part: u64, whole: u64| match whole {
        0 => "-".to_owned(),
        _ => format!("{:.1} %", 100.0 * part as f64 / whole as f64),
    };
    vec![
        launch["kernel"].as_str().unwrap_or("?").to_owned(),
        grouped(launch["summary"]["cycles"].as_u64().unwrap_or(0)),
        share(number("busy"), number("cycles")),
        grouped(number("behind")),
        share(number("hidden"), number("behind")),
    ]
}

/// The members of a JSON array; none of anything else.
fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
