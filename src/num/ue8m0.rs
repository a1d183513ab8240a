//! UE8M0: a power of two in one byte, the scale format of Blackwell's block-scaled products.

/// A UE8M0 code: the value is `2^(code - 127)`; 255 is NaN.
///
/// # Source
///
/// OCP Microscaling Formats (MX) 1.0, section 5.4.1; rounding up as DeepGEMM's `ceil_to_ue8m0`.
///
/// # Examples
///
/// ```
/// use moekit::num::Ue8m0;
/// assert_eq!(Ue8m0::from_f32_ceil(0.75).to_f32(), 1.0);
/// assert_eq!(Ue8m0::from_f32_ceil(2.0).to_f32(), 2.0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(transparent)]
pub struct Ue8m0(pub u8);

impl Ue8m0 {
    /// The NaN code.
    pub const NAN: Self = Self(255);

    /// Rounds a positive value up to a power of two; saturates at `2^-127` and `2^127`.
    ///
    /// Zero becomes `2^-127`; NaN and negative values become [`Ue8m0::NAN`].
    #[inline]
    pub const fn from_f32_ceil(x: f32) -> Self {
        let bits = x.to_bits();
        if x.is_nan() || (bits >> 31 == 1 && x != 0.0) {
            return Self::NAN;
        }
        // NOTE: 2^-127 is the f32 subnormal 0x0040_0000; everything up to it has code 0.
        if bits & 0x7fff_ffff <= 0x0040_0000 {
            return Self(0);
        }
        let code = (bits >> 23) + (bits & 0x007f_ffff != 0) as u32;
        Self(if code > 254 { 254 } else { code as u8 })
    }

    /// Returns `2^(code - 127)`, or NaN for code 255.
    #[inline]
    pub const fn to_f32(self) -> f32 {
        match self.0 {
            0 => f32::from_bits(0x0040_0000),
            255 => f32::NAN,
            code => f32::from_bits((code as u32) << 23),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_a_round_trip() {
        for code in 0..255u8 {
            assert_eq!(Ue8m0::from_f32_ceil(Ue8m0(code).to_f32()), Ue8m0(code));
        }
        assert!(Ue8m0::NAN.to_f32().is_nan());
    }

    #[test]
    fn rounding_goes_up_at_every_binade() {
        for code in 0..254u8 {
            let x = Ue8m0(code).to_f32();
            assert_eq!(Ue8m0::from_f32_ceil(x.next_up()), Ue8m0(code + 1), "above {x}");
        }
        assert_eq!(Ue8m0::from_f32_ceil(f32::MAX), Ue8m0(254));
        assert_eq!(Ue8m0::from_f32_ceil(0.0), Ue8m0(0));
        assert_eq!(Ue8m0::from_f32_ceil(-1.0), Ue8m0::NAN);
    }
}
