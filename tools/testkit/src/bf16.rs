//! Rounding to BF16, from its definition: binary32's exponent, seven mantissa bits.

use half::bf16;

/// The NaN that [`round`] returns: PTX's canonical BF16 NaN.
pub const NAN_BITS: u16 = 0x7fff;

/// Rounds to the nearest BF16, ties to even, in one step from f64.
///
/// # Numerics
///
/// Subnormals are kept, values from `(2 - 2^-8) * 2^127` become infinity, zeros keep their sign,
/// NaN becomes [`NAN_BITS`]. One step matters: f64 → f32 → BF16 can round twice. A result that the
/// code under test holds in f32 before it rounds is given here as that f32.
pub fn round(x: f64) -> bf16 {
    if x.is_nan() {
        return bf16::from_bits(NAN_BITS);
    }
    if x == 0.0 || x.is_infinite() {
        return bf16::from_bits(top_half(x as f32));
    }
    let exponent = (libm::ilogb(x)).max(-126);
    let ulp = 2f64.powi(exponent - 7);
    let rounded = (x / ulp).round_ties_even() * ulp;
    // Exact: eight significant bits fit f32, and 2^128 becomes infinity.
    bf16::from_bits(top_half(rounded as f32))
}

/// Rounds every element.
pub fn round_all(values: &[f64]) -> Vec<bf16> {
    values.iter().map(|&value| round(value)).collect()
}

/// Rounds every f32 element.
pub fn round_f32s(values: &[f32]) -> Vec<bf16> {
    values.iter().map(|&value| round(f64::from(value))).collect()
}

/// Widens a BF16, exactly.
pub fn widen(x: bf16) -> f32 {
    f32::from_bits(u32::from(x.to_bits()) << 16)
}

fn top_half(x: f32) -> u16 {
    (x.to_bits() >> 16) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bits(x: f64) -> u16 {
        round(x).to_bits()
    }

    #[test]
    fn known_values() {
        assert_eq!(bits(1.0), 0x3f80);
        assert_eq!(bits(-2.0), 0xc000);
        assert_eq!(bits(0.0), 0x0000);
        assert_eq!(bits(-0.0), 0x8000);
        assert_eq!(bits(f64::INFINITY), 0x7f80);
        assert_eq!(bits(f64::NAN), 0x7fff);
        assert_eq!(bits(std::f64::consts::PI), 0x4049);
    }

    #[test]
    fn ties_go_to_the_even_mantissa() {
        assert_eq!(bits(1.0 + 2f64.powi(-8)), 0x3f80, "1 is even");
        assert_eq!(bits(1.0 + 3.0 * 2f64.powi(-8)), 0x3f82, "1 + 2/128 is even");
        assert_eq!(bits((1.0 + 2f64.powi(-8)).next_up()), 0x3f81);
        assert_eq!(bits(2f64.powi(-134)), 0x0000, "half of the smallest subnormal");
        assert_eq!(bits(3.0 * 2f64.powi(-134)), 0x0002);
    }

    #[test]
    fn one_step_differs_from_two_where_f32_rounds_onto_a_tie() {
        let x = 1.0 + 2f64.powi(-8) + 2f64.powi(-40);
        assert_eq!(bits(x), 0x3f81);
        assert_eq!(bits(f64::from(x as f32)), 0x3f80);
    }

    #[test]
    fn the_largest_rounds_to_infinity_from_half_an_ulp_above() {
        let max = f64::from(widen(bf16::from_bits(0x7f7f)));
        let edge = (2.0 - 2f64.powi(-8)) * 2f64.powi(127);
        assert_eq!(bits(max), 0x7f7f);
        assert_eq!(bits(edge.next_down()), 0x7f7f);
        assert_eq!(bits(edge), 0x7f80);
    }

    #[test]
    fn every_code_but_nan_survives_the_round_trip() {
        for code in 0..=u16::MAX {
            let value = widen(bf16::from_bits(code));
            if !value.is_nan() {
                assert_eq!(bits(f64::from(value)), code, "code {code:#06x}");
            }
        }
    }
}
