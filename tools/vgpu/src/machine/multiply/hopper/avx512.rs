//! The loops with vectors of 16 lanes.

use std::arch::x86_64::*;

use super::{Exponents, FLOOR, NAN, NARROW, NONE, Rounding, Rule, ZERO, meeting};
use crate::machine::multiply::rows::Rows;
use crate::machine::multiply::tile::{Half, Quads};
use crate::ops::LANES;

const TO_ZERO: i32 = _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC;

/// [`Exponents::take_in`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) fn take(exponents: &mut Exponents, rule: Rule, a: &[Half], b: &[[[f32; 4]; 4]]) -> bool {
    exponents.resize(a, b);
    let mut beyond = 0;
    let mut bytes = |numbers: __m512, lowest: i32| {
        let found = exponent(numbers, lowest);
        let is_number = _mm512_cmpneq_epi32_mask(found, _mm512_set1_epi32(NONE));
        let limit = _mm512_set1_epi32(NARROW);
        beyond |= _mm512_mask_cmpgt_epi32_mask(is_number, _mm512_abs_epi32(found), limit);
        let zeros = _mm512_set1_epi32(ZERO.into());
        _mm512_cvtepi32_epi8(_mm512_mask_mov_epi32(zeros, is_number, found))
    };
    let a_bytes = exponents.a.as_flattened_mut().as_chunks_mut::<16>().0;
    for (to, from) in a_bytes.iter_mut().zip(a) {
        // SAFETY: 16 floats, and 16 bytes.
        unsafe {
            let found = bytes(_mm512_load_ps(from.0.as_ptr()), rule.lowest[0]);
            _mm_storeu_si128(to.as_mut_ptr().cast(), found);
        }
    }
    for (to, from) in exponents.b.iter_mut().zip(b) {
        // SAFETY: 16 floats, and 16 bytes.
        unsafe {
            let found = bytes(_mm512_loadu_ps(from.as_ptr().cast()), rule.lowest[1]);
            _mm_storeu_si128(to.as_mut_ptr().cast(), found);
        }
    }
    beyond == 0
}

/// [`super::exponent`].
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn exponent(numbers: __m512, lowest: i32) -> __m512i {
    let bits = _mm512_castps_si512(numbers);
    let field = _mm512_srli_epi32::<24>(_mm512_slli_epi32::<1>(bits));
    let exponent = _mm512_sub_epi32(field, _mm512_set1_epi32(127));
    let exponent = _mm512_max_epi32(exponent, _mm512_set1_epi32(lowest));
    let is_number = _mm512_test_epi32_mask(bits, _mm512_set1_epi32(i32::MAX));
    _mm512_mask_mov_epi32(_mm512_set1_epi32(NONE), is_number, exponent)
}

/// [`super::quad_in`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) fn quad(
    rule: Rule,
    quad: usize,
    (a, a_exponents): (&[Half], &[[i8; 2 * LANES]]),
    (b, b_exponents): (&[Quads<f32>], &[Quads<i8>]),
    registers: &mut Rows<'_>,
) {
    let mut largest = _mm512_set1_epi8(ZERO);
    for (a, b) in a_exponents.iter().zip(b_exponents) {
        let b = _mm512_set1_epi32(i32::from_ne_bytes(b[quad].map(|x| x as u8)));
        // SAFETY: 64 bytes.
        let a = unsafe { _mm512_loadu_si512(a.as_ptr().cast()) };
        largest = _mm512_max_epi8(largest, _mm512_adds_epi8(a, b));
    }
    let quarters = [
        _mm512_extracti32x4_epi32::<0>(largest),
        _mm512_extracti32x4_epi32::<1>(largest),
        _mm512_extracti32x4_epi32::<2>(largest),
        _mm512_extracti32x4_epi32::<3>(largest),
    ];
    let places = [0, 1, 2, 3].map(|quarter| (meeting(quad, quarter), quarter % 2 * 16));
    // SAFETY: 16 floats.
    let before = places
        .map(|(at, lane)| unsafe { _mm512_loadu_ps(registers.numbers(at)[lane..][..16].as_ptr()) });
    let largest: [__m512i; 4] =
        std::array::from_fn(|i| largest_term(rule, _mm512_cvtepi8_epi32(quarters[i]), before[i]));
    let scales = largest.map(|largest| {
        let largest = _mm512_max_epi32(largest, _mm512_set1_epi32(-2 * NARROW));
        let field = _mm512_sub_epi32(_mm512_set1_epi32(rule.kept_bits + 127), largest);
        _mm512_castsi512_ps(_mm512_slli_epi32::<23>(field))
    });
    let mut parts = [[_mm512_setzero_si512(); 2]; 4];
    for (a, b) in a.as_chunks::<8>().0.iter().zip(b.as_chunks::<2>().0) {
        for step in 0..2 {
            // SAFETY: four floats.
            let b = _mm512_broadcast_f32x4(unsafe { _mm_loadu_ps(b[step][quad].as_ptr()) });
            for quarter in 0..4 {
                // SAFETY: 16 floats at a multiple of 64 bytes.
                let a = unsafe { _mm512_load_ps(a[4 * step + quarter].0.as_ptr()) };
                let scaled = _mm512_mul_ps(_mm512_mul_ps(a, b), scales[quarter]);
                let part = &mut parts[quarter][step];
                *part = _mm512_add_epi32(*part, _mm512_cvttps_epi32(scaled));
            }
        }
    }
    for (i, (at, lane)) in places.into_iter().enumerate() {
        let sum = finish(rule, parts[i], before[i], largest[i]);
        // SAFETY: 16 floats.
        unsafe { _mm512_storeu_ps(registers.numbers(at)[lane..][..16].as_mut_ptr(), sum) };
    }
}

/// The largest exponent of a term, from that of the products and the sum before.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn largest_term(rule: Rule, products: __m512i, before: __m512) -> __m512i {
    let none = _mm512_cmplt_epi32_mask(products, _mm512_set1_epi32(-2 * NARROW));
    let products = _mm512_mask_mov_epi32(products, none, _mm512_set1_epi32(NONE));
    let largest = _mm512_max_epi32(products, exponent(before, rule.lowest[2]));
    _mm512_max_epi32(largest, _mm512_set1_epi32(FLOOR))
}

/// Adds the sum before and rounds.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl")]
fn finish(rule: Rule, parts: [__m512i; 2], before: __m512, largest: __m512i) -> __m512 {
    let magnitude = _mm512_abs_ps(before);
    let infinity = _mm512_set1_ps(f32::INFINITY);
    let is_finite = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(magnitude, infinity);
    let finite = _mm512_maskz_mov_ps(is_finite, before);
    let shift = _mm512_sub_epi32(_mm512_set1_epi32(rule.kept_bits), largest);
    let half = |at: usize| {
        let int = |x: __m512i| match at {
            0 => _mm512_extracti32x8_epi32::<0>(x),
            _ => _mm512_extracti32x8_epi32::<1>(x),
        };
        let before = _mm512_cvtps_pd(match at {
            0 => _mm512_extractf32x8_ps::<0>(finite),
            _ => _mm512_extractf32x8_ps::<1>(finite),
        });
        let shift = _mm512_cvtepi32_epi64(int(shift));
        let power = |exponent: __m512i| {
            let field = _mm512_add_epi64(exponent, _mm512_set1_epi64(1023));
            _mm512_castsi512_pd(_mm512_slli_epi64::<52>(field))
        };
        let before = _mm512_mul_pd(before, power(shift));
        let before = _mm512_roundscale_pd::<TO_ZERO>(before);
        let [even, odd] = parts.map(|part| _mm512_cvtepi32_pd(int(part)));
        let steps = _mm512_add_pd(_mm512_add_pd(even, odd), before);
        let exact = _mm512_mul_pd(steps, power(_mm512_sub_epi64(_mm512_setzero_si512(), shift)));
        round(rule, exact)
    };
    let sums = _mm512_insertf32x8::<1>(_mm512_castps256_ps512(half(0)), half(1));
    let is_nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(before, before);
    let special = _mm512_mask_mov_ps(before, is_nan, _mm512_set1_ps(NAN));
    _mm512_mask_mov_ps(special, is_finite, sums)
}

/// The rounding of [`Rule::finish`].
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl")]
fn round(rule: Rule, exact: __m512d) -> __m256 {
    let cut = _mm512_cvt_roundpd_ps::<TO_ZERO>(exact);
    let limit = _mm512_set1_pd(2f64.powi(128));
    let overflows = _mm512_cmp_pd_mask::<_CMP_GE_OQ>(_mm512_abs_pd(exact), limit);
    let bits = _mm256_castps_si256(cut);
    // What follows the largest number is infinity.
    let bits = _mm256_mask_add_epi32(bits, overflows, bits, _mm256_set1_epi32(1));
    let bits = match rule.rounding {
        Rounding::Cut => bits,
        Rounding::CutShort => _mm256_and_si256(bits, _mm256_set1_epi32(!0x3ff)),
        Rounding::ToOdd => {
            let is_inexact = _mm512_cmp_pd_mask::<_CMP_NEQ_OQ>(_mm512_cvtps_pd(cut), exact);
            _mm256_mask_or_epi32(bits, is_inexact, bits, _mm256_set1_epi32(1))
        }
    };
    let is_number = _mm256_test_epi32_mask(bits, _mm256_set1_epi32(i32::MAX));
    _mm256_castsi256_ps(_mm256_maskz_mov_epi32(is_number, bits))
}
