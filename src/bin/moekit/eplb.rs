//! `moekit eplb`: place experts, move few of them, replay a trace.

mod args;
mod place;
mod replay;
mod report;

pub use args::EplbArgs;

use moekit::Result;

use crate::output::with_flag;

/// Runs `moekit eplb`.
pub fn run(args: &EplbArgs) -> Result<()> {
    let done = match &args.trace {
        Some(trace) => replay::run(args, trace),
        None => place::run(args),
    };
    done.map_err(|error| with_flag(error, report::flag_of))
}
