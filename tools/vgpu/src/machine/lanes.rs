//! The lanes of a warp, and values in memory that several host threads may touch at once.

use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use crate::ops::LANES;

/// Calls `act` with each active lane, in order; a loop of fixed length if all are.
#[inline(always)]
pub(super) fn each_lane(active: u32, mut act: impl FnMut(usize)) {
    if active == u32::MAX {
        (0..LANES).for_each(act);
    } else {
        super::lanes_of(active).for_each(&mut act);
    }
}

/// A value that is loaded and stored whole.
pub(super) trait Cell: Copy {
    /// # Safety
    ///
    /// `at` is valid for the value's bytes and aligned to them.
    unsafe fn get(at: *mut u8) -> Self;

    /// # Safety
    ///
    /// As [`Cell::get`].
    unsafe fn put(at: *mut u8, value: Self);
}

macro_rules! cells {
    ($($ty:ty, $atomic:ty;)*) => {$(
        impl Cell for $ty {
            #[inline(always)]
            unsafe fn get(at: *mut u8) -> Self {
                // SAFETY: the caller's.
                unsafe { <$atomic>::from_ptr(at.cast()) }.load(Ordering::Acquire)
            }

            #[inline(always)]
            unsafe fn put(at: *mut u8, value: Self) {
                // SAFETY: the caller's.
                unsafe { <$atomic>::from_ptr(at.cast()) }.store(value, Ordering::Release);
            }
        }
    )*};
}

cells! {
    u8, AtomicU8;
    u16, AtomicU16;
    u32, AtomicU32;
    u64, AtomicU64;
}

/// Two halves: whole only for the threads of one device.
impl Cell for u128 {
    #[inline(always)]
    unsafe fn get(at: *mut u8) -> Self {
        // SAFETY: the caller's.
        unsafe { u128::from(u64::get(at)) | u128::from(u64::get(at.add(8))) << 64 }
    }

    #[inline(always)]
    unsafe fn put(at: *mut u8, value: Self) {
        // SAFETY: the caller's.
        unsafe {
            u64::put(at, value as u64);
            u64::put(at.add(8), (value >> 64) as u64);
        }
    }
}
