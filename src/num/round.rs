//! Rounding to BF16 with one NaN.

use half::bf16;

/// Rounds to the nearest BF16, ties to even.
///
/// # Numerics
///
/// Overflow gives infinity, subnormals are kept. Every NaN becomes `0x7fff`, whatever its payload, so
/// that a NaN too has the same bits on every backend.
///
/// # Source
///
/// PTX `cvt.rn.bf16.f32`.
///
/// # Examples
///
/// ```
/// use moekit::num::to_bf16;
/// assert_eq!(to_bf16(1.0 + 1.0 / 256.0).to_f32(), 1.0);
/// assert_eq!(to_bf16(-f32::NAN).to_bits(), 0x7fff);
/// ```
#[inline(always)]
pub const fn to_bf16(x: f32) -> bf16 {
    let bits = x.to_bits();
    let rounded = (bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16) as u16;
    bf16::from_bits(if x.is_nan() { 0x7fff } else { rounded })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rounds_as_the_oracle_does() {
        let mut bits = 0u32;
        while let Some(next) = bits.checked_add(9973) {
            bits = next;
            for near_tie in [bits, (bits & !0xffff) | 0x8000, (bits & !0xffff) | 0x8001] {
                let x = f32::from_bits(near_tie);
                let want = moekit_testkit::bf16::round(f64::from(x));
                assert_eq!(to_bf16(x).to_bits(), want.to_bits(), "{near_tie:#010x}");
            }
        }
    }
}
