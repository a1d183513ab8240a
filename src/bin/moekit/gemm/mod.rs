//! `moekit gemm`: which kernel a product takes and why; what a model says of its time.

mod args;
mod explain;
mod model;

use moekit::Result;

pub use args::GemmArgs;

/// Runs the command; bad input is an error.
pub fn run(args: &GemmArgs) -> Result<()> {
    match &args.model {
        Some(device) => args.output.print(&model::report(device)?, model::Report::text),
        None => args.output.print(&explain::report(args)?, explain::Report::text),
    }
}
