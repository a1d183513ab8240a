//! Pipeline schedules against the reference, their laws, and the command line.

mod closed_forms;
mod golden;
mod laws;
mod mutations;
mod strategies;
