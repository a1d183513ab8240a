//! Exact rounding through FP64 "rounded to odd": a sum or product whose last bit records that
//! something was cut off, so that a second rounding to a narrower format is right in every mode.

/// A rounding mode of PTX.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// To nearest, ties to even.
    Nearest,
    /// Towards zero.
    Zero,
    /// Towards minus infinity.
    Down,
    /// Towards plus infinity.
    Up,
}

/// `a * b + c` with the last bit set if the result is not exact. `a * b` must be exact in FP64.
#[inline(always)]
pub(crate) fn product_sum_to_odd(a: f64, b: f64, c: f64) -> f64 {
    sum_to_odd(a * b, c)
}

/// `a + b` with the last bit set if the result is not exact.
#[inline(always)]
pub(crate) fn sum_to_odd(a: f64, b: f64) -> f64 {
    let sum = a + b;
    let part = sum - a;
    let error = (a - (sum - part)) + (b - part);
    if error == 0.0 || !sum.is_finite() || sum.to_bits() & 1 == 1 {
        return sum;
    }
    let away = (error > 0.0) == (sum > 0.0);
    f64::from_bits(if away { sum.to_bits() | 1 } else { sum.to_bits() - 1 })
}

/// Rounds to FP32.
#[inline(always)]
pub(crate) fn to_f32(x: f64, mode: Mode) -> f32 {
    let near = x as f32;
    let wide = f64::from(near);
    if x.is_nan() || mode == Mode::Nearest || wide == x {
        return near;
    }
    let too_high = wide > x;
    let lower = match mode {
        Mode::Down => true,
        Mode::Up => false,
        _ => x > 0.0,
    };
    match (lower, too_high) {
        (true, true) => near.next_down(),
        (false, false) => near.next_up(),
        _ => near,
    }
}
