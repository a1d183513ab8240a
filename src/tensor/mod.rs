//! Tensors: dtype, shape, strides.

mod dtype;

pub use dtype::Dtype;
