//! E4M3 to INT16.
//!
//! Four consecutive codes k, k+1, k+2, k+3 become two pairs, (k, k+2) and (k+1, k+3): that is what
//! shifting whole words yields. Within each 64 of K the 16 first pairs come first, then the 16 second ones, in A and
//! in B alike.
//!
//! An E4M3 code's bits, moved by seven, are an FP16 number of 2^-8 times its value, subnormal ones
//! included.

use std::arch::x86_64::*;
use std::ops::Range;

use super::PANEL;
use super::exponent::{LIMITS, MAGNITUDES, MIN_EXPONENT, exponent};
use crate::backend::cpu::gemm::BLOCK_K;
use crate::backend::cpu::gemm::arith::Ahead;
use crate::backend::cpu::gemm::avx512::transpose_16x16;
use crate::backend::cpu::gemm::view::{Fp8Mat, KBlock, Operand};

/// Columns that are packed together, one per INT32 lane.
pub(super) const LANES: usize = 16;

/// Stands in for the columns that a last panel lacks.
pub(super) static NO_COLUMN: [u8; BLOCK_K] = [0; BLOCK_K];

/// Packs one row of a block, zeros behind its end; returns `2^-e`, or NaN if there is a NaN code.
///
/// # Safety
///
/// The processor has AVX-512 F, BW, VBMI, VNNI and FP16.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni,avx512fp16")]
pub(super) unsafe fn pack_row_fp16(codes: &[u8], packed: &mut [i16; BLOCK_K]) -> f32 {
    // SAFETY: the attribute above.
    unsafe { row::<true>(codes, packed) }
}

/// As [`pack_row_fp16`], without FP16.
///
/// # Safety
///
/// The processor has AVX-512 F, BW, VBMI and VNNI.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
pub(super) unsafe fn pack_row(codes: &[u8], packed: &mut [i16; BLOCK_K]) -> f32 {
    // SAFETY: the attribute above.
    unsafe { row::<false>(codes, packed) }
}

/// Packs columns as `[64 pairs, 64 columns]`; writes `2^-e`, or NaN for a column with a NaN code.
///
/// # Safety
///
/// The processor has AVX-512 F, BW, VBMI, VNNI and FP16.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni,avx512fp16")]
pub(super) unsafe fn pack_panel_fp16(
    b: &Fp8Mat<'_>,
    cols: Range<usize>,
    block: KBlock,
    ahead: &Ahead,
    packed: &mut [i16; BLOCK_K * PANEL],
    factors: &mut [f32; PANEL],
) {
    // SAFETY: the attribute above.
    unsafe { panel::<true>(b, cols, block, ahead, packed, factors) }
}

/// As [`pack_panel_fp16`], without FP16.
///
/// # Safety
///
/// The processor has AVX-512 F, BW, VBMI and VNNI.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
pub(super) unsafe fn pack_panel(
    b: &Fp8Mat<'_>,
    cols: Range<usize>,
    block: KBlock,
    ahead: &Ahead,
    packed: &mut [i16; BLOCK_K * PANEL],
    factors: &mut [f32; PANEL],
) {
    // SAFETY: the attribute above.
    unsafe { panel::<false>(b, cols, block, ahead, packed, factors) }
}

/// Adds `t(code)^2` of four codes to each INT32 lane.
#[inline(always)]
pub(super) unsafe fn add_squares(sums: __m512i, codes: __m512i) -> __m512i {
    // SAFETY: the callers' attributes; the table has 64 bytes.
    unsafe {
        let table = _mm512_loadu_si512(MAGNITUDES.as_ptr().cast());
        // The table lookup takes six bits, so the bits that enter from the neighbours do not matter.
        let magnitudes = _mm512_permutexvar_epi8(_mm512_srli_epi16::<1>(codes), table);
        _mm512_dpbusd_epi32(sums, magnitudes, magnitudes)
    }
}

/// What turns FP16 numbers of 2^-8 times a value into fixed point, per lane.
#[derive(Clone, Copy)]
pub(super) struct Multiplier {
    /// FP16 `2^(8 + min(e, 7))`, twice per lane.
    first: __m512i,
    /// FP16 `2^max(e - 7, 0)`, twice per lane.
    second: __m512i,
    /// FP32 `2^(8 + e)`.
    single: __m512,
}

impl Multiplier {
    #[inline(always)]
    pub(super) unsafe fn new(exponents: __m512i) -> Self {
        // SAFETY: the callers' attributes.
        unsafe {
            let power_of_two = |exponents: __m512i, bias: i32| {
                let half = _mm512_add_epi32(exponents, _mm512_set1_epi32(15 + bias));
                let half = _mm512_slli_epi32::<10>(half);
                _mm512_or_si512(half, _mm512_slli_epi32::<16>(half))
            };
            let seven = _mm512_set1_epi32(7);
            let single = _mm512_add_epi32(exponents, _mm512_set1_epi32(127 + 8));
            Self {
                first: power_of_two(_mm512_min_epi32(exponents, seven), 8),
                second: power_of_two(_mm512_max_epi32(exponents, seven), -7),
                single: _mm512_castsi512_ps(_mm512_slli_epi32::<23>(single)),
            }
        }
    }

    /// The same by lane, in memory, whence a lane is spread at no cost.
    #[inline(always)]
    pub(super) unsafe fn lanes(&self) -> MultiplierLanes {
        // SAFETY: as many bits on both sides; the callers' attributes.
        unsafe {
            MultiplierLanes {
                first: std::mem::transmute::<__m512i, [i32; LANES]>(self.first),
                second: std::mem::transmute::<__m512i, [i32; LANES]>(self.second),
                single: std::mem::transmute::<__m512, [f32; LANES]>(self.single),
            }
        }
    }

    /// Converts, rounding to nearest even. `TWICE`: some exponent is above 7.
    #[inline(always)]
    pub(super) unsafe fn convert<const FP16: bool, const TWICE: bool>(
        &self,
        halves: __m512i,
    ) -> __m512i {
        // SAFETY: the callers' attributes; those with `FP16` have it.
        unsafe {
            if FP16 {
                let first = _mm512_castsi512_ph(self.first);
                let mut x = _mm512_mul_ph(_mm512_castsi512_ph(halves), first);
                if TWICE {
                    x = _mm512_mul_ph(x, _mm512_castsi512_ph(self.second));
                }
                return _mm512_cvtph_epi16(x);
            }
            let single = |halves: __m512i| {
                let x = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(halves));
                _mm512_cvtps_epi32(_mm512_mul_ps(x, self.single))
            };
            let low = single(halves);
            let high = single(_mm512_srli_epi32::<16>(halves));
            _mm512_mask_blend_epi16(0xaaaa_aaaa, low, _mm512_slli_epi32::<16>(high))
        }
    }
}

/// A [`Multiplier`] taken apart.
pub(super) struct MultiplierLanes {
    first: [i32; LANES],
    second: [i32; LANES],
    single: [f32; LANES],
}

impl MultiplierLanes {
    /// The multiplier that has one lane's numbers in all.
    #[inline(always)]
    pub(super) unsafe fn lane(&self, lane: usize) -> Multiplier {
        // SAFETY: the callers' attributes.
        unsafe {
            Multiplier {
                first: _mm512_set1_epi32(self.first[lane]),
                second: _mm512_set1_epi32(self.second[lane]),
                single: _mm512_set1_ps(self.single[lane]),
            }
        }
    }
}

/// FP16 numbers of 2^-8 times the even codes, and of the odd codes, of each pair.
#[inline(always)]
pub(super) unsafe fn halves(codes: __m512i) -> (__m512i, __m512i) {
    // SAFETY: the callers' attributes.
    unsafe {
        let mask = _mm512_set1_epi16(0xbf80u16 as i16);
        let even = _mm512_srai_epi16::<1>(_mm512_slli_epi16::<8>(codes));
        let odd = _mm512_srai_epi16::<1>(codes);
        (_mm512_and_si512(even, mask), _mm512_and_si512(odd, mask))
    }
}

/// Bits of the bytes that are NaN codes in any vector folded in.
#[derive(Clone, Copy)]
pub(super) struct NanCodes(pub(super) __m512i);

impl NanCodes {
    #[inline(always)]
    pub(super) unsafe fn fold(self, codes: __m512i) -> Self {
        // SAFETY: the callers' attributes.
        unsafe { Self(_mm512_max_epu8(self.0, _mm512_or_si512(codes, _mm512_set1_epi8(-128)))) }
    }

    #[inline(always)]
    pub(super) unsafe fn found(self) -> u64 {
        // SAFETY: the callers' attributes.
        unsafe { _mm512_cmpeq_epi8_mask(self.0, _mm512_set1_epi8(-1)) }
    }
}

/// Lanes to load of the first and second 64 codes.
pub(super) fn load_masks(len: usize) -> [u64; 2] {
    let mask = |len: usize| if len >= 64 { u64::MAX } else { (1 << len) - 1 };
    [mask(len), mask(len.saturating_sub(64))]
}

#[inline(always)]
unsafe fn row<const FP16: bool>(codes: &[u8], packed: &mut [i16; BLOCK_K]) -> f32 {
    assert!(codes.len() <= BLOCK_K, "a block of K");
    let masks = load_masks(codes.len());
    // SAFETY: the callers' attributes; the masks keep the loads within `codes` (a masked-out load
    // does not fault), and the stores fill `packed`.
    unsafe {
        let load = |i: usize| {
            _mm512_maskz_loadu_epi8(masks[i], codes.as_ptr().wrapping_add(64 * i).cast())
        };
        let codes = [load(0), load(1)];
        let zero = _mm512_setzero_si512();
        let sums = add_squares(add_squares(zero, codes[0]), codes[1]);
        let exponent = exponent(_mm512_reduce_add_epi32(sums));
        let multiplier = Multiplier::new(_mm512_set1_epi32(exponent as i32));
        for (i, &codes) in codes.iter().enumerate() {
            let (even, odd) = halves(codes);
            let out = packed.as_mut_ptr().add(64 * i);
            _mm512_storeu_si512(out.cast(), multiplier.convert::<FP16, true>(even));
            _mm512_storeu_si512(out.add(32).cast(), multiplier.convert::<FP16, true>(odd));
        }
        if NanCodes(zero).fold(codes[0]).fold(codes[1]).found() != 0 {
            return f32::NAN;
        }
        f32::from_bits((127 - exponent) << 23)
    }
}

#[inline(always)]
unsafe fn panel<const FP16: bool>(
    b: &Fp8Mat<'_>,
    cols: Range<usize>,
    block: KBlock,
    ahead: &Ahead,
    packed: &mut [i16; BLOCK_K * PANEL],
    factors: &mut [f32; PANEL],
) {
    for (group, first) in cols.clone().step_by(LANES).enumerate() {
        let pointers: [*const u8; LANES] = std::array::from_fn(|lane| {
            let col = first + lane;
            if col < cols.end {
                ahead.prefetch(b, col - cols.start);
                b.block(col, block).as_ptr()
            } else {
                NO_COLUMN.as_ptr()
            }
        });
        // SAFETY: each pointer has `block.len` readable codes; the group's columns lie within the panel.
        unsafe {
            let packed = packed.as_mut_ptr().add(group * LANES * 2);
            let factors = factors.as_mut_ptr().add(group * LANES);
            pack_lanes::<FP16>(pointers, block.len, packed, factors);
        }
    }
}

/// Packs 16 columns: pair `d` goes to `packed + d * PANEL * 2`.
#[inline(always)]
unsafe fn pack_lanes<const FP16: bool>(
    columns: [*const u8; LANES],
    len: usize,
    packed: *mut i16,
    factors: *mut f32,
) {
    let masks = load_masks(len);
    let num_chunks = len.div_ceil(64);
    // SAFETY: the callers' attributes; the caller's pointers; masks keep the loads within `len`.
    unsafe {
        let zero = _mm512_setzero_si512();
        let mut quads = [zero; 2 * LANES];
        let mut sums = [zero; 2];
        let mut nan_codes = NanCodes(zero);
        for chunk in 0..num_chunks {
            let rows = columns.map(|column| {
                _mm512_maskz_loadu_epi8(masks[chunk], column.wrapping_add(64 * chunk).cast())
            });
            for (q, codes) in transpose_16x16(rows).into_iter().enumerate() {
                sums[q % 2] = add_squares(sums[q % 2], codes);
                nan_codes = nan_codes.fold(codes);
                quads[chunk * LANES + q] = codes;
            }
        }
        let exponents = exponents(_mm512_add_epi32(sums[0], sums[1]));
        let multiplier = Multiplier::new(exponents);
        let quads = &quads[..num_chunks * LANES];
        if _mm512_cmpgt_epi32_mask(exponents, _mm512_set1_epi32(7)) == 0 {
            store_pairs::<FP16, false>(quads, &multiplier, packed);
        } else {
            store_pairs::<FP16, true>(quads, &multiplier, packed);
        }
        let factor = _mm512_sub_epi32(_mm512_set1_epi32(127), exponents);
        _mm512_storeu_si512(factors.cast(), _mm512_slli_epi32::<23>(factor));
        let nan_bytes = nan_codes.found();
        if nan_bytes != 0 {
            for lane in 0..LANES {
                if nan_bytes >> (4 * lane) & 0xf != 0 {
                    factors.add(lane).write(f32::NAN);
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn store_pairs<const FP16: bool, const TWICE: bool>(
    quads: &[__m512i],
    multiplier: &Multiplier,
    packed: *mut i16,
) {
    for (idx, &codes) in quads.iter().enumerate() {
        // SAFETY: the callers' attributes; `idx < 32`, so the pairs are among the panel's 64.
        unsafe {
            let (even, odd) = halves(codes);
            let pair = idx / LANES * 32 + idx % LANES;
            let out = packed.add(pair * PANEL * 2);
            _mm512_store_si512(out.cast(), multiplier.convert::<FP16, TWICE>(even));
            let out = out.add(16 * PANEL * 2);
            _mm512_store_si512(out.cast(), multiplier.convert::<FP16, TWICE>(odd));
        }
    }
}

/// As [`exponent`], per lane.
#[inline(always)]
pub(super) unsafe fn exponents(sums_of_squares: __m512i) -> __m512i {
    // SAFETY: the callers' attributes.
    unsafe {
        let one = _mm512_set1_epi32(1);
        LIMITS.iter().fold(_mm512_set1_epi32(MIN_EXPONENT as i32), |exponents, &limit| {
            let within = _mm512_cmple_epi32_mask(sums_of_squares, _mm512_set1_epi32(limit));
            _mm512_mask_add_epi32(exponents, within, exponents, one)
        })
    }
}
