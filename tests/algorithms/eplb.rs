//! Expert load balancing, through the public API.

#[path = "eplb_bound.rs"]
mod bound;
#[path = "eplb_golden.rs"]
mod golden;
#[path = "eplb_laws.rs"]
mod laws;
#[path = "eplb_quality.rs"]
mod quality;
#[path = "eplb_split.rs"]
mod split;
