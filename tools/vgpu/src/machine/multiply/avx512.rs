//! The innermost loops with vectors of 16 lanes.

use std::arch::x86_64::{
    __m512, _mm_loadu_ps, _mm512_broadcast_f32x4, _mm512_castpd_ps, _mm512_castps_pd,
    _mm512_castps128_ps512, _mm512_fmadd_ps, _mm512_insertf32x4, _mm512_load_ps, _mm512_loadu_ps,
    _mm512_permute_ps, _mm512_setzero_ps, _mm512_storeu_ps, _mm512_unpackhi_pd, _mm512_unpackhi_ps,
    _mm512_unpacklo_pd, _mm512_unpacklo_ps,
};

use super::rows::Rows;
use super::tile::{Half, Quads};

/// A vector of four quadruples.
#[inline]
#[target_feature(enable = "avx512f")]
fn quarters([a, b, c, d]: [&[f32; 4]; 4]) -> __m512 {
    // SAFETY: four floats each.
    let [a, b, c, d] = [a, b, c, d].map(|four| unsafe { _mm_loadu_ps(four.as_ptr()) });
    let low = _mm512_insertf32x4::<1>(_mm512_castps128_ps512(a), b);
    _mm512_insertf32x4::<3>(_mm512_insertf32x4::<2>(low, c), d)
}

/// [`super::tile::spread_in`], whose vector is the same four rows with each step's element repeated.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn spread(rows: [&[f32; 4]; 4]) -> [Half; 4] {
    let rows = quarters(rows);
    let steps = [
        _mm512_permute_ps::<0x00>(rows),
        _mm512_permute_ps::<0x55>(rows),
        _mm512_permute_ps::<0xaa>(rows),
        _mm512_permute_ps::<0xff>(rows),
    ];
    // SAFETY: both are 16 floats, and every pattern of bits is one.
    steps.map(|step| unsafe { std::mem::transmute::<__m512, Half>(step) })
}

/// [`super::tile::transpose_in`] in the four quarters of vectors.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn transpose(columns: [[&[f32; 4]; 4]; 4]) -> [Quads<f32>; 4] {
    let [a, b, c, d] = columns.map(|four| quarters(four));
    let pairs = |x: __m512, y: __m512| {
        let (x, y) = (_mm512_castps_pd(x), _mm512_castps_pd(y));
        [_mm512_castpd_ps(_mm512_unpacklo_pd(x, y)), _mm512_castpd_ps(_mm512_unpackhi_pd(x, y))]
    };
    let [first, second] = pairs(_mm512_unpacklo_ps(a, b), _mm512_unpacklo_ps(c, d));
    let [third, fourth] = pairs(_mm512_unpackhi_ps(a, b), _mm512_unpackhi_ps(c, d));
    // SAFETY: both are 16 floats, and every pattern of bits is one.
    [first, second, third, fourth].map(|it| unsafe { std::mem::transmute(it) })
}

/// [`super::tile::block_in`] with all sums in registers of the processor.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
pub(super) fn block<const QUADS: usize>(a: &[Half], b: &[Quads<f32>], mut registers: Rows<'_>) {
    // Quadruple `q` and quarter `h` of A meet in half `h % 2` of this register.
    let place = |q: usize, h: usize| q / 2 * 4 + h / 2 * 2 + q % 2;
    let mut sums: [[__m512; 4]; QUADS] = [[_mm512_setzero_ps(); 4]; QUADS];
    for (q, four) in sums.iter_mut().enumerate() {
        for (h, sum) in four.iter_mut().enumerate() {
            let from = &registers.numbers(place(q, h))[h % 2 * 16..][..16];
            // SAFETY: 16 floats.
            *sum = unsafe { _mm512_loadu_ps(from.as_ptr()) };
        }
    }
    for (a, b) in a.as_chunks::<4>().0.iter().zip(b) {
        // SAFETY: 16 floats at a multiple of 64 bytes.
        let a = [0, 1, 2, 3].map(|h| unsafe { _mm512_load_ps(a[h].0.as_ptr()) });
        for (q, four) in sums.iter_mut().enumerate() {
            // SAFETY: four floats.
            let b = _mm512_broadcast_f32x4(unsafe { _mm_loadu_ps(b[q].as_ptr()) });
            for (sum, a) in four.iter_mut().zip(a) {
                *sum = _mm512_fmadd_ps(a, b, *sum);
            }
        }
    }
    for (q, four) in sums.iter().enumerate() {
        for (h, sum) in four.iter().enumerate() {
            let to = &mut registers.numbers(place(q, h))[h % 2 * 16..][..16];
            // SAFETY: 16 floats.
            unsafe { _mm512_storeu_ps(to.as_mut_ptr(), *sum) };
        }
    }
}
