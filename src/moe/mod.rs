//! Mixture-of-Experts stages: what each computes, and the checks of its arguments.

mod activation;
pub mod buffer;
pub mod combine;
pub mod dispatch;
pub mod expert_map;
pub mod gate;
pub mod handle;
pub mod plan;
pub mod quant;
mod rows;
mod stack;
pub mod swiglu;
pub mod weights;

pub use activation::Activation;
pub use buffer::{EpBuffer, EpConfig, EpSizes, RecvLayout, Reduce, WireFormat};
pub use expert_map::ExpertMap;
pub use handle::Handle;
pub use rows::Rows;
