//! FP16 and BF16 arithmetic, single and in pairs. Computed in FP64 to odd and rounded once.

use half::{bf16, f16};

use super::convert::{bf16_from, f16_from};
use super::round::{Mode, product_sum_to_odd, sum_to_odd};
use super::table;

#[inline(always)]
fn fma16(a: f16, b: f16, c: f16) -> f16 {
    f16_from(product_sum_to_odd(a.to_f64(), b.to_f64(), c.to_f64()), Mode::Nearest)
}

#[inline(always)]
fn fma_b16(a: bf16, b: bf16, c: bf16) -> bf16 {
    bf16_from(product_sum_to_odd(a.to_f64(), b.to_f64(), c.to_f64()), Mode::Nearest)
}

#[inline(always)]
fn add16(a: f16, b: f16) -> f16 {
    f16_from(sum_to_odd(a.to_f64(), b.to_f64()), Mode::Nearest)
}

#[inline(always)]
fn add_b16(a: bf16, b: bf16) -> bf16 {
    bf16_from(sum_to_odd(a.to_f64(), b.to_f64()), Mode::Nearest)
}

#[inline(always)]
fn mul16(a: f16, b: f16) -> f16 {
    f16_from(a.to_f64() * b.to_f64(), Mode::Nearest)
}

#[inline(always)]
fn mul_b16(a: bf16, b: bf16) -> bf16 {
    bf16_from(a.to_f64() * b.to_f64(), Mode::Nearest)
}

/// Negative numbers become +0.
#[inline(always)]
fn relu16(a: f16) -> f16 {
    if a.is_sign_negative() && !a.is_nan() { f16::ZERO } else { a }
}

/// The same of BF16.
#[inline(always)]
fn relu_b16(a: bf16) -> bf16 {
    if a.is_sign_negative() && !a.is_nan() { bf16::ZERO } else { a }
}

/// A NaN becomes the canonical one.
#[inline(always)]
fn quiet16(a: f16) -> f16 {
    if a.is_nan() { f16::from_bits(0x7fff) } else { a }
}

/// The same of BF16.
#[inline(always)]
fn quiet_b16(a: bf16) -> bf16 {
    if a.is_nan() { bf16::from_bits(0x7fff) } else { a }
}

/// `2^a`; subnormal numbers are flushed.
#[inline(always)]
fn exp2_b16(a: bf16) -> bf16 {
    let power = bf16_from(libm::exp2(a.to_f64()), Mode::Nearest);
    if power.to_bits() < 0x0080 { bf16::ZERO } else { power }
}

table! {
    "add.f16" | "add.rn.f16" => (a: f16, b: f16) -> f16 { add16(a, b) }
    "add.bf16" | "add.rn.bf16" => (a: bf16, b: bf16) -> bf16 { add_b16(a, b) }
    "add.f16x2" | "add.rn.f16x2" => (a: [f16; 2], b: [f16; 2]) -> [f16; 2] {
        [add16(a[0], b[0]), add16(a[1], b[1])]
    }
    "add.bf16x2" | "add.rn.bf16x2" => (a: [bf16; 2], b: [bf16; 2]) -> [bf16; 2] {
        [add_b16(a[0], b[0]), add_b16(a[1], b[1])]
    }
    "sub.f16" | "sub.rn.f16" => (a: f16, b: f16) -> f16 { add16(a, -b) }
    "sub.bf16" | "sub.rn.bf16" => (a: bf16, b: bf16) -> bf16 { add_b16(a, -b) }
    "sub.f16x2" | "sub.rn.f16x2" => (a: [f16; 2], b: [f16; 2]) -> [f16; 2] {
        [add16(a[0], -b[0]), add16(a[1], -b[1])]
    }
    "sub.bf16x2" | "sub.rn.bf16x2" => (a: [bf16; 2], b: [bf16; 2]) -> [bf16; 2] {
        [add_b16(a[0], -b[0]), add_b16(a[1], -b[1])]
    }
    "mul.f16" | "mul.rn.f16" => (a: f16, b: f16) -> f16 { mul16(a, b) }
    "mul.bf16" | "mul.rn.bf16" => (a: bf16, b: bf16) -> bf16 { mul_b16(a, b) }
    "mul.f16x2" | "mul.rn.f16x2" => (a: [f16; 2], b: [f16; 2]) -> [f16; 2] {
        [mul16(a[0], b[0]), mul16(a[1], b[1])]
    }
    "mul.bf16x2" | "mul.rn.bf16x2" => (a: [bf16; 2], b: [bf16; 2]) -> [bf16; 2] {
        [mul_b16(a[0], b[0]), mul_b16(a[1], b[1])]
    }
    "fma.rn.f16" => (a: f16, b: f16, c: f16) -> f16 { fma16(a, b, c) }
    "fma.rn.relu.f16" => (a: f16, b: f16, c: f16) -> f16 { relu16(fma16(a, b, c)) }
    "fma.rn.relu.bf16" => (a: bf16, b: bf16, c: bf16) -> bf16 { relu_b16(fma_b16(a, b, c)) }
    "fma.rn.bf16" => (a: bf16, b: bf16, c: bf16) -> bf16 { fma_b16(a, b, c) }
    "fma.rn.f16x2" => (a: [f16; 2], b: [f16; 2], c: [f16; 2]) -> [f16; 2] {
        [fma16(a[0], b[0], c[0]), fma16(a[1], b[1], c[1])]
    }
    "fma.rn.bf16x2" => (a: [bf16; 2], b: [bf16; 2], c: [bf16; 2]) -> [bf16; 2] {
        [fma_b16(a[0], b[0], c[0]), fma_b16(a[1], b[1], c[1])]
    }
    "neg.f16" => (a: f16) -> f16 { quiet16(-a) }
    "neg.bf16" => (a: bf16) -> bf16 { quiet_b16(-a) }
    "neg.f16x2" => (a: [f16; 2]) -> [f16; 2] { a.map(|x| quiet16(-x)) }
    "neg.bf16x2" => (a: [bf16; 2]) -> [bf16; 2] { a.map(|x| quiet_b16(-x)) }
    "abs.f16" => (a: f16) -> f16 { quiet16(f16::from_bits(a.to_bits() & 0x7fff)) }
    "abs.bf16" => (a: bf16) -> bf16 { quiet_b16(bf16::from_bits(a.to_bits() & 0x7fff)) }
    "abs.f16x2" => (a: [f16; 2]) -> [f16; 2] {
        a.map(|x| quiet16(f16::from_bits(x.to_bits() & 0x7fff)))
    }
    "abs.bf16x2" => (a: [bf16; 2]) -> [bf16; 2] {
        a.map(|x| quiet_b16(bf16::from_bits(x.to_bits() & 0x7fff)))
    }
    "ex2.approx.f16" => (a: f16) -> f16 { f16_from(libm::exp2(a.to_f64()), Mode::Nearest) }
    "ex2.approx.ftz.bf16" => (a: bf16) -> bf16 { exp2_b16(a) }
    "ex2.approx.f16x2" => (a: [f16; 2]) -> [f16; 2] {
        a.map(|x| f16_from(libm::exp2(x.to_f64()), Mode::Nearest))
    }
    "ex2.approx.ftz.bf16x2" => (a: [bf16; 2]) -> [bf16; 2] {
        a.map(exp2_b16)
    }
    "tanh.approx.f16" => (a: f16) -> f16 { f16_from(libm::tanh(a.to_f64()), Mode::Nearest) }
    "tanh.approx.bf16" => (a: bf16) -> bf16 { bf16_from(libm::tanh(a.to_f64()), Mode::Nearest) }
}
