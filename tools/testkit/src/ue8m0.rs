//! UE8M0, the power-of-two scale: eight exponent bits, no sign, no mantissa.
//!
//! # Source
//!
//! "OCP Microscaling Formats (MX) Specification", revision 1.0, section 5.4.1 (E8M0). Rounding up
//! is DeepGEMM's `ceil_to_ue8m0`.

/// The code of NaN.
pub const NAN: u8 = 0xff;

/// Returns the value of a code: `2^(code - 127)`, NaN for 255.
pub fn decode(code: u8) -> f64 {
    if code == NAN { f64::NAN } else { 2f64.powi(i32::from(code) - 127) }
}

/// Returns the code of the smallest power of two that is at least `x`.
///
/// # Numerics
///
/// Exact powers of two stay. Above 2^127 there is no such code: the result is 254. At or below
/// 2^-127, zero included, it is 0. NaN and negative values, which have no code, become [`NAN`].
pub fn encode_up(x: f64) -> u8 {
    if x.is_nan() || x < 0.0 {
        return NAN;
    }
    (0..=253).find(|&code| decode(code) >= x).unwrap_or(254)
}

/// Rounds a scale up to a power of two, `decode(encode_up(x))`.
pub fn round_up(x: f64) -> f64 {
    decode(encode_up(x))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_biased_exponents() {
        assert_eq!(decode(127), 1.0);
        assert_eq!(decode(128), 2.0);
        assert_eq!(decode(0), 2f64.powi(-127));
        assert_eq!(decode(254), 2f64.powi(127));
        assert!(decode(255).is_nan());
    }

    #[test]
    fn every_code_encodes_to_itself_and_a_hair_more_goes_to_the_next() {
        for code in 0..=254 {
            assert_eq!(encode_up(decode(code)), code);
        }
        for code in 0..=253 {
            assert_eq!(encode_up(decode(code).next_up()), code + 1, "above code {code}");
        }
    }

    #[test]
    fn rounding_up_by_hand() {
        assert_eq!(round_up(1.0), 1.0);
        assert_eq!(round_up(1.0001), 2.0);
        assert_eq!(round_up(0.75), 1.0);
        assert_eq!(round_up(448.0), 512.0);
        assert_eq!(round_up(1e-4 / 448.0), 2f64.powi(-22), "2^-23 < 2.2e-7 < 2^-22");
    }

    #[test]
    fn the_ends_clamp() {
        assert_eq!(encode_up(0.0), 0);
        assert_eq!(encode_up(1e300), 254);
        assert_eq!(encode_up(-0.0), 0);
        assert_eq!(encode_up(-1.0), NAN);
        assert_eq!(encode_up(f64::NAN), NAN);
    }
}
