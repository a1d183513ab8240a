//! Blocks of finite values with AVX-512: the same bits as the plain body, at the speed of memory.

use std::arch::x86_64::*;

use crate::num::{E4M3, bf16};

/// The largest bits of `|x|` of up to 128 values, as of FP32.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
#[inline]
pub(super) fn largest_bits_bf16(x: &[bf16]) -> u32 {
    let [a, b, c, d] = magnitudes_bf16(x);
    let amax = _mm512_max_epu16(_mm512_max_epu16(a, b), _mm512_max_epu16(c, d));
    u32::from(max_of_u16(amax)) << 16
}

/// Encodes up to 128 finite values, of which `inverse` makes at most 448.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi")]
#[inline]
pub(super) fn encode_bf16(x: &[bf16], inverse: f32, codes: &mut [E4M3]) {
    let inverse = _mm512_set1_ps(inverse);
    let odd = _mm512_set1_epi32(0xffff_0000_u32 as i32);
    let (input, magnitudes) = (load_bf16(x), magnitudes_bf16(x));
    for half in 0..2 {
        let [a, b] = [magnitudes[2 * half], magnitudes[2 * half + 1]];
        let even_odd = [
            _mm512_slli_epi32::<16>(a),
            _mm512_and_si512(a, odd),
            _mm512_slli_epi32::<16>(b),
            _mm512_and_si512(b, odd),
        ];
        let y = even_odd.map(|y| _mm512_mul_ps(_mm512_castsi512_ps(y), inverse));
        let [a, b] = [input[2 * half], input[2 * half + 1]];
        let negative =
            u64::from(_mm512_movepi16_mask(a)) | u64::from(_mm512_movepi16_mask(b)) << 32;
        store(codes, 64 * half, encode(y), &EVEN_ODD, negative);
    }
}

/// As [`largest_bits_bf16`], of FP32 values.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
#[inline]
pub(super) fn largest_bits_f32(x: &[f32]) -> u32 {
    let zero = _mm512_setzero_si512();
    let amax = magnitudes_f32(x).into_iter().fold(zero, |a, b| _mm512_max_epu32(a, b));
    _mm512_reduce_max_epu32(amax)
}

/// As [`encode_bf16`], of FP32 values.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi")]
#[inline]
pub(super) fn encode_f32(x: &[f32], inverse: f32, codes: &mut [E4M3]) {
    let inverse = _mm512_set1_ps(inverse);
    let (input, magnitudes) = (load_f32(x), magnitudes_f32(x));
    for (half, input) in input.as_chunks::<4>().0.iter().enumerate() {
        let y: [_; 4] = std::array::from_fn(|idx| magnitudes[4 * half + idx]);
        let y = y.map(|y| _mm512_mul_ps(_mm512_castsi512_ps(y), inverse));
        let [a, b, c, d] = input.map(|x| u64::from(_mm512_movepi32_mask(x)));
        store(codes, 64 * half, encode(y), &IN_ORDER, a | b << 16 | c << 32 | d << 48);
    }
}

#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn magnitudes_bf16(x: &[bf16]) -> [__m512i; 4] {
    load_bf16(x).map(|x| _mm512_and_si512(x, _mm512_set1_epi16(0x7fff)))
}

#[target_feature(enable = "avx512f")]
#[inline]
fn magnitudes_f32(x: &[f32]) -> [__m512i; 8] {
    load_f32(x).map(|x| _mm512_and_si512(x, _mm512_set1_epi32(0x7fff_ffff)))
}

/// The values, then zeros.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn load_bf16(x: &[bf16]) -> [__m512i; 4] {
    std::array::from_fn(|idx| {
        let (start, mask) = part(x.len(), 32 * idx, 32);
        // SAFETY: the mask keeps the load inside `x`.
        unsafe { _mm512_maskz_loadu_epi16(mask as u32, x.as_ptr().add(start).cast()) }
    })
}

/// The values, then zeros.
#[target_feature(enable = "avx512f")]
#[inline]
fn load_f32(x: &[f32]) -> [__m512i; 8] {
    std::array::from_fn(|idx| {
        let (start, mask) = part(x.len(), 16 * idx, 16);
        // SAFETY: the mask keeps the load inside `x`.
        unsafe { _mm512_maskz_loadu_epi32(mask as u16, x.as_ptr().add(start).cast()) }
    })
}

/// Where the `width <= 64` elements from `start` on begin, and a mask of those that exist.
#[inline(always)]
fn part(len: usize, start: usize, width: usize) -> (usize, u64) {
    let left = len.saturating_sub(start).min(width);
    (start.min(len), u64::MAX.checked_shr(64 - left as u32).unwrap_or(0))
}

/// Byte `4 j + i` of the result is 200 more than the code of `y[i][j]`, modulo 256; the values are
/// `0 ..= 448` but for rounding.
///
/// Same steps as [`E4M3::from_f32`].
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn encode(y: [__m512; 4]) -> __m512i {
    let [a, b, c, d] = y.map(|y| {
        let exponent = _mm512_max_epu32(_mm512_castps_si512(y), _mm512_set1_epi32(0x3c80_0000));
        let exponent = _mm512_and_si512(exponent, _mm512_set1_epi32(0x7f80_0000));
        let magic = _mm512_add_epi32(exponent, _mm512_set1_epi32(20 << 23));
        let sum = _mm512_castps_si512(_mm512_add_ps(y, _mm512_castsi512_ps(magic)));
        _mm512_add_epi32(sum, _mm512_srli_epi32::<20>(exponent))
    });
    let ab = _mm512_mask_mov_epi8(a, 0x2222_2222_2222_2222, _mm512_slli_epi32::<8>(b));
    let abc = _mm512_mask_mov_epi8(ab, 0x4444_4444_4444_4444, _mm512_slli_epi32::<16>(c));
    _mm512_mask_mov_epi8(abc, 0x8888_8888_8888_8888, _mm512_slli_epi32::<24>(d))
}

/// Writes what [`encode`] gave, put in order and with its signs, as the codes from `start` on.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
#[inline]
fn store(codes: &mut [E4M3], start: usize, encoded: __m512i, order: &[u8; 64], negative: u64) {
    let (start, mask) = part(codes.len(), start, 64);
    // SAFETY: 64 bytes.
    let order = unsafe { _mm512_loadu_si512(order.as_ptr().cast()) };
    let bytes = _mm512_permutexvar_epi8(order, encoded);
    // 8 * (127 - 6) = 968 = 200 modulo 256.
    let bytes = _mm512_add_epi8(bytes, _mm512_set1_epi8(56));
    let bytes = _mm512_mask_add_epi8(bytes, negative, bytes, _mm512_set1_epi8(-128));
    // SAFETY: the mask keeps the store inside `codes`.
    unsafe { _mm512_mask_storeu_epi8(codes.as_mut_ptr().add(start).cast(), mask, bytes) };
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
#[inline]
fn max_of_u16(x: __m512i) -> u16 {
    let x = _mm256_max_epu16(_mm512_castsi512_si256(x), _mm512_extracti64x4_epi64::<1>(x));
    let x = _mm_max_epu16(_mm256_castsi256_si128(x), _mm256_extracti128_si256::<1>(x));
    // The one horizontal instruction finds the least.
    let inverted = _mm_minpos_epu16(_mm_xor_si128(x, _mm_set1_epi16(-1)));
    !(_mm_extract_epi16::<0>(inverted) as u16)
}

/// From the bytes of [`encode`] of even, odd, even, odd elements of two times 32.
static EVEN_ODD: [u8; 64] = {
    let mut order = [0; 64];
    let mut idx = 0;
    while idx < 64 {
        order[idx] = (4 * (idx % 32 / 2) + 2 * (idx / 32) + idx % 2) as u8;
        idx += 1;
    }
    order
};

/// From the bytes of [`encode`] of four times 16 elements.
static IN_ORDER: [u8; 64] = {
    let mut order = [0; 64];
    let mut idx = 0;
    while idx < 64 {
        order[idx] = (4 * (idx % 16) + idx / 16) as u8;
        idx += 1;
    }
    order
};
