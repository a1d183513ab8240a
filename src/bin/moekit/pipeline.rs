//! `moekit pipeline`: generates, checks, simulates, draws and compares pipeline schedules.

mod args;
mod report;
mod search;

use moekit::pipeline::{
    Overlap, Schedule, Simulation, check, chrome_trace, gantt_svg, gantt_text, overlap_events,
    overlap_text, simulate,
};
use moekit::{Error, Result};
use serde_json::Value;

pub use args::PipelineArgs;
use report::Report;

use crate::output::{print, with_flag, write_file};

/// Runs the command; bad input is an error.
pub fn run(args: &PipelineArgs) -> Result<()> {
    report(args).map_err(|error| with_flag(error, |arg| args.flag_of(arg)))
}

fn report(args: &PipelineArgs) -> Result<()> {
    let overlap = args.overlap()?;
    if args.search {
        return search::run(args, overlap.as_ref());
    }
    let schedule = args.schedule()?;
    let costs = args.costs(overlap.as_ref())?;
    let proof = check(&schedule, &args.limits()).map_err(Error::Schedule)?;
    let simulation = simulate(&schedule, &costs)?;
    if let Some(path) = &args.svg {
        write_file(path, &gantt_svg(&schedule, &simulation))?;
    }
    if let Some(path) = &args.trace {
        write_file(path, &trace(&schedule, &simulation, overlap.as_ref()).to_string())?;
    }
    let report =
        Report { schedule: &schedule, costs: &costs, proof, simulation, overlap: overlap.as_ref() };
    if args.json {
        print(|out| writeln!(out, "{}", report.json()))
    } else {
        let (columns, colour) = (args.columns(), args.colour());
        let mut drawing = gantt_text(&schedule, &report.simulation, columns, colour);
        if let Some(overlap) = &overlap {
            drawing = format!("{}\n{drawing}", overlap_text(overlap, columns, colour));
        }
        print(|out| write!(out, "{}\n{drawing}\n{}", report.headline(), report.table()))
    }
}

fn trace(schedule: &Schedule, simulation: &Simulation, overlap: Option<&Overlap>) -> Value {
    let mut trace = chrome_trace(schedule, simulation);
    if let (Some(overlap), Some(Value::Array(events))) = (overlap, trace.get_mut("traceEvents")) {
        events.extend(overlap_events(overlap));
    }
    trace
}
