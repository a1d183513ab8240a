//! Expert load balancing, through the public API.

#[path = "eplb_golden.rs"]
mod golden;
