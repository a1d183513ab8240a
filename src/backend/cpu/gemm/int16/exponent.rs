//! The exponent of a row's fixed-point numbers, from a bound on the row's norm.
//!
//! The bound is an integer, `sum of t(code)^2` with `t` a magnitude rounded up to seven bits, so every way
//! to compute it gives the same exponent.

use crate::num::E4M3;

/// Smallest exponent: 128 values of 448 have the norm 5069, and 5069 * 2^3 < 2^15.5.
pub(super) const MIN_EXPONENT: u32 = 3;
/// Largest exponent: E4M3 values are multiples of 2^-9.
pub(super) const MAX_EXPONENT: u32 = 9;

/// One step of `t`.
const UNIT: f64 = 448.0 / 127.0;
/// Half a unit in the last place for each of 128 numbers, as a norm: `sqrt(128) / 2`, rounded up.
const ROUNDING: f64 = 6.0;
/// What 128 codes of value 2^-9, which have t = 0, add to the norm: `sqrt(128) * 2^-9`, rounded up.
const UNSEEN: f64 = 0.03;
/// 2^15.5, rounded down.
const MAX_NORM: f64 = 46340.0;
/// Above exponent 6 the largest value need not fit INT16 by itself; a norm of at most this makes it.
const MAX_NORM_ONE_VALUE: f64 = 32767.0;

/// `t` by the seven magnitude bits of a code without the last: the larger of the two magnitudes,
/// in units, rounded up.
pub(super) static MAGNITUDES: [u8; 64] = magnitudes();

const fn magnitudes() -> [u8; 64] {
    let mut table = [0; 64];
    let mut idx = 1;
    while idx < 64 {
        // The last pair is 448 and NaN: NaN is dealt with apart, whatever its exponent.
        let code = if idx == 63 { 0x7e } else { 2 * idx as u8 + 1 };
        table[idx] = (E4M3(code).to_f32() as f64 / UNIT - 1e-9).ceil() as u8;
        idx += 1;
    }
    table
}

/// Largest `sum of t^2` for the exponents 4, 5, .. 9.
pub(super) const LIMITS: [i32; (MAX_EXPONENT - MIN_EXPONENT) as usize] = limits();

const fn limits() -> [i32; (MAX_EXPONENT - MIN_EXPONENT) as usize] {
    let mut limits = [0; (MAX_EXPONENT - MIN_EXPONENT) as usize];
    let mut idx = 0;
    while idx < limits.len() {
        let exponent = MIN_EXPONENT + 1 + idx as u32;
        let max_norm = if exponent <= 6 { MAX_NORM } else { MAX_NORM_ONE_VALUE };
        let norm = (max_norm - ROUNDING) / (1 << exponent) as f64 - UNSEEN;
        limits[idx] = (norm / UNIT * (norm / UNIT)) as i32;
        idx += 1;
    }
    limits
}

/// The exponent for a row with this `sum of t^2`.
pub(super) fn exponent(sum_of_squares: i32) -> u32 {
    MIN_EXPONENT + LIMITS.iter().filter(|&&limit| sum_of_squares <= limit).count() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum_of_squares(codes: &[u8]) -> i32 {
        codes.iter().map(|code| i32::from(MAGNITUDES[usize::from(code >> 1 & 63)]).pow(2)).sum()
    }

    fn fixed_norm(codes: &[u8], exponent: u32) -> f64 {
        let scale = f64::from(1 << exponent);
        let fixed = codes.iter().map(|&code| f64::from(E4M3(code).to_f32()) * scale);
        fixed.map(|x| x.round_ties_even().powi(2)).sum::<f64>().sqrt()
    }

    #[test]
    fn a_magnitude_is_never_understated() {
        for code in 2..0x7f {
            let t = f64::from(MAGNITUDES[usize::from(code >> 1)]);
            let value = f64::from(E4M3(code).to_f32());
            assert!(t * UNIT >= value * (1.0 - 1e-8), "{code:#x}: {t}");
        }
        assert_eq!(MAGNITUDES[63], 127);
    }

    #[test]
    fn no_row_can_overflow_whatever_its_mixture_of_codes() {
        // `count` values of one code, the others of another: every pair of magnitudes.
        for count in [1, 2, 5, 64, 127, 128] {
            for high in 0..0x7f {
                for low in (0..=high).step_by(3) {
                    let mut codes = [low; 128];
                    codes[..count].fill(high);
                    let e = exponent(sum_of_squares(&codes));
                    let largest = E4M3(high).to_f32() * (1 << e) as f32;
                    assert!(largest <= 32767.0, "{count} x {high:#x}, {low:#x}: {largest}");
                    let norm = fixed_norm(&codes, e);
                    assert!(norm < 2f64.powf(15.5), "{count} x {high:#x}, {low:#x}: {norm}");
                }
            }
        }
    }

    #[test]
    fn small_rows_convert_exactly_and_large_ones_take_the_smallest_exponent() {
        assert_eq!(exponent(sum_of_squares(&[0x7e; 128])), MIN_EXPONENT);
        assert_eq!(exponent(sum_of_squares(&[0x08; 128])), MAX_EXPONENT);
        assert_eq!(exponent(0), MAX_EXPONENT);
        // A row of weights: normal with a standard deviation of a quarter of the largest code.
        assert_eq!(exponent(sum_of_squares(&[E4M3::from_f32(112.0).0; 128])), 5);
    }

    #[test]
    fn a_nan_code_fits_int16_at_its_rows_exponent() {
        for rest in 0..0x7f {
            let mut codes = [rest; 128];
            codes[7] = 0x7f;
            assert!(480 << exponent(sum_of_squares(&codes)) <= 32767, "beside {rest:#x}");
        }
    }
}
