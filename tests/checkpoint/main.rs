//! Checkpoints: what is loaded, and what is said of files that are not as they should be.

mod faults;
mod hostile;
mod load;
mod mutations;
mod store;
