//! Quantisation to E4M3 with block scales, back, and the layouts of the scales.
//!
//! One rule everywhere, over the elements that share a scale:
//!
//! ```text
//! amax = largest |x|, NaN left out, infinity counted as f32::MAX
//! sf   = max(amax, 1e-4) / 448            IEEE division
//! sf   = 2^ceil(log2(sf))                 ScaleFormat::Ue8m0 only
//! code = e4m3_rn_satfinite(x * (1 / sf))  IEEE division, then one product
//! ```
//!
//! NaN becomes the NaN code `0x7f` and does not touch its neighbours; an infinity becomes ±448, and
//! its finite neighbours get the codes that they would get next to `f32::MAX`. All of it is bitwise
//! equal on every backend.

mod dequantize;
mod scales;
mod tiles;
mod token;
mod transpose;

pub use dequantize::DequantizeArgs;
pub use scales::{PackScalesArgs, RelayoutScalesArgs, UnpackScalesArgs, packed_scales_layout};
pub use tiles::{QuantizeBlockArgs, QuantizeChannelArgs};
pub use token::QuantizeArgs;
pub(crate) use token::checked_output;
pub use transpose::QuantizeTransposeArgs;

use crate::num::ceil_div;

/// Elements of K that one scale covers.
pub const GRAN_K: usize = 128;

/// Divisor of K in every quantised matrix.
pub const K_ALIGNMENT: usize = 16;

/// Which FP32 values a scale may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ScaleFormat {
    /// Any: `max(amax, 1e-4) / 448`.
    #[default]
    Fp32,
    /// Powers of two, rounded up, stored as FP32; [`PackScalesArgs`] makes bytes of them.
    Ue8m0,
}

/// Which elements of a `[rows, k]` matrix share a scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Granularity {
    /// 128 of K in one row: activations, A of `A · Bᵀ`.
    PerToken,
    /// 128 x 128: weights, B of `A · Bᵀ`.
    PerBlock,
    /// 128 rows in one column: what becomes [`Granularity::PerToken`] after transposing.
    PerChannel,
}

impl Granularity {
    /// Extents that one scale covers, at most.
    pub const fn tile(self) -> [usize; 2] {
        match self {
            Self::PerToken => [1, GRAN_K],
            Self::PerBlock => [128, GRAN_K],
            Self::PerChannel => [128, 1],
        }
    }

    /// Shape of the scales of a `[rows, k]` matrix.
    ///
    /// # Examples
    ///
    /// ```
    /// use moekit::moe::quant::Granularity;
    /// assert_eq!(Granularity::PerToken.scale_shape([5, 2880]), [5, 23]);
    /// assert_eq!(Granularity::PerBlock.scale_shape([4096, 7168]), [32, 56]);
    /// ```
    pub const fn scale_shape(self, [rows, k]: [usize; 2]) -> [usize; 2] {
        let [tile_rows, tile_cols] = self.tile();
        [ceil_div(rows, tile_rows), ceil_div(k, tile_cols)]
    }
}
