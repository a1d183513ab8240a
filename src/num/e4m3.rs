//! E4M3: the 8-bit float of FP8 matrix products.

use std::fmt;

/// Largest finite E4M3 value.
pub const E4M3_MAX: f32 = 448.0;

/// An E4M3 code: 1 sign, 4 exponent (bias 7) and 3 mantissa bits; no infinity, `0x7f` and `0xff`
/// are NaN.
///
/// # Numerics
///
/// [`E4M3::from_f32`] rounds to nearest, ties to even, and saturates: every finite or infinite
/// value beyond ±448 becomes ±448. NaN becomes `0x7f`.
///
/// # Source
///
/// OCP 8-bit Floating Point Specification (OFP8) 1.0, section 5; conversion as PTX
/// `cvt.rn.satfinite.e4m3x2.f32`.
///
/// # Examples
///
/// ```
/// use moekit::num::E4M3;
/// assert_eq!(E4M3::from_f32(448.0).to_f32(), 448.0);
/// assert_eq!(E4M3::from_f32(1e9), E4M3(0x7e));
/// assert_eq!(E4M3::from_f32(-0.0).0, 0x80);
/// assert!(E4M3(0xff).is_nan());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(transparent)]
pub struct E4M3(pub u8);

impl E4M3 {
    /// The canonical NaN.
    pub const NAN: Self = Self(0x7f);

    /// Rounds to nearest even and saturates at ±448; NaN stays NaN.
    #[inline]
    pub const fn from_f32(x: f32) -> Self {
        let bits = x.to_bits();
        let sign = (bits >> 24) & 0x80;
        let magnitude = bits & 0x7fff_ffff;
        // NOTE: 448 = 0x43e0_0000; clamping first keeps rounding from reaching the NaN code 0x7f.
        let a = if magnitude > 0x43e0_0000 { 0x43e0_0000 } else { magnitude };
        // Codes within a binade 2^e are 2^(e-3) apart (2^-9 below 2^-6), which is the last place of
        // 2^(e+20): the sum rounds to a code, and counts its steps from the binade's zero.
        let exponent = (if a < 0x3c80_0000 { 0x3c80_0000 } else { a }) & 0x7f80_0000;
        let magic = exponent + (20 << 23);
        let steps = (f32::from_bits(a) + f32::from_bits(magic)).to_bits() - magic;
        // 8 steps per binade: `exponent >> 20` is 8 (e + 127), and the steps of e = -6 start at
        // code 0.
        let code = sign | (steps + (exponent >> 20) - 8 * (127 - 6));
        Self(if magnitude > 0x7f80_0000 { Self::NAN.0 } else { code as u8 })
    }

    /// Returns the exact value.
    #[inline]
    pub const fn to_f32(self) -> f32 {
        let sign = ((self.0 & 0x80) as u32) << 24;
        let magnitude = (self.0 & 0x7f) as u32;
        // Below 8 the code is subnormal: mantissa x 2^-9, exact in f32.
        let subnormal = (magnitude as f32 * (1.0 / 512.0)).to_bits();
        let normal = (magnitude + (120 << 3)) << 20;
        let finite = if magnitude < 8 { subnormal } else { normal };
        f32::from_bits(sign | if magnitude == 0x7f { 0x7fc0_0000 } else { finite })
    }

    /// Whether the code is one of the two NaNs.
    #[inline]
    pub const fn is_nan(self) -> bool {
        self.0 & 0x7f == 0x7f
    }
}

impl fmt::Debug for E4M3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (E4M3 {:#04x})", self.to_f32(), self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_a_round_trip() {
        for code in 0..=255u8 {
            let e = E4M3(code);
            if e.is_nan() {
                assert!(e.to_f32().is_nan(), "{code:#x}");
                assert_eq!(E4M3::from_f32(e.to_f32()), E4M3::NAN);
            } else {
                assert_eq!(E4M3::from_f32(e.to_f32()), e, "{code:#x}");
            }
        }
    }

    #[test]
    fn halfway_values_round_to_the_even_code() {
        for code in 0..0x7eu8 {
            let (lo, hi) = (E4M3(code).to_f32(), E4M3(code + 1).to_f32());
            let mid = (lo + hi) / 2.0;
            let even = if code % 2 == 0 { code } else { code + 1 };
            assert_eq!(E4M3::from_f32(mid).0, even, "midpoint of {lo} and {hi}");
            assert_eq!(E4M3::from_f32(mid.next_down()).0, code, "below {mid}");
            assert_eq!(E4M3::from_f32(mid.next_up()).0, code + 1, "above {mid}");
            assert_eq!(E4M3::from_f32(-mid).0, even | 0x80, "midpoint of -{lo} and -{hi}");
        }
    }

    #[test]
    fn too_large_values_saturate_and_nan_stays_nan() {
        for x in [448.1, 463.9, 464.0, 480.0, f32::MAX, f32::INFINITY] {
            assert_eq!(E4M3::from_f32(x).0, 0x7e, "{x}");
            assert_eq!(E4M3::from_f32(-x).0, 0xfe, "-{x}");
        }
        assert_eq!(E4M3::from_f32(f32::NAN), E4M3::NAN);
        assert_eq!(E4M3::from_f32(-f32::NAN), E4M3::NAN);
    }

    #[test]
    fn tiny_values_flush_to_signed_zero() {
        for x in [0.0, f32::from_bits(1), f32::MIN_POSITIVE, 2f32.powi(-10)] {
            assert_eq!(E4M3::from_f32(x).0, 0x00, "{x}");
            assert_eq!(E4M3::from_f32(-x).0, 0x80, "-{x}");
        }
        assert_eq!(E4M3::from_f32(2f32.powi(-10).next_up()).0, 0x01);
    }
}
