//! Pipeline schedules against the reference, their laws, and the command line.

mod closed_forms;
mod command;
mod drawings;
mod files;
mod golden;
mod laws;
mod mutations;
mod overlap;
mod search;
mod strategies;
