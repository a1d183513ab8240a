//! The rule of quantisation over elements that lie together.

use crate::moe::Activation;
use crate::moe::quant::ScaleFormat;
use crate::num::{E4M3, E4M3_MAX, Ue8m0};

/// Bits of `|x|` as they count in `amax`: 0 for NaN, `f32::MAX` for infinity.
#[inline(always)]
pub(super) fn magnitude_bits(x: f32) -> u32 {
    let bits = x.to_bits() & 0x7fff_ffff;
    if bits > 0x7f80_0000 { 0 } else { bits.min(f32::MAX.to_bits()) }
}

/// The scale and its reciprocal for a largest magnitude, given as bits.
#[inline(always)]
pub(super) fn scale_and_inverse(amax_bits: u32, format: ScaleFormat) -> (f32, f32) {
    let amax = f32::from_bits(amax_bits);
    let sf = (if amax > 1e-4 { amax } else { 1e-4 }) / E4M3_MAX;
    let sf = match format {
        ScaleFormat::Fp32 => sf,
        ScaleFormat::Ue8m0 => Ue8m0::from_f32_ceil(sf).to_f32(),
    };
    (sf, 1.0 / sf)
}

/// The scale of zeros, which padding rows take.
pub(super) fn zero_scale(format: ScaleFormat) -> f32 {
    scale_and_inverse(0, format).0
}

/// Quantises elements that share a scale; returns the scale.
#[inline(always)]
pub(super) fn quantize_block<T: Activation>(
    x: &[T],
    codes: &mut [E4M3],
    format: ScaleFormat,
) -> f32 {
    let amax = x.iter().map(|x| magnitude_bits(x.to_f32())).fold(0, u32::max);
    let (sf, inverse) = scale_and_inverse(amax, format);
    for (code, x) in codes.iter_mut().zip(x) {
        *code = E4M3::from_f32(x.to_f32() * inverse);
    }
    sf
}
