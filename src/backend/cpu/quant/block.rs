//! The rule of quantisation over elements that lie together.

use crate::moe::Activation;
use crate::moe::quant::{GRAN_K, ScaleFormat};
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
pub(in crate::backend::cpu) fn zero_scale(format: ScaleFormat) -> f32 {
    scale_and_inverse(0, format).0
}

/// Quantises one row per 128 elements; `write_scale` gets each block's index and scale.
#[inline(always)]
pub(in crate::backend::cpu) fn quantize_row<T: Activation>(
    x: &[T],
    codes: &mut [E4M3],
    format: ScaleFormat,
    mut write_scale: impl FnMut(usize, f32),
) {
    let (full, rest) = x.as_chunks::<GRAN_K>();
    let (full_codes, rest_codes) = codes.as_chunks_mut::<GRAN_K>();
    for (idx, (x, codes)) in full.iter().zip(full_codes).enumerate() {
        write_scale(idx, quantize_full_block(x, codes, format));
    }
    if !rest.is_empty() {
        write_scale(full.len(), quantize_any_block(rest, rest_codes, format));
    }
}

#[inline(always)]
fn quantize_full_block<T: Activation>(
    x: &[T; GRAN_K],
    codes: &mut [E4M3; GRAN_K],
    format: ScaleFormat,
) -> f32 {
    quantize_any_block(x, codes, format)
}

#[inline(always)]
fn quantize_any_block<T: Activation>(x: &[T], codes: &mut [E4M3], format: ScaleFormat) -> f32 {
    let amax = x.iter().map(|x| magnitude_bits(x.to_f32())).fold(0, u32::max);
    let (sf, inverse) = scale_and_inverse(amax, format);
    for (code, x) in codes.iter_mut().zip(x) {
        *code = E4M3::from_f32(x.to_f32() * inverse);
    }
    sf
}
