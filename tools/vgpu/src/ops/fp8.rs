//! E4M3 and E5M2: 8-bit floats in pairs.

/// An 8-bit float format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fp8 {
    /// 4 bits of exponent, 3 of mantissa, no infinities, largest 448.
    E4m3,
    /// 5 bits of exponent, 2 of mantissa, infinities, largest 57344.
    E5m2,
}

impl Fp8 {
    const fn mantissa_bits(self) -> u32 {
        match self {
            Fp8::E4m3 => 3,
            Fp8::E5m2 => 2,
        }
    }

    const fn bias(self) -> i32 {
        match self {
            Fp8::E4m3 => 7,
            Fp8::E5m2 => 15,
        }
    }

    /// Code of the largest finite value.
    const fn largest(self) -> u8 {
        match self {
            Fp8::E4m3 => 0x7e,
            Fp8::E5m2 => 0x7b,
        }
    }

    /// Rounds to nearest even; what is too large, infinities included, becomes the largest finite
    /// value of its sign, a NaN stays one (`.satfinite`).
    #[inline(always)]
    pub(crate) fn encode(self, x: f32) -> u8 {
        let sign = (x.to_bits() >> 24) as u8 & 0x80;
        let magnitude = x.abs();
        if x.is_nan() {
            return 0x7f;
        }
        if magnitude.is_infinite() {
            return sign | self.largest();
        }
        let smallest_exponent = 1 - self.bias();
        let exponent = ((magnitude.to_bits() >> 23) as i32 - 127).max(smallest_exponent);
        // The unit in the last place at this exponent.
        let unit_exponent = exponent - self.mantissa_bits() as i32;
        let scaled = f64::from(magnitude) * power_of_two(-unit_exponent);
        let steps = scaled.round_ties_even() as u32;
        // Mantissa and exponent are neighbours, so that a carry moves to the next exponent.
        let below = (exponent - smallest_exponent) as u32;
        let code = steps + (below << self.mantissa_bits());
        sign | code.min(u32::from(self.largest())) as u8
    }

    /// The value of a code.
    #[inline(always)]
    pub(crate) fn decode(self, code: u8) -> f32 {
        let bits = self.mantissa_bits();
        let mantissa = u32::from(code) & ((1 << bits) - 1);
        let exponent = (u32::from(code) & 0x7f) >> bits;
        let negative = code & 0x80 != 0;
        let magnitude = match (self, exponent, mantissa) {
            (Fp8::E4m3, 15, 7) | (Fp8::E5m2, 31, 1..) => f32::from_bits(0x7fff_ffff),
            (Fp8::E5m2, 31, 0) => f32::INFINITY,
            (_, 0, _) => mantissa as f32 * power_of_two(1 - self.bias() - bits as i32) as f32,
            _ => {
                let field = (exponent as i32 - self.bias() + 127) as u32;
                f32::from_bits(field << 23 | mantissa << (23 - bits))
            }
        };
        if negative { -magnitude } else { magnitude }
    }
}

#[inline(always)]
fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}
