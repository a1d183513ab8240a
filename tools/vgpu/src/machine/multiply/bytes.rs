//! Numbers of FP8's bytes, and factors straight from their bytes into the loops' order: bytes are transposed
//! there, and not the numbers, which take four times the room.

use std::arch::x86_64::{
    __m128i, __m512, _mm_loadu_si128, _mm256_and_si256, _mm256_castsi256_si128,
    _mm256_cvtepi8_epi16, _mm256_extracti128_si256, _mm256_loadu_si256, _mm256_set1_epi16,
    _mm256_setzero_si256, _mm256_slli_epi16, _mm256_unpackhi_epi8, _mm256_unpacklo_epi8,
    _mm512_abs_ps, _mm512_and_si512, _mm512_cmpeq_epi8_mask, _mm512_cmpeq_ps_mask, _mm512_cvtph_ps,
    _mm512_loadu_si512, _mm512_mask_mov_ps, _mm512_mul_ps, _mm512_permutexvar_ps, _mm512_set1_epi8,
    _mm512_set1_ps, _mm512_setr_epi32, _mm512_storeu_ps,
};

use super::tile::{COLUMNS, Half, Quads, ROWS};
use crate::program::matrix::Element;

/// Bytes of K.
const DEPTH: usize = 32;
/// The columns of a step's quadruples, in their order.
const ORDER: [usize; COLUMNS] = [0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15];

/// How codes become numbers: shifted into FP16, whose exponent is too low by some.
#[derive(Clone, Copy)]
struct Code {
    shift: u32,
    mask: i16,
    scale: f32,
}

impl Code {
    /// The sign of E4M3 is there twice when shifted; the lower one goes.
    const E4M3: Self = Self { shift: 7, mask: 0xbf80_u16 as i16, scale: 256.0 };
    const E5M2: Self = Self { shift: 8, mask: 0xff00_u16 as i16, scale: 1.0 };

    fn of(element: Element) -> Option<Self> {
        match element {
            Element::E4m3 => Some(Self::E4M3),
            Element::E5m2 => Some(Self::E5M2),
            _ => None,
        }
    }
}

/// Numbers of E4M3's codes, of which there are whole 16.
#[target_feature(enable = "avx2,avx512f,avx512vl")]
pub(super) fn decode_e4m3(codes: &[u8], out: &mut Vec<f32>) {
    out.resize(codes.len(), 0.0);
    for (to, from) in out.as_chunks_mut::<16>().0.iter_mut().zip(codes.as_chunks::<16>().0) {
        // SAFETY: 16 bytes.
        let value = numbers(unsafe { _mm_loadu_si128(from.as_ptr().cast()) }, Code::E4M3);
        // The code that would be 480 is the NaN.
        let is_nan = _mm512_cmpeq_ps_mask(_mm512_abs_ps(value), _mm512_set1_ps(480.0));
        let value = _mm512_mask_mov_ps(value, is_nan, _mm512_set1_ps(f32::NAN));
        // SAFETY: 16 floats.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), value) };
    }
}

/// Whether [`widen`] and [`narrow`] take such factors: FP8 of 32 bytes of K and whole 16 columns, without the code that is
/// no FP16.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn takes(elements: [Element; 2], bytes: [&[u8]; 2], n: usize) -> bool {
    let [a, b] = bytes;
    let shapes = a.len().is_multiple_of(ROWS * DEPTH) && b.len() == n * DEPTH;
    let whole = n.is_multiple_of(COLUMNS) && elements.iter().all(|&it| Code::of(it).is_some());
    let no_nan = |(&element, bytes): (&Element, &[u8])| element != Element::E4m3 || !has_nan(bytes);
    shapes && whole && elements.iter().zip(bytes).all(no_nan)
}

/// Whether one of E4M3's codes is a NaN.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn has_nan(codes: &[u8]) -> bool {
    let magnitude = _mm512_set1_epi8(0x7f);
    let (whole, rest) = codes.as_chunks::<64>();
    let in_vectors = whole.iter().fold(0, |found, codes| {
        // SAFETY: 64 bytes.
        let codes = unsafe { _mm512_loadu_si512(codes.as_ptr().cast()) };
        found | _mm512_cmpeq_epi8_mask(_mm512_and_si512(codes, magnitude), magnitude)
    });
    in_vectors != 0 || rest.iter().any(|code| code & 0x7f == 0x7f)
}

/// Fills `wide_a` of [`super::tile::Factors`] from a warp's rows, which [`takes`] has approved.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) fn widen(element: Element, rows: &[u8], wide: &mut Vec<Half>) {
    let (Some(code), [rows]) =
        (Code::of(element), rows.as_chunks::<DEPTH>().0.as_chunks::<ROWS>().0)
    else {
        return;
    };
    let quarter = |h: i32| {
        let lane = |i: i32| 4 * h + i / 4;
        let [l0, l1, l2, l3] = [lane(0), lane(4), lane(8), lane(12)];
        _mm512_setr_epi32(l0, l0, l0, l0, l1, l1, l1, l1, l2, l2, l2, l2, l3, l3, l3, l3)
    };
    let quarters = [quarter(0), quarter(1), quarter(2), quarter(3)];
    wide.resize(4 * DEPTH, Half([0.0; 16]));
    let steps = wide.as_chunks_mut::<4>().0;
    each_step(std::array::from_fn(|i| &rows[i]), code, |step, numbers| {
        for (half, quarter) in steps[step].iter_mut().zip(quarters) {
            let spread = _mm512_permutexvar_ps(quarter, numbers);
            // SAFETY: both are 16 floats, and every pattern of bits is one.
            *half = unsafe { std::mem::transmute::<__m512, Half>(spread) };
        }
    });
}

/// Fills `narrow_b` likewise, from all columns.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) fn narrow(element: Element, columns: &[u8], narrow: &mut Vec<Quads<f32>>) {
    let Some(code) = Code::of(element) else { return };
    narrow.resize(columns.len() / COLUMNS, [[0.0; 4]; 4]);
    let blocks = columns.as_chunks::<DEPTH>().0.as_chunks::<COLUMNS>().0.iter();
    for (columns, steps) in blocks.zip(narrow.as_chunks_mut::<DEPTH>().0) {
        each_step(ORDER.map(|i| &columns[i]), code, |step, numbers| {
            // SAFETY: both are 16 floats, and every pattern of bits is one.
            steps[step] = unsafe { std::mem::transmute::<__m512, Quads<f32>>(numbers) };
        });
    }
}

/// Calls `take` with each step of K and the numbers of 16 rows there.
#[inline]
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512dq,avx512vl")]
fn each_step(rows: [&[u8; DEPTH]; 16], code: Code, mut take: impl FnMut(usize, __m512)) {
    // SAFETY: 32 bytes each.
    let mut bytes = rows.map(|row| unsafe { _mm256_loadu_si256(row.as_ptr().cast()) });
    // Each round moves the highest bit of a byte's place in 16 x 16 to the end; four make rows of columns.
    // Steps of the first half are in the lower lanes.
    for _ in 0..4 {
        let mut next = [_mm256_setzero_si256(); 16];
        for i in 0..8 {
            next[2 * i] = _mm256_unpacklo_epi8(bytes[i], bytes[i + 8]);
            next[2 * i + 1] = _mm256_unpackhi_epi8(bytes[i], bytes[i + 8]);
        }
        bytes = next;
    }
    for (step, both) in bytes.into_iter().enumerate() {
        take(step, numbers(_mm256_castsi256_si128(both), code));
        take(16 + step, numbers(_mm256_extracti128_si256::<1>(both), code));
    }
}

/// Exact, but for E4M3's NaN.
#[inline]
#[target_feature(enable = "avx2,avx512f")]
fn numbers(codes: __m128i, code: Code) -> __m512 {
    let wide = _mm256_cvtepi8_epi16(codes);
    let shifted =
        if code.shift == 7 { _mm256_slli_epi16::<7>(wide) } else { _mm256_slli_epi16::<8>(wide) };
    let half = _mm256_and_si256(shifted, _mm256_set1_epi16(code.mask));
    _mm512_mul_ps(_mm512_cvtph_ps(half), _mm512_set1_ps(code.scale))
}
