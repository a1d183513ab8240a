//! FP32 and FP64 arithmetic. A NaN result is the canonical one, `0x7fffffff`. The approximate
//! functions are within one unit in the last place of FP32; the hardware's are within two or so.

use super::minmax::NAN;
use super::round::{Mode, product_sum_to_odd, sum_to_odd, to_f32};
use super::table;

/// `.ftz`: a subnormal becomes a zero of its sign.
#[inline(always)]
pub(super) fn flush(x: f32) -> f32 {
    let bits = x.to_bits();
    if bits & 0x7f80_0000 == 0 { f32::from_bits(bits & 0x8000_0000) } else { x }
}

/// A NaN becomes the canonical one. On the bits: a compiler may give a NaN any bits it likes.
#[inline(always)]
pub(super) fn quiet(x: f32) -> f32 {
    let bits = x.to_bits();
    f32::from_bits(if bits & 0x7fff_ffff > 0x7f80_0000 { NAN.to_bits() } else { bits })
}

/// Both.
#[inline(always)]
fn flushed(x: f32) -> f32 {
    flush(quiet(x))
}

#[inline(always)]
fn wide(x: f32) -> f64 {
    f64::from(x)
}

/// `a + b` in a mode.
#[inline(always)]
fn add(a: f32, b: f32, mode: Mode) -> f32 {
    quiet(to_f32(sum_to_odd(wide(a), wide(b)), mode))
}

/// `a * b` in a mode.
#[inline(always)]
fn mul(a: f32, b: f32, mode: Mode) -> f32 {
    quiet(to_f32(wide(a) * wide(b), mode))
}

/// `a * b + c` in a mode.
#[inline(always)]
fn fma(a: f32, b: f32, c: f32, mode: Mode) -> f32 {
    quiet(to_f32(product_sum_to_odd(wide(a), wide(b), wide(c)), mode))
}

/// `a / b` in a mode: the quotient's exact remainder says on which side FP64 rounded.
#[inline(always)]
fn div(a: f32, b: f32, mode: Mode) -> f32 {
    let (a, b) = (wide(a), wide(b));
    let quotient = a / b;
    if !quotient.is_finite() || b.is_infinite() {
        return quiet(quotient as f32);
    }
    let rest = (-quotient).mul_add(b, a);
    quiet(to_f32(sum_to_odd(quotient, nudge(quotient, rest, b)), mode))
}

/// `sqrt(a)` in a mode.
#[inline(always)]
fn sqrt(a: f32, mode: Mode) -> f32 {
    let a = wide(a);
    let root = a.sqrt();
    let rest = (-root).mul_add(root, a);
    if !root.is_finite() || root == 0.0 {
        return quiet(root as f32);
    }
    quiet(to_f32(sum_to_odd(root, nudge(root, rest, root)), mode))
}

/// `a / b`; above 2^126 the reciprocal of `b` is taken for zero. PTX ISA, `div.approx`.
#[inline(always)]
fn quotient(a: f32, b: f32) -> f32 {
    let is_large = b.is_finite() && b.abs() > f32::from_bits(0x7e80_0000);
    if is_large { a * 0f32.copysign(b) } else { a / b }
}

/// Of two FP64 operands that are NaN the second is the result, as is the only one; quiet.
#[inline(always)]
fn of_f64(a: f64, b: f64, result: f64) -> f64 {
    let nan = if b.is_nan() { b } else { a };
    if nan.is_nan() { quiet_f64(nan) } else { result }
}

/// A NaN with its sign and bits, no longer signalling.
#[inline(always)]
fn quiet_f64(x: f64) -> f64 {
    f64::from_bits(if x.is_nan() { x.to_bits() | 1 << 51 } else { x.to_bits() })
}

/// The upper half of an approximation in FP64; the lower one is zero. A NaN is the canonical one.
#[inline(always)]
fn upper_half(x: f64) -> f64 {
    let bits = if x.is_nan() { 0x7fff_ffff << 32 } else { x.to_bits() >> 32 << 32 };
    f64::from_bits(bits)
}

/// `.ftz` of FP64.
#[inline(always)]
fn flush_f64(x: f64) -> f64 {
    if x.is_subnormal() { 0f64.copysign(x) } else { x }
}

/// A value far below `near` with the sign of `rest / divisor`.
#[inline(always)]
fn nudge(near: f64, rest: f64, divisor: f64) -> f64 {
    if rest == 0.0 {
        return 0.0;
    }
    let tiny = near.abs() * f64::from_bits(0x3b90_0000_0000_0000); // 2^-70
    if (rest > 0.0) == (divisor > 0.0) { tiny } else { -tiny }
}

/// `2^x`: the integer part goes to the exponent, a polynomial gives the rest.
#[inline(always)]
fn exp2(x: f32) -> f32 {
    let x = wide(x).clamp(-1000.0, 1000.0);
    let whole = x.round_ties_even();
    let t = (x - whole) * std::f64::consts::LN_2;
    let mut sum: f64 = 1.0 / 3_628_800.0;
    for divisor in [362_880.0, 40_320.0, 5_040.0, 720.0, 120.0, 24.0, 6.0, 2.0, 1.0, 1.0] {
        sum = sum.mul_add(t, 1.0 / divisor);
    }
    let scale = f64::from_bits(((whole as i32 + 1023) as u64) << 52);
    quiet((sum * scale) as f32)
}

/// `log2(x)`: the exponent, and a series in `(m - 1) / (m + 1)` for the mantissa.
#[inline(always)]
fn log2(x: f32) -> f32 {
    let bits = wide(x).to_bits();
    let half_up = u64::from(bits & 0x000f_ffff_ffff_ffff > 0x0006_a09e_667f_3bcd);
    let exponent = ((bits >> 52) + half_up) as i32 - 1023;
    let mantissa = f64::from_bits(bits & 0x000f_ffff_ffff_ffff | (1023 - half_up) << 52);
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let square = s * s;
    let mut sum: f64 = 1.0 / 17.0;
    for divisor in [15.0, 13.0, 11.0, 9.0, 7.0, 5.0, 3.0, 1.0] {
        sum = sum.mul_add(square, 1.0 / divisor);
    }
    let value = (sum * s).mul_add(2.0 * std::f64::consts::LOG2_E, f64::from(exponent)) as f32;
    match x {
        _ if x == 0.0 => f32::NEG_INFINITY,
        _ if x.is_nan() || x < 0.0 => NAN,
        _ if x.is_infinite() => x,
        _ => value,
    }
}

/// Clamps to [0, 1]; a NaN becomes +0.
#[inline(always)]
fn saturate(x: f32) -> f32 {
    if x > 0.0 { x.min(1.0) } else { 0.0 }
}

table! {
    "add.f32" | "add.rn.f32" => (a: f32, b: f32) -> f32 { quiet(a + b) }
    "add.ftz.f32" | "add.rn.ftz.f32" => (a: f32, b: f32) -> f32 { flushed(flush(a) + flush(b)) }
    "add.rz.f32" => (a: f32, b: f32) -> f32 { add(a, b, Mode::Zero) }
    "add.rm.f32" => (a: f32, b: f32) -> f32 { add(a, b, Mode::Down) }
    "add.rp.f32" => (a: f32, b: f32) -> f32 { add(a, b, Mode::Up) }
    "sub.f32" | "sub.rn.f32" => (a: f32, b: f32) -> f32 { quiet(a - b) }
    "sub.ftz.f32" | "sub.rn.ftz.f32" => (a: f32, b: f32) -> f32 { flushed(flush(a) - flush(b)) }
    "sub.rz.f32" => (a: f32, b: f32) -> f32 { add(a, -b, Mode::Zero) }
    "sub.rm.f32" => (a: f32, b: f32) -> f32 { add(a, -b, Mode::Down) }
    "sub.rp.f32" => (a: f32, b: f32) -> f32 { add(a, -b, Mode::Up) }
    "mul.f32" | "mul.rn.f32" => (a: f32, b: f32) -> f32 { quiet(a * b) }
    "mul.ftz.f32" | "mul.rn.ftz.f32" => (a: f32, b: f32) -> f32 { flushed(flush(a) * flush(b)) }
    "mul.rz.f32" => (a: f32, b: f32) -> f32 { mul(a, b, Mode::Zero) }
    "mul.rm.f32" => (a: f32, b: f32) -> f32 { mul(a, b, Mode::Down) }
    "mul.rp.f32" => (a: f32, b: f32) -> f32 { mul(a, b, Mode::Up) }

    /// `d = a * b + c`, one rounding. PTX ISA, `fma`.
    "fma.rn.f32" | "mad.rn.f32" => (a: f32, b: f32, c: f32) -> f32 { quiet(a.mul_add(b, c)) }
    "fma.rn.ftz.f32" | "mad.rn.ftz.f32" => (a: f32, b: f32, c: f32) -> f32 {
        flushed(flush(a).mul_add(flush(b), flush(c)))
    }
    "fma.rz.f32" => (a: f32, b: f32, c: f32) -> f32 { fma(a, b, c, Mode::Zero) }
    "fma.rm.f32" => (a: f32, b: f32, c: f32) -> f32 { fma(a, b, c, Mode::Down) }
    "fma.rp.f32" => (a: f32, b: f32, c: f32) -> f32 { fma(a, b, c, Mode::Up) }
    "fma.rn.f32x2" => (a: [f32; 2], b: [f32; 2], c: [f32; 2]) -> [f32; 2] {
        [quiet(a[0].mul_add(b[0], c[0])), quiet(a[1].mul_add(b[1], c[1]))]
    }
    "add.rn.f32x2" | "add.f32x2" => (a: [f32; 2], b: [f32; 2]) -> [f32; 2] {
        [quiet(a[0] + b[0]), quiet(a[1] + b[1])]
    }
    "mul.rn.f32x2" | "mul.f32x2" => (a: [f32; 2], b: [f32; 2]) -> [f32; 2] {
        [quiet(a[0] * b[0]), quiet(a[1] * b[1])]
    }

    "div.rn.f32" | "div.full.f32" => (a: f32, b: f32) -> f32 { quiet(a / b) }
    "div.rn.ftz.f32" | "div.full.ftz.f32" => (a: f32, b: f32) -> f32 {
        flushed(flush(a) / flush(b))
    }
    "div.approx.f32" => (a: f32, b: f32) -> f32 { quiet(quotient(a, b)) }
    "div.approx.ftz.f32" => (a: f32, b: f32) -> f32 {
        flushed(quotient(flush(a), flush(b)))
    }
    "div.rz.f32" => (a: f32, b: f32) -> f32 { div(a, b, Mode::Zero) }
    "div.rm.f32" => (a: f32, b: f32) -> f32 { div(a, b, Mode::Down) }
    "div.rp.f32" => (a: f32, b: f32) -> f32 { div(a, b, Mode::Up) }
    "rcp.rn.f32" | "rcp.approx.f32" => (a: f32) -> f32 { quiet(1.0 / a) }
    "rcp.rn.ftz.f32" | "rcp.approx.ftz.f32" => (a: f32) -> f32 { flushed(1.0 / flush(a)) }
    "rcp.rz.f32" => (a: f32) -> f32 { div(1.0, a, Mode::Zero) }
    "rcp.rm.f32" => (a: f32) -> f32 { div(1.0, a, Mode::Down) }
    "rcp.rp.f32" => (a: f32) -> f32 { div(1.0, a, Mode::Up) }
    "sqrt.rn.f32" | "sqrt.approx.f32" => (a: f32) -> f32 { quiet(a.sqrt()) }
    "sqrt.rn.ftz.f32" | "sqrt.approx.ftz.f32" => (a: f32) -> f32 { flushed(flush(a).sqrt()) }
    "sqrt.rz.f32" => (a: f32) -> f32 { sqrt(a, Mode::Zero) }
    "sqrt.rm.f32" => (a: f32) -> f32 { sqrt(a, Mode::Down) }
    "sqrt.rp.f32" => (a: f32) -> f32 { sqrt(a, Mode::Up) }
    "rsqrt.approx.f32" => (a: f32) -> f32 { quiet((1.0 / wide(a).sqrt()) as f32) }
    "rsqrt.approx.ftz.f32" => (a: f32) -> f32 { flushed((1.0 / wide(flush(a)).sqrt()) as f32) }

    "neg.f32" => (a: f32) -> f32 { quiet(-a) }
    "neg.ftz.f32" => (a: f32) -> f32 { quiet(-flush(a)) }
    "abs.f32" => (a: f32) -> f32 { quiet(a.abs()) }
    "abs.ftz.f32" => (a: f32) -> f32 { quiet(flush(a).abs()) }
    "copysign.f32" => (a: f32, b: f32) -> f32 { b.copysign(a) }
    /// The clamp that `.sat` adds to another instruction.
    "sat.f32" => (a: f32) -> f32 { saturate(a) }

    "ex2.approx.f32" => (a: f32) -> f32 { exp2(a) }
    "ex2.approx.ftz.f32" => (a: f32) -> f32 { flush(exp2(flush(a))) }
    "lg2.approx.f32" => (a: f32) -> f32 { log2(a) }
    "lg2.approx.ftz.f32" => (a: f32) -> f32 { flush(log2(flush(a))) }
    "sin.approx.f32" => (a: f32) -> f32 { quiet(libm::sin(wide(a)) as f32) }
    "sin.approx.ftz.f32" => (a: f32) -> f32 { flushed(libm::sin(wide(flush(a))) as f32) }
    "cos.approx.f32" => (a: f32) -> f32 { quiet(libm::cos(wide(a)) as f32) }
    "cos.approx.ftz.f32" => (a: f32) -> f32 { flushed(libm::cos(wide(flush(a))) as f32) }
    "tanh.approx.f32" => (a: f32) -> f32 { quiet(libm::tanh(wide(a)) as f32) }

    "add.f64" | "add.rn.f64" => (a: f64, b: f64) -> f64 { of_f64(a, b, a + b) }
    "sub.f64" | "sub.rn.f64" => (a: f64, b: f64) -> f64 { of_f64(a, b, a - b) }
    "mul.f64" | "mul.rn.f64" => (a: f64, b: f64) -> f64 { of_f64(a, b, a * b) }
    "fma.rn.f64" | "mad.rn.f64" => (a: f64, b: f64, c: f64) -> f64 {
        of_f64(of_f64(a, c, 0.0), b, a.mul_add(b, c))
    }
    "div.rn.f64" => (a: f64, b: f64) -> f64 { a / b }
    "rcp.rn.f64" => (a: f64) -> f64 { 1.0 / a }
    "rcp.approx.ftz.f64" => (a: f64) -> f64 { flush_f64(upper_half(1.0 / flush_f64(a))) }
    "sqrt.rn.f64" => (a: f64) -> f64 { a.sqrt() }
    "rsqrt.approx.f64" => (a: f64) -> f64 { 1.0 / a.sqrt() }
    "rsqrt.approx.ftz.f64" => (a: f64) -> f64 { upper_half(1.0 / flush_f64(a).sqrt()) }
    "neg.f64" => (a: f64) -> f64 { if a.is_nan() { quiet_f64(a) } else { -a } }
    "abs.f64" => (a: f64) -> f64 { if a.is_nan() { quiet_f64(a) } else { a.abs() } }
    "copysign.f64" => (a: f64, b: f64) -> f64 { b.copysign(a) }

    "testp.finite.f32" => (a: f32) -> bool { a.is_finite() }
    "testp.infinite.f32" => (a: f32) -> bool { a.is_infinite() }
    "testp.number.f32" => (a: f32) -> bool { !a.is_nan() }
    "testp.notanumber.f32" => (a: f32) -> bool { a.is_nan() }
    /// A zero counts as one.
    "testp.normal.f32" => (a: f32) -> bool { a.is_normal() || a == 0.0 }
    "testp.subnormal.f32" => (a: f32) -> bool { a.is_subnormal() }
}
