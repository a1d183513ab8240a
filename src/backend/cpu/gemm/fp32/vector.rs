//! Vectors of FP32, one width per instruction set.

use std::arch::x86_64::*;

use crate::backend::cpu::SimdLevel;
use crate::backend::cpu::gemm::avx512::transpose_16x16;

/// A register of FP32 lanes.
///
/// # Safety
///
/// The methods are called in code compiled for [`Vector::LEVEL`], on a processor that has it.
pub(in crate::backend::cpu::gemm) trait Vector:
    Copy + Send + Sync
{
    /// The instruction set.
    const LEVEL: SimdLevel;
    const LANES: usize;
    /// Most rows whose sums fit the registers, at two vectors a row.
    const MAX_ROWS: usize;

    unsafe fn zero() -> Self;

    unsafe fn splat(value: f32) -> Self;

    /// `from` has `LANES` values.
    unsafe fn load(from: *const f32) -> Self;

    /// `to` has room for `LANES` values.
    unsafe fn store(self, to: *mut f32);

    /// `self * factor`.
    unsafe fn mul(self, factor: Self) -> Self;

    /// `self * factor + addend`, rounded once.
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self;

    /// Transposes `LANES x LANES` values; rows are `from_stride` and `to_stride` elements apart.
    unsafe fn transpose(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize);
}

/// 16 lanes.
#[derive(Clone, Copy)]
pub(in crate::backend::cpu::gemm) struct Avx512(__m512);

impl Vector for Avx512 {
    const LEVEL: SimdLevel = SimdLevel::Avx512;
    const LANES: usize = 16;
    const MAX_ROWS: usize = 12;

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the trait's contract, here and below.
        Self(unsafe { _mm512_setzero_ps() })
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: the trait's contract.
        Self(unsafe { _mm512_set1_ps(value) })
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the trait's contract.
        Self(unsafe { _mm512_loadu_ps(from) })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the trait's contract.
        unsafe { _mm512_storeu_ps(to, self.0) }
    }

    #[inline(always)]
    unsafe fn mul(self, factor: Self) -> Self {
        // SAFETY: the trait's contract.
        Self(unsafe { _mm512_mul_ps(self.0, factor.0) })
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        // SAFETY: the trait's contract.
        Self(unsafe { _mm512_fmadd_ps(self.0, factor.0, addend.0) })
    }

    #[inline(always)]
    unsafe fn transpose(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        // SAFETY: the trait's contract.
        unsafe {
            let rows = std::array::from_fn(|row| {
                _mm512_castps_si512(_mm512_loadu_ps(from.add(row * from_stride)))
            });
            for (row, column) in transpose_16x16(rows).into_iter().enumerate() {
                _mm512_storeu_ps(to.add(row * to_stride), _mm512_castsi512_ps(column));
            }
        }
    }
}

/// 8 lanes.
#[derive(Clone, Copy)]
pub(in crate::backend::cpu::gemm) struct Avx2(__m256);

impl Vector for Avx2 {
    const LEVEL: SimdLevel = SimdLevel::Avx2;
    const LANES: usize = 8;
    const MAX_ROWS: usize = 6;

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the trait's contract, here and below.
        Self(unsafe { _mm256_setzero_ps() })
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: the trait's contract.
        Self(unsafe { _mm256_set1_ps(value) })
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the trait's contract.
        Self(unsafe { _mm256_loadu_ps(from) })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the trait's contract.
        unsafe { _mm256_storeu_ps(to, self.0) }
    }

    #[inline(always)]
    unsafe fn mul(self, factor: Self) -> Self {
        // SAFETY: the trait's contract.
        Self(unsafe { _mm256_mul_ps(self.0, factor.0) })
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        // SAFETY: the trait's contract.
        Self(unsafe { _mm256_fmadd_ps(self.0, factor.0, addend.0) })
    }

    #[inline(always)]
    unsafe fn transpose(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        // SAFETY: the trait's contract.
        unsafe {
            let rows: [__m256; 8] =
                std::array::from_fn(|row| _mm256_loadu_ps(from.add(row * from_stride)));
            for half in 0..2 {
                // In 128-bit lane `l`, columns 4 * l + 2 * half and the next of four rows.
                let pairs: [__m256; 4] = std::array::from_fn(|i| {
                    let (a, b) = (rows[2 * i], rows[2 * i + 1]);
                    if half == 0 { _mm256_unpacklo_ps(a, b) } else { _mm256_unpackhi_ps(a, b) }
                });
                let first = _mm256_shuffle_ps::<0x44>(pairs[0], pairs[1]);
                let second = _mm256_shuffle_ps::<0xee>(pairs[0], pairs[1]);
                let third = _mm256_shuffle_ps::<0x44>(pairs[2], pairs[3]);
                let fourth = _mm256_shuffle_ps::<0xee>(pairs[2], pairs[3]);
                for (idx, (low, high)) in [(first, third), (second, fourth)].into_iter().enumerate()
                {
                    let column = 2 * half + idx;
                    let to = to.add(column * to_stride);
                    _mm256_storeu_ps(to, _mm256_permute2f128_ps::<0x20>(low, high));
                    let to = to.add(4 * to_stride);
                    _mm256_storeu_ps(to, _mm256_permute2f128_ps::<0x31>(low, high));
                }
            }
        }
    }
}
