//! What a thread's value is in a register file: rows of 32 words for values of up to 32 bits, two
//! rows as 32 double words for 64 bits, four for 128 bits, one word of bits for predicates.

use half::{bf16, f16};

/// Threads of a warp.
pub(crate) const LANES: usize = 32;

/// How a register lies in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Class {
    /// One bit per thread, in one word.
    Pred,
    /// Up to 32 bits per thread.
    R32,
    /// 64 bits per thread.
    R64,
    /// 128 bits per thread.
    R128,
}

/// A type that instructions of the table take or give.
///
/// # Safety
///
/// `load` and `store` touch nothing but the register of class `CLASS` at `word`.
pub(super) unsafe trait Lane: Copy + Default {
    const CLASS: Class;
    const SIGNED: bool = false;

    /// # Safety
    ///
    /// `word` points at a register of class `CLASS`.
    unsafe fn load(word: *const u32) -> [Self; LANES];

    /// # Safety
    ///
    /// `word` points at a register of class `CLASS`.
    unsafe fn store(word: *mut u32, values: &[Self; LANES], mask: u32);
}

/// # Safety
///
/// See [`super::RunFn`].
#[inline(always)]
pub(super) unsafe fn read<T: Lane>(file: *const u32, offset: u32) -> [T; LANES] {
    // SAFETY: the caller's.
    unsafe { T::load(file.add(offset as usize)) }
}

/// # Safety
///
/// See [`super::RunFn`].
#[inline(always)]
pub(super) unsafe fn write<T: Lane>(file: *mut u32, offset: u32, values: &[T; LANES], mask: u32) {
    // SAFETY: the caller's.
    unsafe { T::store(file.add(offset as usize), values, mask) }
}

/// Writes the lanes of `mask`; the rest keeps its value.
#[inline(always)]
unsafe fn blend<W: Copy>(target: *mut [W; LANES], values: &[W; LANES], mask: u32) {
    // SAFETY: the caller's target is a whole register.
    unsafe {
        if mask == u32::MAX {
            *target = *values;
            return;
        }
        let mut merged = *target;
        for i in 0..LANES {
            merged[i] = if mask >> i & 1 == 1 { values[i] } else { merged[i] };
        }
        *target = merged;
    }
}

macro_rules! lanes {
    ($($ty:ty, $word:ty, $class:ident, $signed:literal, $from:expr, $to:expr;)*) => {$(
        // SAFETY: both touch 32 words of the class's width.
        unsafe impl Lane for $ty {
            const CLASS: Class = Class::$class;
            const SIGNED: bool = $signed;

            #[inline(always)]
            unsafe fn load(word: *const u32) -> [Self; LANES] {
                let from: fn($word) -> $ty = $from;
                let mut out = [Self::default(); LANES];
                // SAFETY: the caller's.
                let words = unsafe { *word.cast::<[$word; LANES]>() };
                for i in 0..LANES {
                    out[i] = from(words[i]);
                }
                out
            }

            #[inline(always)]
            unsafe fn store(word: *mut u32, values: &[Self; LANES], mask: u32) {
                let to: fn($ty) -> $word = $to;
                let mut words = [<$word>::default(); LANES];
                for i in 0..LANES {
                    words[i] = to(values[i]);
                }
                // SAFETY: the caller's.
                unsafe { blend(word.cast::<[$word; LANES]>(), &words, mask) }
            }
        }
    )*};
}

lanes! {
    u8, u32, R32, false, |w| w as u8, u32::from;
    i8, u32, R32, true, |w| w as i8, |v| v as i32 as u32;
    u16, u32, R32, false, |w| w as u16, u32::from;
    i16, u32, R32, true, |w| w as i16, |v| v as i32 as u32;
    u32, u32, R32, false, |w| w, |v| v;
    i32, u32, R32, true, |w| w as i32, |v| v as u32;
    f32, u32, R32, false, f32::from_bits, f32::to_bits;
    f16, u32, R32, false, |w| f16::from_bits(w as u16), |v| u32::from(v.to_bits());
    bf16, u32, R32, false, |w| bf16::from_bits(w as u16), |v| u32::from(v.to_bits());
    [f16; 2], u32, R32, false,
        |w| [f16::from_bits(w as u16), f16::from_bits((w >> 16) as u16)],
        |v| u32::from(v[0].to_bits()) | u32::from(v[1].to_bits()) << 16;
    [bf16; 2], u32, R32, false,
        |w| [bf16::from_bits(w as u16), bf16::from_bits((w >> 16) as u16)],
        |v| u32::from(v[0].to_bits()) | u32::from(v[1].to_bits()) << 16;
    u64, u64, R64, false, |w| w, |v| v;
    i64, u64, R64, true, |w| w as i64, |v| v as u64;
    f64, u64, R64, false, f64::from_bits, f64::to_bits;
    [f32; 2], u64, R64, false,
        |w| [f32::from_bits(w as u32), f32::from_bits((w >> 32) as u32)],
        |v| u64::from(v[0].to_bits()) | u64::from(v[1].to_bits()) << 32;
    u128, u128, R128, false, |w| w, |v| v;
}

// SAFETY: both touch one word.
unsafe impl Lane for bool {
    const CLASS: Class = Class::Pred;

    #[inline(always)]
    unsafe fn load(word: *const u32) -> [Self; LANES] {
        // SAFETY: the caller's.
        let bits = unsafe { *word };
        let mut out = [false; LANES];
        for (i, value) in out.iter_mut().enumerate() {
            *value = bits & 1 << i != 0;
        }
        out
    }

    #[inline(always)]
    unsafe fn store(word: *mut u32, values: &[Self; LANES], mask: u32) {
        let mut bits = 0;
        for (i, value) in values.iter().enumerate() {
            bits |= if *value { 1 << i } else { 0 };
        }
        // SAFETY: the caller's.
        unsafe { *word = bits & mask | *word & !mask }
    }
}
