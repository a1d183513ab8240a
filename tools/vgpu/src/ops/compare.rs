//! Comparisons. `gt` and `ge` are `lt` and `le` with their operands swapped by the loader.

// With a NaN, these are not what they look like.
#![allow(clippy::double_comparisons, clippy::neg_cmp_op_on_partial_ord)]

use half::{bf16, f16};

use super::float::flush;
use super::table;

table! {
    "setp.eq.b16" => (a: u16, b: u16) -> bool { a == b }
    "setp.eq.b32" => (a: u32, b: u32) -> bool { a == b }
    "setp.eq.b64" => (a: u64, b: u64) -> bool { a == b }
    "setp.ne.b16" => (a: u16, b: u16) -> bool { a != b }
    "setp.ne.b32" => (a: u32, b: u32) -> bool { a != b }
    "setp.ne.b64" => (a: u64, b: u64) -> bool { a != b }
    "setp.lt.s16" => (a: i16, b: i16) -> bool { a < b }
    "setp.lt.s32" => (a: i32, b: i32) -> bool { a < b }
    "setp.lt.s64" => (a: i64, b: i64) -> bool { a < b }
    "setp.lt.u16" => (a: u16, b: u16) -> bool { a < b }
    "setp.lt.u32" => (a: u32, b: u32) -> bool { a < b }
    "setp.lt.u64" => (a: u64, b: u64) -> bool { a < b }
    "setp.le.s16" => (a: i16, b: i16) -> bool { a <= b }
    "setp.le.s32" => (a: i32, b: i32) -> bool { a <= b }
    "setp.le.s64" => (a: i64, b: i64) -> bool { a <= b }
    "setp.le.u16" => (a: u16, b: u16) -> bool { a <= b }
    "setp.le.u32" => (a: u32, b: u32) -> bool { a <= b }
    "setp.le.u64" => (a: u64, b: u64) -> bool { a <= b }

    "setp.eq.f32" => (a: f32, b: f32) -> bool { a == b }
    "setp.ne.f32" => (a: f32, b: f32) -> bool { a < b || a > b }
    "setp.lt.f32" => (a: f32, b: f32) -> bool { a < b }
    "setp.le.f32" => (a: f32, b: f32) -> bool { a <= b }
    "setp.equ.f32" => (a: f32, b: f32) -> bool { !(a < b || a > b) }
    "setp.neu.f32" => (a: f32, b: f32) -> bool { a != b }
    "setp.ltu.f32" => (a: f32, b: f32) -> bool { !(a >= b) }
    "setp.leu.f32" => (a: f32, b: f32) -> bool { !(a > b) }
    "setp.num.f32" => (a: f32, b: f32) -> bool { !a.is_nan() && !b.is_nan() }
    "setp.nan.f32" => (a: f32, b: f32) -> bool { a.is_nan() || b.is_nan() }
    "setp.eq.ftz.f32" => (a: f32, b: f32) -> bool { flush(a) == flush(b) }
    "setp.ne.ftz.f32" => (a: f32, b: f32) -> bool { flush(a) < flush(b) || flush(a) > flush(b) }
    "setp.lt.ftz.f32" => (a: f32, b: f32) -> bool { flush(a) < flush(b) }
    "setp.le.ftz.f32" => (a: f32, b: f32) -> bool { flush(a) <= flush(b) }
    "setp.equ.ftz.f32" => (a: f32, b: f32) -> bool { !(flush(a) < flush(b) || flush(a) > flush(b)) }
    "setp.neu.ftz.f32" => (a: f32, b: f32) -> bool { flush(a) != flush(b) }
    "setp.ltu.ftz.f32" => (a: f32, b: f32) -> bool { !(flush(a) >= flush(b)) }
    "setp.leu.ftz.f32" => (a: f32, b: f32) -> bool { !(flush(a) > flush(b)) }
    "setp.num.ftz.f32" => (a: f32, b: f32) -> bool { !a.is_nan() && !b.is_nan() }
    "setp.nan.ftz.f32" => (a: f32, b: f32) -> bool { a.is_nan() || b.is_nan() }

    "setp.eq.f64" => (a: f64, b: f64) -> bool { a == b }
    "setp.ne.f64" => (a: f64, b: f64) -> bool { a < b || a > b }
    "setp.lt.f64" => (a: f64, b: f64) -> bool { a < b }
    "setp.le.f64" => (a: f64, b: f64) -> bool { a <= b }
    "setp.equ.f64" => (a: f64, b: f64) -> bool { !(a < b || a > b) }
    "setp.neu.f64" => (a: f64, b: f64) -> bool { a != b }
    "setp.ltu.f64" => (a: f64, b: f64) -> bool { !(a >= b) }
    "setp.leu.f64" => (a: f64, b: f64) -> bool { !(a > b) }
    "setp.num.f64" => (a: f64, b: f64) -> bool { !a.is_nan() && !b.is_nan() }
    "setp.nan.f64" => (a: f64, b: f64) -> bool { a.is_nan() || b.is_nan() }

    "setp.eq.f16" => (a: f16, b: f16) -> bool { a == b }
    "setp.lt.f16" => (a: f16, b: f16) -> bool { a < b }
    "setp.le.f16" => (a: f16, b: f16) -> bool { a <= b }
    "setp.neu.f16" => (a: f16, b: f16) -> bool { a != b }
    "setp.nan.f16" => (a: f16, b: f16) -> bool { a.is_nan() || b.is_nan() }
    "setp.eq.bf16" => (a: bf16, b: bf16) -> bool { a == b }
    "setp.lt.bf16" => (a: bf16, b: bf16) -> bool { a < b }
    "setp.le.bf16" => (a: bf16, b: bf16) -> bool { a <= b }
    "setp.neu.bf16" => (a: bf16, b: bf16) -> bool { a != b }
    "setp.nan.bf16" => (a: bf16, b: bf16) -> bool { a.is_nan() || b.is_nan() }
}
