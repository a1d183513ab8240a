//! Ranks: a [`World`] of threads or processes, symmetric buffers, and waits that always end.
//!
//! | file | concept |
//! | --- | --- |
//! | `world.rs` | the public handle of one rank |
//! | `threads.rs`, `processes.rs` | the two ways to make a world |
//! | `collective.rs` | barrier, all-gather |
//! | `symmetric.rs` | symmetric buffers: put, signal, wait |
//! | `wait.rs`, `blame.rs` | the one bounded wait; whom to name when it fails |
//! | `rank.rs`, `control.rs` | what a rank keeps; the page through which its node sees it |
//! | `segment.rs` | shared memory |
//! | `engine.rs`, `transport/` | messages between nodes |

mod alloc;
mod blame;
mod collective;
mod control;
mod engine;
#[cfg(feature = "mpi")]
mod processes;
mod rank;
mod segment;
mod symmetric;
mod threads;
mod transport;
mod wait;
mod world;

#[cfg(test)]
mod tests;

pub use symmetric::SymmetricBuffer;
pub use world::{World, WorldOptions};
