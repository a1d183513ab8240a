//! Moves, selections, packing and unpacking.

use super::float::flush;
use super::table;

table! {
    "mov.pred" => (a: bool) -> bool { a }
    "mov.b16" | "mov.u16" | "mov.s16" => (a: u16) -> u16 { a }
    "mov.b32" | "mov.u32" | "mov.s32" | "mov.f32" => (a: u32) -> u32 { a }
    "mov.b64" | "mov.u64" | "mov.s64" | "mov.f64" => (a: u64) -> u64 { a }
    "mov.b128" => (a: u128) -> u128 { a }

    "selp.b16" | "selp.u16" | "selp.s16" => (a: u16, b: u16, p: bool) -> u16 { if p { a } else { b } }
    "selp.b32" | "selp.u32" | "selp.s32" | "selp.f32" => (a: u32, b: u32, p: bool) -> u32 {
        if p { a } else { b }
    }
    "selp.b64" | "selp.u64" | "selp.s64" | "selp.f64" => (a: u64, b: u64, p: bool) -> u64 {
        if p { a } else { b }
    }
    /// `c >= 0 ? a : b`. A subnormal `c` that is flushed counts as a zero of its sign, so `a` is taken.
    "slct.b16.s32" | "slct.u16.s32" | "slct.s16.s32" =>
        (a: u16, b: u16, c: i32) -> u16 { if c >= 0 { a } else { b } }
    "slct.b16.f32" | "slct.u16.f32" | "slct.s16.f32" =>
        (a: u16, b: u16, c: f32) -> u16 { if c >= 0.0 { a } else { b } }
    "slct.ftz.b16.f32" | "slct.ftz.u16.f32" | "slct.ftz.s16.f32" =>
        (a: u16, b: u16, c: f32) -> u16 { if flush(c) >= 0.0 { a } else { b } }
    "slct.b32.s32" | "slct.u32.s32" | "slct.s32.s32" | "slct.f32.s32" =>
        (a: u32, b: u32, c: i32) -> u32 { if c >= 0 { a } else { b } }
    "slct.b64.s32" | "slct.u64.s32" | "slct.s64.s32" | "slct.f64.s32" =>
        (a: u64, b: u64, c: i32) -> u64 { if c >= 0 { a } else { b } }
    "slct.b32.f32" | "slct.u32.f32" | "slct.s32.f32" | "slct.f32.f32" =>
        (a: u32, b: u32, c: f32) -> u32 { if c >= 0.0 { a } else { b } }
    "slct.ftz.b32.f32" | "slct.ftz.u32.f32" | "slct.ftz.s32.f32" | "slct.ftz.f32.f32" =>
        (a: u32, b: u32, c: f32) -> u32 { if flush(c) >= 0.0 { a } else { b } }
    "slct.b64.f32" | "slct.u64.f32" | "slct.s64.f32" | "slct.f64.f32" =>
        (a: u64, b: u64, c: f32) -> u64 { if c >= 0.0 { a } else { b } }
    "slct.ftz.b64.f32" | "slct.ftz.u64.f32" | "slct.ftz.s64.f32" | "slct.ftz.f64.f32" =>
        (a: u64, b: u64, c: f32) -> u64 { if flush(c) >= 0.0 { a } else { b } }

    /// Two halves to a whole, the lower first.
    "pack.b32.b16" => (a: u16, b: u16) -> u32 { u32::from(a) | u32::from(b) << 16 }
    "pack.b64.b32" => (a: u32, b: u32) -> u64 { u64::from(a) | u64::from(b) << 32 }
    "pack.b64.b16" => (a: u16, b: u16, c: u16, d: u16) -> u64 {
        u64::from(a) | u64::from(b) << 16 | u64::from(c) << 32 | u64::from(d) << 48
    }
    "pack.b32.b8" => (a: u8, b: u8, c: u8, d: u8) -> u32 { u32::from_le_bytes([a, b, c, d]) }
    "pack.b16.b8" => (a: u8, b: u8) -> u16 { u16::from_le_bytes([a, b]) }
    "pack.b128.b64" => (a: u64, b: u64) -> u128 { u128::from(a) | u128::from(b) << 64 }
    "pack.b128.b32" => (a: u32, b: u32, c: u32, d: u32) -> u128 {
        u128::from(a) | u128::from(b) << 32 | u128::from(c) << 64 | u128::from(d) << 96
    }

    /// Part `i` of `a`.
    "part.b32.b16" => (a: u32, i: u32) -> u16 { (a >> (16 * i)) as u16 }
    "part.b64.b32" => (a: u64, i: u32) -> u32 { (a >> (32 * i)) as u32 }
    "part.b64.b16" => (a: u64, i: u32) -> u16 { (a >> (16 * i)) as u16 }
    "part.b32.b8" => (a: u32, i: u32) -> u8 { (a >> (8 * i)) as u8 }
    "part.b16.b8" => (a: u16, i: u32) -> u8 { (a >> (8 * i)) as u8 }
    "part.b128.b64" => (a: u128, i: u32) -> u64 { (a >> (64 * i)) as u64 }
    "part.b128.b32" => (a: u128, i: u32) -> u32 { (a >> (32 * i)) as u32 }

    /// Whether a generic address lies in the window from `base` on.
    "inside" => (address: u64, base: u64, length: u64) -> bool { address.wrapping_sub(base) < length }
    "outside" => (address: u64, base: u64, length: u64) -> bool {
        address.wrapping_sub(base) >= length
    }
    /// The shared address `a` in the CTA of the cluster with rank `b`.
    "mapa.shared::cluster.u32" => (a: u32, b: u32) -> u32 { a & 0x00ff_ffff | b << 24 }
    "mapa.u64" => (a: u64, b: u32) -> u64 { a & !0xff00_0000 | u64::from(b) << 24 }
    /// Rank of the CTA in whose shared memory the address lies.
    "getctarank.shared::cluster.u32" => (a: u32) -> u32 { a >> 24 }
    "getctarank.u64" => (a: u64) -> u32 { a as u32 >> 24 }
}
