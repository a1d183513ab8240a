//! E4M3, the 8-bit float of weights and activations, from its definition.
//!
//! One sign, four exponent and three mantissa bits, bias 7, no infinity; the one NaN magnitude is
//! `0x7f`. Encoding searches all magnitudes for the nearest: slow, and obviously right.
//!
//! # Source
//!
//! "OCP 8-bit Floating Point Specification (OFP8)", revision 1.0, section 5. Rounding and
//! saturation are those of PTX `cvt.rn.satfinite.e4m3x2.f32`.

use std::sync::LazyLock;

/// The largest finite value, `0x7e`.
pub const MAX: f64 = 448.0;

/// The code that NaN becomes, whatever its sign.
pub const NAN: u8 = 0x7f;

/// Values of the finite magnitudes `0x00..=0x7e`, ascending.
static MAGNITUDES: LazyLock<[f64; 127]> =
    LazyLock::new(|| std::array::from_fn(|code| decode(code as u8)));

/// Returns the value of an E4M3 code.
///
/// `(-1)^s * 2^(e-7) * (1 + m/8)` for `e > 0`, `(-1)^s * 2^-6 * m/8` for `e = 0`, and NaN for
/// `e = 15, m = 7`.
pub fn decode(code: u8) -> f64 {
    let negative = code & 0x80 != 0;
    let exponent = i32::from((code >> 3) & 0x0f);
    let mantissa = f64::from(code & 0x07);
    let magnitude = match exponent {
        15 if mantissa == 7.0 => f64::NAN,
        0 => 2f64.powi(-6) * (mantissa / 8.0),
        _ => 2f64.powi(exponent - 7) * (1.0 + mantissa / 8.0),
    };
    if negative { -magnitude } else { magnitude }
}

/// Returns the code nearest to `x`; a tie goes to the even code.
///
/// # Numerics
///
/// Saturating: anything beyond 448, infinity included, becomes ±448. Zeros and underflow keep their
/// sign (`0x80` for -0.0). NaN becomes [`NAN`] with the sign cleared, as the host form in
/// `cuda_fp8.hpp` does: it replaces a NaN by the canonical one before it converts.
pub fn encode(x: f64) -> u8 {
    if x.is_nan() {
        return NAN;
    }
    let sign = if x.is_sign_negative() { 0x80 } else { 0x00 };
    sign | nearest_magnitude(x.abs().min(MAX))
}

/// Returns the position of a code on the line of values, so that neighbours differ by 1.
///
/// Both zeros are 0, `0x01` is 1, `0x81` is -1; `None` for NaN.
pub fn ordinal(code: u8) -> Option<i32> {
    let magnitude = i32::from(code & 0x7f);
    (magnitude != 0x7f).then_some(if code & 0x80 != 0 { -magnitude } else { magnitude })
}

fn nearest_magnitude(x: f64) -> u8 {
    let mut best = 0;
    for code in 1..=0x7e {
        let distance = (MAGNITUDES[code] - x).abs();
        let best_distance = (MAGNITUDES[best] - x).abs();
        // The code's lowest bit is the mantissa's, so an even code is an even mantissa.
        if distance < best_distance || (distance == best_distance && code % 2 == 0) {
            best = code;
        }
    }
    best as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_the_values_of_the_specification() {
        // OFP8 table 2: the extremes of each class.
        assert_eq!(decode(0x00).to_bits(), 0f64.to_bits());
        assert_eq!(decode(0x80).to_bits(), (-0f64).to_bits());
        assert_eq!(decode(0x01), 2f64.powi(-9));
        assert_eq!(decode(0x07), 0.875 * 2f64.powi(-6));
        assert_eq!(decode(0x08), 2f64.powi(-6));
        assert_eq!(decode(0x38), 1.0);
        assert_eq!(decode(0x3c), 1.5);
        assert_eq!(decode(0xc0), -2.0);
        assert_eq!(decode(0x7e), 448.0);
        assert_eq!(decode(0xfe), -448.0);
        assert!(decode(0x7f).is_nan());
        assert!(decode(0xff).is_nan());
    }

    #[test]
    fn magnitudes_ascend_with_the_code() {
        assert!(MAGNITUDES.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn every_finite_code_encodes_to_itself() {
        for code in (0..=255).filter(|code| code & 0x7f != 0x7f) {
            assert_eq!(encode(decode(code)), code, "code {code:#04x}");
        }
    }

    #[test]
    fn every_midpoint_goes_to_the_even_neighbour_and_a_hair_decides_otherwise() {
        for low in 0x00u8..0x7e {
            let midpoint = (decode(low) + decode(low + 1)) / 2.0;
            let even = if low % 2 == 0 { low } else { low + 1 };
            assert_eq!(encode(midpoint), even, "tie above {low:#04x}");
            assert_eq!(encode(-midpoint), 0x80 | even, "negative tie above {low:#04x}");
            assert_eq!(encode(midpoint.next_down()), low, "just below the tie above {low:#04x}");
            assert_eq!(encode(midpoint.next_up()), low + 1, "just above the tie above {low:#04x}");
        }
    }

    #[test]
    fn ties_by_hand() {
        assert_eq!(encode(1.0625), 0x38, "1 + 1/16 lies between 1 (even) and 1.125");
        assert_eq!(encode(1.1875), 0x3a, "1 + 3/16 lies between 1.125 and 1.25 (even)");
        assert_eq!(encode(2f64.powi(-10)), 0x00, "half of the smallest goes to zero");
        assert_eq!(encode(3.0 * 2f64.powi(-10)), 0x02, "1.5 of the smallest goes to two");
        assert_eq!(encode(-2f64.powi(-10)), 0x80);
    }

    #[test]
    fn overflow_saturates_and_nan_is_canonical() {
        for x in [448.0, 463.9, 464.0, 480.0, 1e30, f64::INFINITY] {
            assert_eq!(encode(x), 0x7e, "{x}");
            assert_eq!(encode(-x), 0xfe, "-{x}");
        }
        assert_eq!(encode(f64::NAN), 0x7f);
        assert_eq!(encode(-f64::NAN), 0x7f);
    }

    #[test]
    fn ordinals_count_the_steps_between_codes() {
        assert_eq!(ordinal(0x00), Some(0));
        assert_eq!(ordinal(0x80), Some(0));
        assert_eq!(ordinal(0x81), Some(-1));
        assert_eq!(ordinal(0x7e), Some(126));
        assert_eq!(ordinal(0x7f), None);
        assert_eq!(ordinal(0xff), None);
    }
}
