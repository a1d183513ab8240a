//! Integer arithmetic. Division by zero gives all ones, as on the hardware; so does the remainder.

use super::table;

table! {
    "add.s16" | "add.u16" => (a: u16, b: u16) -> u16 { a.wrapping_add(b) }
    "add.s32" | "add.u32" => (a: u32, b: u32) -> u32 { a.wrapping_add(b) }
    "add.s64" | "add.u64" => (a: u64, b: u64) -> u64 { a.wrapping_add(b) }
    /// Halves added on their own.
    "add.u16x2" | "add.s16x2" => (a: u32, b: u32) -> u32 {
        (a.wrapping_add(b) & 0xffff) | ((a >> 16).wrapping_add(b >> 16) << 16)
    }
    "add.sat.s32" => (a: i32, b: i32) -> i32 { a.saturating_add(b) }
    "sub.s16" | "sub.u16" => (a: u16, b: u16) -> u16 { a.wrapping_sub(b) }
    "sub.s32" | "sub.u32" => (a: u32, b: u32) -> u32 { a.wrapping_sub(b) }
    "sub.s64" | "sub.u64" => (a: u64, b: u64) -> u64 { a.wrapping_sub(b) }
    "sub.sat.s32" => (a: i32, b: i32) -> i32 { a.saturating_sub(b) }

    /// Low half of the product.
    "mul.lo.s16" | "mul.lo.u16" => (a: u16, b: u16) -> u16 { a.wrapping_mul(b) }
    "mul.lo.s32" | "mul.lo.u32" => (a: u32, b: u32) -> u32 { a.wrapping_mul(b) }
    "mul.lo.s64" | "mul.lo.u64" => (a: u64, b: u64) -> u64 { a.wrapping_mul(b) }
    /// High half of the product.
    "mul.hi.s16" => (a: i16, b: i16) -> i16 { ((i32::from(a) * i32::from(b)) >> 16) as i16 }
    "mul.hi.u16" => (a: u16, b: u16) -> u16 { ((u32::from(a) * u32::from(b)) >> 16) as u16 }
    "mul.hi.s32" => (a: i32, b: i32) -> i32 { ((i64::from(a) * i64::from(b)) >> 32) as i32 }
    "mul.hi.u32" => (a: u32, b: u32) -> u32 { ((u64::from(a) * u64::from(b)) >> 32) as u32 }
    "mul.hi.s64" => (a: i64, b: i64) -> i64 { ((i128::from(a) * i128::from(b)) >> 64) as i64 }
    "mul.hi.u64" => (a: u64, b: u64) -> u64 { ((u128::from(a) * u128::from(b)) >> 64) as u64 }
    /// The whole product.
    "mul.wide.s16" => (a: i16, b: i16) -> i32 { i32::from(a) * i32::from(b) }
    "mul.wide.u16" => (a: u16, b: u16) -> u32 { u32::from(a) * u32::from(b) }
    "mul.wide.s32" => (a: i32, b: i32) -> i64 { i64::from(a) * i64::from(b) }
    "mul.wide.u32" => (a: u32, b: u32) -> u64 { u64::from(a) * u64::from(b) }
    /// Product of the low 24 bits, low half.
    "mul24.lo.s32" => (a: i32, b: i32) -> i32 { (a << 8 >> 8).wrapping_mul(b << 8 >> 8) }
    "mul24.lo.u32" => (a: u32, b: u32) -> u32 { (a & 0xff_ffff).wrapping_mul(b & 0xff_ffff) }

    /// Bits 16 to 47 of the same.
    "mul24.hi.s32" => (a: i32, b: i32) -> i32 { product24(a, b) }
    "mul24.hi.u32" => (a: u32, b: u32) -> u32 {
        ((u64::from(a & 0xff_ffff) * u64::from(b & 0xff_ffff)) >> 16) as u32
    }
    "mad24.lo.s32" => (a: i32, b: i32, c: i32) -> i32 {
        (a << 8 >> 8).wrapping_mul(b << 8 >> 8).wrapping_add(c)
    }
    "mad24.lo.u32" => (a: u32, b: u32, c: u32) -> u32 {
        (a & 0xff_ffff).wrapping_mul(b & 0xff_ffff).wrapping_add(c)
    }
    "mad24.hi.s32" => (a: i32, b: i32, c: i32) -> i32 { product24(a, b).wrapping_add(c) }
    "mad24.hi.sat.s32" => (a: i32, b: i32, c: i32) -> i32 { product24(a, b).saturating_add(c) }
    "mad24.hi.u32" => (a: u32, b: u32, c: u32) -> u32 {
        (((u64::from(a & 0xff_ffff) * u64::from(b & 0xff_ffff)) >> 16) as u32).wrapping_add(c)
    }

    /// `a * b + c`.
    "mad.lo.s16" | "mad.lo.u16" => (a: u16, b: u16, c: u16) -> u16 {
        a.wrapping_mul(b).wrapping_add(c)
    }
    "mad.lo.s32" | "mad.lo.u32" => (a: u32, b: u32, c: u32) -> u32 {
        a.wrapping_mul(b).wrapping_add(c)
    }
    "mad.lo.s64" | "mad.lo.u64" => (a: u64, b: u64, c: u64) -> u64 {
        a.wrapping_mul(b).wrapping_add(c)
    }
    "mad.hi.s16" => (a: i16, b: i16, c: i16) -> i16 {
        (((i32::from(a) * i32::from(b)) >> 16) as i16).wrapping_add(c)
    }
    "mad.hi.u16" => (a: u16, b: u16, c: u16) -> u16 {
        (((u32::from(a) * u32::from(b)) >> 16) as u16).wrapping_add(c)
    }
    "mad.hi.sat.s32" => (a: i32, b: i32, c: i32) -> i32 {
        (((i64::from(a) * i64::from(b)) >> 32) as i32).saturating_add(c)
    }
    "mad.hi.s32" => (a: i32, b: i32, c: i32) -> i32 {
        (((i64::from(a) * i64::from(b)) >> 32) as i32).wrapping_add(c)
    }
    "mad.hi.u32" => (a: u32, b: u32, c: u32) -> u32 {
        (((u64::from(a) * u64::from(b)) >> 32) as u32).wrapping_add(c)
    }
    "mad.hi.s64" => (a: i64, b: i64, c: i64) -> i64 {
        (((i128::from(a) * i128::from(b)) >> 64) as i64).wrapping_add(c)
    }
    "mad.hi.u64" => (a: u64, b: u64, c: u64) -> u64 {
        (((u128::from(a) * u128::from(b)) >> 64) as u64).wrapping_add(c)
    }
    "mad.wide.s16" => (a: i16, b: i16, c: i32) -> i32 {
        (i32::from(a) * i32::from(b)).wrapping_add(c)
    }
    "mad.wide.u16" => (a: u16, b: u16, c: u32) -> u32 {
        (u32::from(a) * u32::from(b)).wrapping_add(c)
    }
    "mad.wide.s32" => (a: i32, b: i32, c: i64) -> i64 {
        (i64::from(a) * i64::from(b)).wrapping_add(c)
    }
    "mad.wide.u32" => (a: u32, b: u32, c: u64) -> u64 {
        (u64::from(a) * u64::from(b)).wrapping_add(c)
    }
    /// `|a - b| + c`.
    "sad.s16" => (a: i16, b: i16, c: u16) -> u16 { a.abs_diff(b).wrapping_add(c) }
    "sad.u16" => (a: u16, b: u16, c: u16) -> u16 { a.abs_diff(b).wrapping_add(c) }
    "sad.s64" => (a: i64, b: i64, c: u64) -> u64 { a.abs_diff(b).wrapping_add(c) }
    "sad.u64" => (a: u64, b: u64, c: u64) -> u64 { a.abs_diff(b).wrapping_add(c) }
    "sad.s32" => (a: i32, b: i32, c: u32) -> u32 { a.abs_diff(b).wrapping_add(c) }
    "sad.u32" => (a: u32, b: u32, c: u32) -> u32 { a.abs_diff(b).wrapping_add(c) }

    "div.s16" => (a: i16, b: i16) -> i16 { if b == 0 { -1 } else { a.wrapping_div(b) } }
    "div.u16" => (a: u16, b: u16) -> u16 { a.checked_div(b).unwrap_or(u16::MAX) }
    "div.s32" => (a: i32, b: i32) -> i32 { if b == 0 { -1 } else { a.wrapping_div(b) } }
    "div.u32" => (a: u32, b: u32) -> u32 { a.checked_div(b).unwrap_or(u32::MAX) }
    "div.s64" => (a: i64, b: i64) -> i64 { if b == 0 { -1 } else { a.wrapping_div(b) } }
    "div.u64" => (a: u64, b: u64) -> u64 { a.checked_div(b).unwrap_or(u64::MAX) }
    "rem.s16" => (a: i16, b: i16) -> i16 { if b == 0 { -1 } else { a.wrapping_rem(b) } }
    "rem.u16" => (a: u16, b: u16) -> u16 { if b == 0 { u16::MAX } else { a.wrapping_rem(b) } }
    "rem.s32" => (a: i32, b: i32) -> i32 { if b == 0 { -1 } else { a.wrapping_rem(b) } }
    "rem.u32" => (a: u32, b: u32) -> u32 { if b == 0 { u32::MAX } else { a.wrapping_rem(b) } }
    "rem.s64" => (a: i64, b: i64) -> i64 { if b == 0 { -1 } else { a.wrapping_rem(b) } }
    "rem.u64" => (a: u64, b: u64) -> u64 { if b == 0 { u64::MAX } else { a.wrapping_rem(b) } }

    "neg.s16" => (a: i16) -> i16 { a.wrapping_neg() }
    "neg.s32" => (a: i32) -> i32 { a.wrapping_neg() }
    "neg.s64" => (a: i64) -> i64 { a.wrapping_neg() }
    "abs.s16" => (a: i16) -> i16 { a.wrapping_abs() }
    "abs.s32" => (a: i32) -> i32 { a.wrapping_abs() }
    "abs.s64" => (a: i64) -> i64 { a.wrapping_abs() }

    /// Four products of bytes added to `c`.
    "dp4a.s32.s32" => (a: i32, b: i32, c: i32) -> i32 { dot(i8s(a), i8s(b), c) }
    "dp4a.u32.u32" => (a: u32, b: u32, c: i32) -> i32 { dot(u8s(a), u8s(b), c) }
    "dp4a.s32.u32" => (a: i32, b: u32, c: i32) -> i32 { dot(i8s(a), u8s(b), c) }
    "dp4a.u32.s32" => (a: u32, b: i32, c: i32) -> i32 { dot(u8s(a), i8s(b), c) }
    /// Two products, of the halves of `a` and the lower or upper two bytes of `b`, added to `c`.
    "dp2a.lo.s32.s32" => (a: i32, b: i32, c: i32) -> i32 { dot(i16s(a), i8s(b), c) }
    "dp2a.lo.u32.u32" => (a: u32, b: u32, c: i32) -> i32 { dot(u16s(a), u8s(b), c) }
    "dp2a.lo.s32.u32" => (a: i32, b: u32, c: i32) -> i32 { dot(i16s(a), u8s(b), c) }
    "dp2a.lo.u32.s32" => (a: u32, b: i32, c: i32) -> i32 { dot(u16s(a), i8s(b), c) }
    "dp2a.hi.s32.s32" => (a: i32, b: i32, c: i32) -> i32 { dot(i16s(a), i8s(b >> 16), c) }
    "dp2a.hi.u32.u32" => (a: u32, b: u32, c: i32) -> i32 { dot(u16s(a), u8s(b >> 16), c) }
    "dp2a.hi.s32.u32" => (a: i32, b: u32, c: i32) -> i32 { dot(i16s(a), u8s(b >> 16), c) }
    "dp2a.hi.u32.s32" => (a: u32, b: i32, c: i32) -> i32 { dot(u16s(a), i8s(b >> 16), c) }
}

/// Bits 16 to 47 of the product of the low 24 bits.
#[inline(always)]
fn product24(a: i32, b: i32) -> i32 {
    ((i64::from(a << 8 >> 8) * i64::from(b << 8 >> 8)) >> 16) as i32
}

#[inline(always)]
fn i8s(x: i32) -> [i32; 4] {
    x.to_le_bytes().map(|byte| i32::from(byte as i8))
}

#[inline(always)]
fn u8s(x: u32) -> [i32; 4] {
    x.to_le_bytes().map(i32::from)
}

#[inline(always)]
fn i16s(x: i32) -> [i32; 2] {
    [i32::from(x as i16), x >> 16]
}

#[inline(always)]
fn u16s(x: u32) -> [i32; 2] {
    [i32::from(x as u16), (x >> 16) as i32]
}

/// As many products as the shorter has.
#[inline(always)]
fn dot<const N: usize>(a: [i32; N], b: [i32; 4], c: i32) -> i32 {
    a.iter().zip(b).fold(c, |sum, (x, y)| sum.wrapping_add(x * y))
}
