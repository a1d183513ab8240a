//! The rule of quantisation over elements that lie together.

use bytemuck::cast_slice;

#[cfg(target_arch = "x86_64")]
use super::avx512;
use crate::backend::SimdLevel;
use crate::moe::Activation;
use crate::moe::quant::ScaleFormat;
use crate::num::{E4M3, E4M3_MAX, Ue8m0};
use crate::tensor::Dtype;

/// Bits of +infinity; NaN lies above.
const INF: u32 = 0x7f80_0000;

/// Bits of `|x|` as they count in `amax`: 0 for NaN, `f32::MAX` for infinity.
#[inline(always)]
pub(super) fn magnitude_bits(x: f32) -> u32 {
    let bits = x.to_bits() & 0x7fff_ffff;
    if bits > INF { 0 } else { bits.min(f32::MAX.to_bits()) }
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

/// The largest magnitude of some elements.
#[derive(Clone, Copy)]
pub(super) struct Amax {
    /// As [`magnitude_bits`].
    pub bits: u32,
    /// Whether all elements are finite.
    pub finite: bool,
}

impl Amax {
    pub const ZERO: Self = Self { bits: 0, finite: true };

    /// Takes in at most 128 elements.
    #[inline(always)]
    pub fn and<T: Activation>(self, simd: SimdLevel, x: &[T]) -> Self {
        let bits = largest_bits(simd, x);
        if bits < INF {
            return Self { bits: self.bits.max(bits), ..self };
        }
        let bits = x.iter().map(|x| magnitude_bits(x.to_f32())).fold(self.bits, u32::max);
        Self { bits, finite: false }
    }

    /// Encodes at most 128 of the elements, with the reciprocal of their scale.
    #[inline(always)]
    pub fn encode<T: Activation>(self, simd: SimdLevel, x: &[T], inverse: f32, codes: &mut [E4M3]) {
        #[cfg(target_arch = "x86_64")]
        if simd == SimdLevel::Avx512 && self.finite {
            // SAFETY: as above.
            return unsafe {
                match T::DTYPE {
                    Dtype::Bf16 => avx512::encode_bf16(cast_slice(x), inverse, codes),
                    _ => avx512::encode_f32(cast_slice(x), inverse, codes),
                }
            };
        }
        for (code, x) in codes.iter_mut().zip(x) {
            *code = E4M3::from_f32(x.to_f32() * inverse);
        }
    }
}

/// The largest bits of `|x|`, infinity and NaN included.
#[inline(always)]
fn largest_bits<T: Activation>(simd: SimdLevel, x: &[T]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if simd == SimdLevel::Avx512 {
        // SAFETY: the processor has what its level names.
        return unsafe {
            match T::DTYPE {
                Dtype::Bf16 => avx512::largest_bits_bf16(cast_slice(x)),
                _ => avx512::largest_bits_f32(cast_slice(x)),
            }
        };
    }
    x.iter().map(|x| x.to_f32().to_bits() & 0x7fff_ffff).fold(0, u32::max)
}
