//! The table of lane-wise instructions: each row computes one thread's result; this module runs a
//! row over the 32 threads of a warp.

mod bits;
mod compare;
mod convert;
mod float;
pub(crate) mod fp8;
mod half_pair;
mod integer;
mod lane;
mod minmax;
mod moves;
pub(crate) mod round;

use std::collections::HashMap;
use std::sync::OnceLock;

pub(crate) use lane::{Class, LANES};

/// Runs a row: `file` is a warp's register file, `regs` the word offsets of the destinations and
/// sources, bit `i` of `mask` says whether thread `i` takes part.
///
/// # Safety
///
/// Each offset leads to a register of the row's class within `file`, aligned to 128 bytes unless it
/// is a predicate. The processor has the features that the function was compiled for.
pub(crate) type RunFn = unsafe fn(file: *mut u32, regs: *const u32, mask: u32);

/// One instruction of the table.
pub(crate) struct Row {
    /// Opcode with its modifiers.
    pub name: &'static str,
    /// Register classes of the sources.
    pub sources: &'static [Class],
    /// Sources whose sign is kept when they come from a wider or narrower register.
    pub signed: &'static [bool],
    /// Register class of the destination.
    pub dest: Class,
    /// The destination's sign is kept when it goes to a wider register.
    pub dest_signed: bool,
    /// Compiled for baseline x86-64 (or another architecture), AVX2 and AVX-512.
    runs: [RunFn; 3],
}

impl Row {
    /// The form for this processor.
    pub(crate) fn run(&self) -> RunFn {
        self.runs[feature_level()]
    }
}

/// 2 with AVX-512, 1 with AVX2 and FMA, else 0.
fn feature_level() -> usize {
    #[cfg(target_arch = "x86_64")]
    {
        let avx2 = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("lzcnt")
            && is_x86_feature_detected!("popcnt");
        let avx512 = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        usize::from(avx2) + usize::from(avx2 && avx512)
    }
    #[cfg(not(target_arch = "x86_64"))]
    0
}

/// The row of an opcode.
pub(crate) fn find(name: &str) -> Option<&'static Row> {
    static INDEX: OnceLock<HashMap<&'static str, &'static Row>> = OnceLock::new();
    let index = INDEX.get_or_init(|| rows().map(|row| (row.name, row)).collect());
    index.get(name).copied()
}

/// All rows.
pub(crate) fn rows() -> impl Iterator<Item = &'static Row> {
    [
        bits::ROWS,
        compare::ROWS,
        convert::INTEGER_ROWS,
        convert::ROWS,
        float::ROWS,
        half_pair::ROWS,
        integer::ROWS,
        minmax::ROWS,
        moves::ROWS,
    ]
    .into_iter()
    .flatten()
    .copied()
}

/// A slice of [`Row`]s from lines `"opcode" => (a: type, …) -> type { expression }`. Several opcodes
/// with one meaning are separated by `|`.
macro_rules! table {
    ($($(#[doc = $doc:literal])* $first:literal $(| $name:literal)* =>
        ($($arg:ident: $ty:ty),*) -> $dest:ty $body:block)*) => {
        pub(super) const ROWS: &[&$crate::ops::Row] = {
            use $crate::ops::{Row, lane::Lane};
            const PARTS: &[&[Row]] = &[$({
                const RUNS: [$crate::ops::RunFn; 3] =
                    $crate::ops::run_forms!(($($arg: $ty),*) -> $dest $body);
                const SOURCES: &[$crate::ops::Class] = &[$(<$ty as Lane>::CLASS),*];
                const SIGNED: &[bool] = &[$(<$ty as Lane>::SIGNED),*];
                &[
                    $crate::ops::row::<$dest>($first, SOURCES, SIGNED, RUNS),
                    $($crate::ops::row::<$dest>($name, SOURCES, SIGNED, RUNS)),*
                ]
            }),*];
            const LENGTH: usize = $crate::ops::total(PARTS);
            &$crate::ops::flatten::<LENGTH>(PARTS)
        };
    };
}
pub(crate) use table;

/// The three compiled forms of one row.
macro_rules! run_forms {
    (($($arg:ident: $ty:ty),*) -> $dest:ty $body:block) => {{
        #[inline(always)]
        fn lane($($arg: $ty),*) -> $dest $body
        #[inline(always)]
        unsafe fn body(file: *mut u32, regs: *const u32, mask: u32) {
            use $crate::ops::lane::{LANES, read, write};
            // SAFETY: `RunFn`'s contract.
            unsafe {
                let mut _next = 1;
                $(let $arg = read::<$ty>(file, *regs.add(_next)); _next += 1;)*
                let mut out = [<$dest>::default(); LANES];
                for i in 0..LANES {
                    out[i] = lane($($arg[i]),*);
                }
                write::<$dest>(file, *regs, &out, mask);
            }
        }
        unsafe fn portable(file: *mut u32, regs: *const u32, mask: u32) {
            // SAFETY: `RunFn`'s contract.
            unsafe { body(file, regs, mask) }
        }
        #[cfg_attr(
            target_arch = "x86_64",
            target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt")
        )]
        unsafe fn avx2(file: *mut u32, regs: *const u32, mask: u32) {
            // SAFETY: `RunFn`'s contract.
            unsafe { body(file, regs, mask) }
        }
        #[cfg_attr(
            target_arch = "x86_64",
            target_feature(
                enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt,avx512f,avx512bw,avx512dq,avx512vl"
            )
        )]
        unsafe fn avx512(file: *mut u32, regs: *const u32, mask: u32) {
            // SAFETY: `RunFn`'s contract.
            unsafe { body(file, regs, mask) }
        }
        [portable, avx2, avx512]
    }};
}
pub(crate) use run_forms;

const fn row<D: lane::Lane>(
    name: &'static str,
    sources: &'static [Class],
    signed: &'static [bool],
    runs: [RunFn; 3],
) -> Row {
    Row { name, sources, signed, dest: D::CLASS, dest_signed: D::SIGNED, runs }
}

const fn total(parts: &[&[Row]]) -> usize {
    let (mut sum, mut i) = (0, 0);
    while i < parts.len() {
        sum += parts[i].len();
        i += 1;
    }
    sum
}

const fn flatten<const N: usize>(parts: &[&'static [Row]]) -> [&'static Row; N] {
    let mut out = [&parts[0][0]; N];
    let (mut part, mut inner, mut i) = (0, 0, 0);
    while i < N {
        out[i] = &parts[part][inner];
        inner += 1;
        if inner == parts[part].len() {
            inner = 0;
            part += 1;
        }
        i += 1;
    }
    out
}
