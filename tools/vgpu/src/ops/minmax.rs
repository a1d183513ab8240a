//! Minimum and maximum. Of two floats of which one is a NaN, the other is taken; with `.NaN`, the NaN.

use half::{bf16, f16};

use super::float::flush;
use super::table;

/// The canonical NaN of FP32.
pub(super) const NAN: f32 = f32::from_bits(0x7fff_ffff);

/// The smaller; -0 is below +0.
#[inline(always)]
pub(super) fn min(a: f32, b: f32) -> f32 {
    if a.is_nan() {
        return if b.is_nan() { NAN } else { b };
    }
    let smaller = a < b || (a == b && a.is_sign_negative());
    if b.is_nan() || smaller { a } else { b }
}

/// The larger; +0 is above -0.
#[inline(always)]
pub(super) fn max(a: f32, b: f32) -> f32 {
    if a.is_nan() {
        return if b.is_nan() { NAN } else { b };
    }
    let larger = a > b || (a == b && a.is_sign_positive());
    if b.is_nan() || larger { a } else { b }
}

/// `f(a, b)`, or NaN if one of them is.
#[inline(always)]
fn or_nan(a: f32, b: f32, f: fn(f32, f32) -> f32) -> f32 {
    if a.is_nan() || b.is_nan() { NAN } else { f(a, b) }
}

/// Of equal numbers, `a` if it is negative: of zeros, the negative one, if `a` and `b` differ.
#[inline(always)]
fn lower(a: f64, b: f64) -> f64 {
    if a.is_sign_negative() { a } else { b }
}

#[inline(always)]
fn bf16_of(x: f32) -> bf16 {
    if x.is_nan() { bf16::from_bits(0x7fff) } else { bf16::from_f32(x) }
}

#[inline(always)]
fn f16_of(x: f32) -> f16 {
    if x.is_nan() { f16::from_bits(0x7fff) } else { f16::from_f32(x) }
}

table! {
    "min.s16" => (a: i16, b: i16) -> i16 { a.min(b) }
    "min.u16" => (a: u16, b: u16) -> u16 { a.min(b) }
    "min.s32" => (a: i32, b: i32) -> i32 { a.min(b) }
    "min.u32" => (a: u32, b: u32) -> u32 { a.min(b) }
    "min.s64" => (a: i64, b: i64) -> i64 { a.min(b) }
    "min.u64" => (a: u64, b: u64) -> u64 { a.min(b) }
    "max.s16" => (a: i16, b: i16) -> i16 { a.max(b) }
    "max.u16" => (a: u16, b: u16) -> u16 { a.max(b) }
    "max.s32" => (a: i32, b: i32) -> i32 { a.max(b) }
    "max.u32" => (a: u32, b: u32) -> u32 { a.max(b) }
    "max.s64" => (a: i64, b: i64) -> i64 { a.max(b) }
    "max.u64" => (a: u64, b: u64) -> u64 { a.max(b) }

    "min.f32" => (a: f32, b: f32) -> f32 { min(a, b) }
    "max.f32" => (a: f32, b: f32) -> f32 { max(a, b) }
    "min.ftz.f32" => (a: f32, b: f32) -> f32 { min(flush(a), flush(b)) }
    "max.ftz.f32" => (a: f32, b: f32) -> f32 { max(flush(a), flush(b)) }
    "min.NaN.f32" => (a: f32, b: f32) -> f32 { or_nan(a, b, min) }
    "max.NaN.f32" => (a: f32, b: f32) -> f32 { or_nan(a, b, max) }
    "min.ftz.NaN.f32" => (a: f32, b: f32) -> f32 { or_nan(flush(a), flush(b), min) }
    "max.ftz.NaN.f32" => (a: f32, b: f32) -> f32 { or_nan(flush(a), flush(b), max) }
    "min.f64" => (a: f64, b: f64) -> f64 { if a == b { lower(a, b) } else { a.min(b) } }
    "max.f64" => (a: f64, b: f64) -> f64 { if a == b { -lower(-a, -b) } else { a.max(b) } }

    "min.f16" => (a: f16, b: f16) -> f16 { f16_of(min(a.to_f32(), b.to_f32())) }
    "max.f16" => (a: f16, b: f16) -> f16 { f16_of(max(a.to_f32(), b.to_f32())) }
    "min.f16x2" => (a: [f16; 2], b: [f16; 2]) -> [f16; 2] {
        [0, 1].map(|i| f16_of(min(a[i].to_f32(), b[i].to_f32())))
    }
    "max.f16x2" => (a: [f16; 2], b: [f16; 2]) -> [f16; 2] {
        [0, 1].map(|i| f16_of(max(a[i].to_f32(), b[i].to_f32())))
    }
    "min.bf16" => (a: bf16, b: bf16) -> bf16 { bf16_of(min(a.to_f32(), b.to_f32())) }
    "max.bf16" => (a: bf16, b: bf16) -> bf16 { bf16_of(max(a.to_f32(), b.to_f32())) }
    "min.bf16x2" => (a: [bf16; 2], b: [bf16; 2]) -> [bf16; 2] {
        [0, 1].map(|i| bf16_of(min(a[i].to_f32(), b[i].to_f32())))
    }
    "max.bf16x2" => (a: [bf16; 2], b: [bf16; 2]) -> [bf16; 2] {
        [0, 1].map(|i| bf16_of(max(a[i].to_f32(), b[i].to_f32())))
    }
    "min.NaN.bf16x2" => (a: [bf16; 2], b: [bf16; 2]) -> [bf16; 2] {
        [0, 1].map(|i| bf16_of(or_nan(a[i].to_f32(), b[i].to_f32(), min)))
    }
    "max.NaN.bf16x2" => (a: [bf16; 2], b: [bf16; 2]) -> [bf16; 2] {
        [0, 1].map(|i| bf16_of(or_nan(a[i].to_f32(), b[i].to_f32(), max)))
    }
}
