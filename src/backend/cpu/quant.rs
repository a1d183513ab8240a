//! Quantisation on the cpu.

mod block;
mod channel;
mod dequantize;
mod row;
mod scales;
mod tiles;
mod token;
mod transpose;

pub(super) use dequantize::dequantize;
pub(super) use row::QuantOut;
pub(super) use scales::{pack_scales, relayout_scales, unpack_scales};
pub(super) use tiles::{quantize_block, quantize_channel};
pub(super) use token::quantize;
pub(super) use transpose::quantize_transpose;
