//! AVX-512 pieces that several arithmetics use.

use std::arch::x86_64::*;

/// Transposes 16 x 16 values of 32 bits: lane `i` of vector `j` goes to lane `j` of vector `i`.
///
/// # Safety
///
/// The caller is compiled for AVX-512F, and the processor has it.
#[inline(always)]
pub(super) unsafe fn transpose_16x16(rows: [__m512i; 16]) -> [__m512i; 16] {
    // SAFETY: as the caller promises.
    unsafe {
        let mut pairs = rows;
        for i in 0..8 {
            pairs[2 * i] = _mm512_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
            pairs[2 * i + 1] = _mm512_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
        }
        // quads[4 * i + j]: in 128-bit lane `l`, column 4 * l + j of the rows 4 * i ..= 4 * i + 3.
        let mut quads = pairs;
        for i in 0..4 {
            let p = &pairs[4 * i..4 * i + 4];
            quads[4 * i] = _mm512_unpacklo_epi64(p[0], p[2]);
            quads[4 * i + 1] = _mm512_unpackhi_epi64(p[0], p[2]);
            quads[4 * i + 2] = _mm512_unpacklo_epi64(p[1], p[3]);
            quads[4 * i + 3] = _mm512_unpackhi_epi64(p[1], p[3]);
        }
        let mut columns = quads;
        for j in 0..4 {
            let (a, b, c, d) = (quads[j], quads[4 + j], quads[8 + j], quads[12 + j]);
            let even_low = _mm512_shuffle_i32x4::<0x88>(a, b);
            let even_high = _mm512_shuffle_i32x4::<0x88>(c, d);
            let odd_low = _mm512_shuffle_i32x4::<0xdd>(a, b);
            let odd_high = _mm512_shuffle_i32x4::<0xdd>(c, d);
            columns[j] = _mm512_shuffle_i32x4::<0x88>(even_low, even_high);
            columns[4 + j] = _mm512_shuffle_i32x4::<0x88>(odd_low, odd_high);
            columns[8 + j] = _mm512_shuffle_i32x4::<0xdd>(even_low, even_high);
            columns[12 + j] = _mm512_shuffle_i32x4::<0xdd>(odd_low, odd_high);
        }
        columns
    }
}
