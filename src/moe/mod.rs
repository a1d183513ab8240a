//! The stages of an MoE layer: arguments, checked once, for the backends to compute.

mod activation;
pub(crate) mod check;
pub mod quant;
mod rows;
pub mod swiglu;

pub use activation::Activation;
pub use rows::Rows;
