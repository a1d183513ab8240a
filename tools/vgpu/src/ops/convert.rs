//! Conversions. What the table lacks, the loader composes: 16-bit floats go through FP32, rounding to
//! an integral value and turning it into an integer are two steps.

use half::{bf16, f16};

use super::float::{flush, quiet};
use super::fp8::Fp8;
use super::minmax::NAN;
use super::round::{Mode, sum_to_odd, to_f32};
use super::table;

/// Rounds FP64 (exact or to odd) to FP16; a NaN becomes the canonical one.
#[inline(always)]
pub(super) fn f16_from(x: f64, mode: Mode) -> f16 {
    narrow(x, mode, 10, -14, 15).map_or(f16::from_bits(0x7fff), |bits| f16::from_bits(bits as u16))
}

/// Rounds FP64 (exact or to odd) to BF16; a NaN becomes the canonical one.
#[inline(always)]
pub(super) fn bf16_from(x: f64, mode: Mode) -> bf16 {
    narrow(x, mode, 7, -126, 127)
        .map_or(bf16::from_bits(0x7fff), |bits| bf16::from_bits(bits as u16))
}

/// The bits of `x` in a 16-bit format with `mantissa` bits and exponents from `low` to `high`.
#[inline(always)]
fn narrow(x: f64, mode: Mode, mantissa: i32, low: i32, high: i32) -> Option<u32> {
    if x.is_nan() {
        return None;
    }
    let sign = u32::from(x.is_sign_negative()) << 15;
    let infinity = ((high - low + 2) as u32) << mantissa;
    let magnitude = x.abs();
    if magnitude.is_infinite() {
        return Some(sign | infinity);
    }
    let exponent = ((magnitude.to_bits() >> 52) as i32 - 1023).max(low);
    let unit = f64::from_bits(((mantissa - exponent + 1023) as u64) << 52);
    let scaled = magnitude * unit;
    let upwards = (mode == Mode::Up && sign == 0) || (mode == Mode::Down && sign != 0);
    let steps = match mode {
        Mode::Nearest => scaled.round_ties_even(),
        _ if upwards => scaled.ceil(),
        _ => scaled.floor(),
    } as u32;
    let code = steps + (((exponent - low) as u32) << mantissa);
    let stays_finite = mode != Mode::Nearest && !upwards;
    Some(sign | code.min(infinity - u32::from(stays_finite)))
}

/// An integer as FP32 in a mode.
#[inline(always)]
fn integer(x: i128, mode: Mode) -> f32 {
    let high = (x >> 32 << 32) as f64;
    to_f32(sum_to_odd(high, (x & 0xffff_ffff) as f64), mode)
}

#[inline(always)]
fn relu(x: f32) -> f32 {
    if x.is_nan() { NAN } else { x.max(0.0) }
}

#[inline(always)]
fn pair(format: Fp8, high: f32, low: f32) -> u16 {
    u16::from(format.encode(high)) << 8 | u16::from(format.encode(low))
}

#[inline(always)]
fn unpair(format: Fp8, codes: u16) -> [f16; 2] {
    [codes as u8, (codes >> 8) as u8]
        .map(|code| f16_from(f64::from(format.decode(code)), Mode::Nearest))
}

/// FP32 with a mantissa of 10 bits, ties away from zero; a NaN is cut.
#[inline(always)]
fn tf32_away(x: f32) -> u32 {
    let bits = x.to_bits();
    (if x.is_nan() { bits } else { bits.wrapping_add(0x1000) }) & !0x1fff
}

/// FP32 with a mantissa of 10 bits, ties to even.
#[inline(always)]
fn tf32_even(x: f32) -> u32 {
    let bits = x.to_bits();
    if x.is_nan() { 0x7fff_e000 } else { bits.wrapping_add(0xfff + (bits >> 13 & 1)) & !0x1fff }
}

macro_rules! integers {
    ($($name:literal: $from:ty => $to:ty;)*) => {
        table! { $($name => (a: $from) -> $to { a as $to })* }
    };
}

mod between_integers {
    use super::table;

    integers! {
        "cvt.u8.u8": u8 => u8; "cvt.u8.s8": i8 => u8; "cvt.u8.u16": u16 => u8; "cvt.u8.u32": u32 => u8;
        "cvt.u8.u64": u64 => u8;
        "cvt.s8.u8": u8 => i8; "cvt.s8.s8": i8 => i8; "cvt.s8.u16": u16 => i8; "cvt.s8.u32": u32 => i8;
        "cvt.s8.u64": u64 => i8;
        "cvt.u16.u8": u8 => u16; "cvt.u16.s8": i8 => u16; "cvt.u16.u16": u16 => u16;
        "cvt.u16.u32": u32 => u16; "cvt.u16.u64": u64 => u16;
        "cvt.s16.u8": u8 => i16; "cvt.s16.s8": i8 => i16; "cvt.s16.u16": u16 => i16;
        "cvt.s16.u32": u32 => i16; "cvt.s16.u64": u64 => i16;
        "cvt.u32.u8": u8 => u32; "cvt.u32.s8": i8 => u32; "cvt.u32.u16": u16 => u32;
        "cvt.u32.s16": i16 => u32; "cvt.u32.u32": u32 => u32; "cvt.u32.u64": u64 => u32;
        "cvt.u64.u8": u8 => u64; "cvt.u64.s8": i8 => u64; "cvt.u64.u16": u16 => u64;
        "cvt.u64.s16": i16 => u64; "cvt.u64.u32": u32 => u64; "cvt.u64.s32": i32 => u64;
        "cvt.u64.u64": u64 => u64;
        "trunc.s32.f32": f32 => i32; "trunc.u32.f32": f32 => u32; "trunc.s16.f32": f32 => i16;
        "trunc.u16.f32": f32 => u16; "trunc.s8.f32": f32 => i8; "trunc.u8.f32": f32 => u8;
        "cvt.rn.f32.s32": i32 => f32; "cvt.rn.f32.u32": u32 => f32; "cvt.rn.f32.s64": i64 => f32;
        "cvt.rn.f32.u64": u64 => f32;
        "cvt.rn.f64.s32": i32 => f64; "cvt.rn.f64.u32": u32 => f64; "cvt.rn.f64.s64": i64 => f64;
        "cvt.rn.f64.u64": u64 => f64;
    }
}

mod others {
    use super::*;

    table! {
        /// Saturating; a NaN gives the smallest signed and the middle unsigned value.
        "trunc.s64.f32" => (a: f32) -> i64 { if a.is_nan() { i64::MIN } else { a as i64 } }
        "trunc.u64.f32" => (a: f32) -> u64 { if a.is_nan() { 1 << 63 } else { a as u64 } }
        "trunc.s32.f64" => (a: f64) -> i32 { if a.is_nan() { i32::MIN } else { a as i32 } }
        "trunc.u32.f64" => (a: f64) -> u32 { if a.is_nan() { 1 << 31 } else { a as u32 } }
        "trunc.s64.f64" => (a: f64) -> i64 { if a.is_nan() { i64::MIN } else { a as i64 } }
        "trunc.u64.f64" => (a: f64) -> u64 { if a.is_nan() { 1 << 63 } else { a as u64 } }
        /// To an integral value.
        "cvt.rni.f32.f32" => (a: f32) -> f32 { quiet(a.round_ties_even()) }
        "cvt.rzi.f32.f32" => (a: f32) -> f32 { quiet(a.trunc()) }
        "cvt.rmi.f32.f32" => (a: f32) -> f32 { quiet(a.floor()) }
        "cvt.rpi.f32.f32" => (a: f32) -> f32 { quiet(a.ceil()) }
        "cvt.rni.f64.f64" => (a: f64) -> f64 { a.round_ties_even() }
        "cvt.rzi.f64.f64" => (a: f64) -> f64 { a.trunc() }
        "cvt.rmi.f64.f64" => (a: f64) -> f64 { a.floor() }
        "cvt.rpi.f64.f64" => (a: f64) -> f64 { a.ceil() }
        "cvt.rz.f32.s32" => (a: i32) -> f32 { integer(a.into(), Mode::Zero) }
        "cvt.rm.f32.s32" => (a: i32) -> f32 { integer(a.into(), Mode::Down) }
        "cvt.rp.f32.s32" => (a: i32) -> f32 { integer(a.into(), Mode::Up) }
        "cvt.rz.f32.u32" => (a: u32) -> f32 { integer(a.into(), Mode::Zero) }
        "cvt.rm.f32.u32" => (a: u32) -> f32 { integer(a.into(), Mode::Down) }
        "cvt.rp.f32.u32" => (a: u32) -> f32 { integer(a.into(), Mode::Up) }
        "cvt.rz.f32.u64" => (a: u64) -> f32 { integer(a.into(), Mode::Zero) }
        "cvt.rp.f32.u64" => (a: u64) -> f32 { integer(a.into(), Mode::Up) }

        /// The change of sign bit only, or of nothing.
        "flush.f32" => (a: f32) -> f32 { flush(a) }
        "cvt.f32.f16" => (a: f16) -> f32 { quiet(a.to_f32()) }
        "cvt.f32.bf16" => (a: u16) -> u32 { u32::from(a) << 16 }
        "cvt.f64.f16" => (a: f16) -> f64 { a.to_f64() }
        "cvt.f64.f32" => (a: f32) -> f64 { f64::from(a) }
        "cvt.rn.f32.f64" => (a: f64) -> f32 { to_f32(a, Mode::Nearest) }
        "cvt.rz.f32.f64" => (a: f64) -> f32 { to_f32(a, Mode::Zero) }
        "cvt.rm.f32.f64" => (a: f64) -> f32 { to_f32(a, Mode::Down) }
        "cvt.rp.f32.f64" => (a: f64) -> f32 { to_f32(a, Mode::Up) }
        "cvt.rn.f16.f64" => (a: f64) -> f16 {
            if a.is_nan() { f16::from_bits(0x7e00) } else { f16_from(a, Mode::Nearest) }
        }
        "cvt.rn.f16.f32" => (a: f32) -> f16 { f16_from(f64::from(a), Mode::Nearest) }
        "cvt.rz.f16.f32" => (a: f32) -> f16 { f16_from(f64::from(a), Mode::Zero) }
        "cvt.rm.f16.f32" => (a: f32) -> f16 { f16_from(f64::from(a), Mode::Down) }
        "cvt.rp.f16.f32" => (a: f32) -> f16 { f16_from(f64::from(a), Mode::Up) }
        "cvt.rn.bf16.f32" => (a: f32) -> bf16 { bf16_from(f64::from(a), Mode::Nearest) }
        "cvt.rz.bf16.f32" => (a: f32) -> bf16 { bf16_from(f64::from(a), Mode::Zero) }
        "cvt.rm.bf16.f32" => (a: f32) -> bf16 { bf16_from(f64::from(a), Mode::Down) }
        "cvt.rp.bf16.f32" => (a: f32) -> bf16 { bf16_from(f64::from(a), Mode::Up) }
        "cvt.rn.relu.f16.f32" => (a: f32) -> f16 { f16_from(f64::from(relu(a)), Mode::Nearest) }
        "cvt.rn.relu.bf16.f32" => (a: f32) -> bf16 { bf16_from(f64::from(relu(a)), Mode::Nearest) }
        /// Two values to a pair, the first to the upper half.
        "cvt.rn.f16x2.f32" => (a: f32, b: f32) -> [f16; 2] {
            [b, a].map(|x| f16_from(f64::from(x), Mode::Nearest))
        }
        "cvt.rz.f16x2.f32" => (a: f32, b: f32) -> [f16; 2] {
            [b, a].map(|x| f16_from(f64::from(x), Mode::Zero))
        }
        "cvt.rn.relu.f16x2.f32" => (a: f32, b: f32) -> [f16; 2] {
            [b, a].map(|x| f16_from(f64::from(relu(x)), Mode::Nearest))
        }
        "cvt.rn.bf16x2.f32" => (a: f32, b: f32) -> [bf16; 2] {
            [b, a].map(|x| bf16_from(f64::from(x), Mode::Nearest))
        }
        "cvt.rz.bf16x2.f32" => (a: f32, b: f32) -> [bf16; 2] {
            [b, a].map(|x| bf16_from(f64::from(x), Mode::Zero))
        }
        "cvt.rn.relu.bf16x2.f32" => (a: f32, b: f32) -> [bf16; 2] {
            [b, a].map(|x| bf16_from(f64::from(relu(x)), Mode::Nearest))
        }
        "cvt.rna.tf32.f32" => (a: f32) -> u32 { tf32_away(a) }
        "cvt.rn.tf32.f32" => (a: f32) -> u32 { tf32_even(a) }
        "cvt.rz.tf32.f32" => (a: f32) -> u32 { if a.is_nan() { 0x7fff_e000 } else { a.to_bits() & !0x1fff } }

        /// Two values to 8-bit floats, the first to the upper byte.
        "cvt.rn.satfinite.e4m3x2.f32" => (a: f32, b: f32) -> u16 { pair(Fp8::E4m3, a, b) }
        "cvt.rn.satfinite.e5m2x2.f32" => (a: f32, b: f32) -> u16 { pair(Fp8::E5m2, a, b) }
        "cvt.rn.satfinite.relu.e4m3x2.f32" => (a: f32, b: f32) -> u16 {
            pair(Fp8::E4m3, relu(a), relu(b))
        }
        "cvt.rn.satfinite.relu.e5m2x2.f32" => (a: f32, b: f32) -> u16 {
            pair(Fp8::E5m2, relu(a), relu(b))
        }
        "cvt.rn.satfinite.e4m3x2.f16x2" => (a: [f16; 2]) -> u16 {
            pair(Fp8::E4m3, a[1].to_f32(), a[0].to_f32())
        }
        "cvt.rn.satfinite.e5m2x2.f16x2" => (a: [f16; 2]) -> u16 {
            pair(Fp8::E5m2, a[1].to_f32(), a[0].to_f32())
        }
        "cvt.rn.f16x2.e4m3x2" => (a: u16) -> [f16; 2] { unpair(Fp8::E4m3, a) }
        "cvt.rn.f16x2.e5m2x2" => (a: u16) -> [f16; 2] { unpair(Fp8::E5m2, a) }
    }
}

pub(super) const INTEGER_ROWS: &[&super::Row] = between_integers::ROWS;
pub(super) const ROWS: &[&super::Row] = others::ROWS;
