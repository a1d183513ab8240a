//! Tensors: dtype, shape and strides over a backend's memory, owned ([`Tensor`]) or borrowed
//! ([`TensorRef`], [`TensorMut`]), and quantised pairs of values and scales.

pub(crate) mod check;
mod dtype;
mod element;
mod host;
mod layout;
mod owned;
mod quantized;
mod view;

pub use dtype::Dtype;
pub use element::Element;
pub use layout::Layout;
pub use owned::Tensor;
pub use quantized::{QuantMut, QuantRef, QuantTensor, ScaleLayout, tma_aligned_rows};
pub use view::{TensorMut, TensorRef};
