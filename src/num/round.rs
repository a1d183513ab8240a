//! Rounding to BF16, without branches so that loops of it vectorise.

use half::bf16;

/// Rounds to nearest, ties to even; overflow becomes infinity, NaN becomes the quiet NaN `0x7fff`.
///
/// # Source
///
/// PTX `cvt.rn.bf16.f32`.
///
/// # Examples
///
/// ```
/// use moekit::num::{bf16, round_bf16};
/// assert_eq!(round_bf16(1.0), bf16::ONE);
/// assert_eq!(round_bf16(f32::NAN).to_bits(), 0x7fff);
/// ```
#[inline(always)]
pub fn round_bf16(x: f32) -> bf16 {
    let bits = x.to_bits();
    let rounded = (bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16) as u16;
    bf16::from_bits(if x.is_nan() { 0x7fff } else { rounded })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_agrees_with_half_on_every_upper_half() {
        for upper in 0..=u16::MAX {
            for lower in [0u32, 1, 0x7fff, 0x8000, 0x8001, 0xffff] {
                let x = f32::from_bits(u32::from(upper) << 16 | lower);
                if x.is_nan() {
                    assert_eq!(round_bf16(x).to_bits(), 0x7fff);
                } else {
                    assert_eq!(round_bf16(x).to_bits(), bf16::from_f32(x).to_bits(), "{x:e}");
                }
            }
        }
    }
}
