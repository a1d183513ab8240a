//! Everything a Mixture-of-Experts model needs below the model code.

pub mod backend;
pub mod checkpoint;
pub mod comm;
pub mod eplb;
pub mod error;
pub mod gemm;
pub mod moe;
pub mod num;
pub mod pipeline;
mod random;
mod read_file;
pub mod tensor;
mod topology;

pub use backend::{Backend, Cpu};
pub use error::{Error, Result};
pub use topology::Topology;

/// The README's example runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
