//! Quantisation: what the kernels of `csrc/kernels/quant` are launched with.

mod dequantize;
mod scales;
mod tiles;
mod token;
mod transpose;

pub use dequantize::dequantize;
pub use scales::{pack_scales, relayout_scales, unpack_scales};
pub use tiles::{quantize_block, quantize_channel};
pub use token::quantize;
pub use transpose::quantize_transpose;

/// 16-byte vectors of a row that a CTA has, where each column has its own scale.
const VECTORS_PER_TILE: usize = 8;
