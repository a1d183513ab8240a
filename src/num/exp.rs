//! The one exponential of the crate, and what is built on it.
//!
//! Routing and requantisation are bitwise equal on all backends, so `exp` is spelled out in
//! operations that IEEE 754 fixes (fused multiply-add, multiply, add) and written once per language.

// NOTE: adding 1.5 * 2^23 rounds to an integer, ties to even, and leaves it in the low mantissa bits.
const ROUND_MAGIC: f32 = 12_582_912.0;
const LOG2_E: f32 = std::f32::consts::LOG2_E;
// ln 2 = LN2_HI + LN2_LO; LN2_HI has 9 significant bits, so n * LN2_HI is exact for |n| < 2^15.
const LN2_HI: f32 = 0.693_359_4;
const LN2_LO: f32 = -2.121_944_4e-4;
/// `exp(r) = 1 + r + r^2 (C2 + C3 r + ...)` on `|r| <= ln 2 / 2`: the Taylor coefficients to r^7.
const C: [f32; 6] = [1.0 / 2.0, 1.0 / 6.0, 1.0 / 24.0, 1.0 / 120.0, 1.0 / 720.0, 1.0 / 5040.0];

/// Computes `e^x` with a fixed sequence of operations.
///
/// `n = rn(x log2 e)`, `r = x - n ln 2` in two fused steps, a degree-7 Taylor polynomial in fused
/// multiply-adds, then two multiplications by powers of two.
///
/// # Numerics
///
/// The same bits on every machine and backend. Within 2 ulp of the true value for normal results;
/// results below 2^-126 round once more. `x > 88.8` gives +inf, `x < -104` gives 0, NaN gives NaN.
///
/// # Examples
///
/// ```
/// use moekit::num::exp;
/// assert_eq!(exp(0.0), 1.0);
/// assert!((exp(1.0) - std::f32::consts::E).abs() < 1e-6);
/// assert_eq!(exp(f32::NEG_INFINITY), 0.0);
/// ```
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    let clamped = x.clamp(-104.0, 88.8);
    let shifted = clamped.mul_add(LOG2_E, ROUND_MAGIC);
    let n = shifted - ROUND_MAGIC;
    let r = n.mul_add(-LN2_HI, clamped);
    let r = n.mul_add(-LN2_LO, r);
    let mut p = C[5];
    p = p.mul_add(r, C[4]);
    p = p.mul_add(r, C[3]);
    p = p.mul_add(r, C[2]);
    p = p.mul_add(r, C[1]);
    p = p.mul_add(r, C[0]);
    let r2 = r * r;
    let p = p.mul_add(r2, r) + 1.0;
    // NOTE: 2^n in two factors, because n reaches -150 and 128 where one factor has no f32.
    let n = shifted.to_bits().wrapping_sub(ROUND_MAGIC.to_bits()) as i32;
    let half = n >> 1;
    p * power_of_two(half) * power_of_two(n - half)
}

/// Computes `1 / (1 + e^-x)`, with one IEEE division.
///
/// # Numerics
///
/// The same bits on every machine and backend; at most 4 ulp from the true value.
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits(((n + 127) as u32) << 23)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_two_ulp_for_normal_results() {
        let mut bits = 0u32;
        while let Some(next) = bits.checked_add(4099) {
            bits = next;
            let x = f32::from_bits(bits);
            if !(-87.0..88.7).contains(&x) {
                continue;
            }
            let want = f64::from(x).exp();
            let ulp = f64::from((want as f32).next_up()) - f64::from(want as f32);
            let err = (f64::from(exp(x)) - want).abs() / ulp;
            assert!(err <= 2.0, "exp({x}) = {} is {err} ulp off", exp(x));
        }
    }

    #[test]
    fn exp_has_the_stated_ends() {
        assert_eq!(exp(88.8), f32::INFINITY);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp(-104.0), 0.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert!(exp(f32::NAN).is_nan());
        assert!(exp(-100.0) > 0.0);
    }
}
