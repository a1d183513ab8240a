//! Factors of FP8 straight from where their bytes lie into the loops' order. Bytes are transposed there, four
//! at a time, and not the numbers, which take four times the room. A number's upper 16 bits, of which FP8
//! needs no more, come from tables.

use std::arch::x86_64::{
    __m128i, __m512, __m512i, _mm_loadu_si128, _mm256_and_si256, _mm256_cvtepi8_epi16,
    _mm256_set1_epi16, _mm256_slli_epi16, _mm512_abs_ps, _mm512_and_si512, _mm512_castsi128_si512,
    _mm512_castsi512_ps, _mm512_cmpeq_epi8_mask, _mm512_cmpeq_ps_mask, _mm512_cvtph_ps,
    _mm512_inserti32x4, _mm512_loadu_si512, _mm512_mask_mov_ps, _mm512_max_epu8, _mm512_mul_ps,
    _mm512_permutex2var_epi8, _mm512_set1_epi8, _mm512_set1_epi16, _mm512_set1_epi32,
    _mm512_set1_ps, _mm512_setzero_si512, _mm512_shuffle_epi32, _mm512_slli_epi16,
    _mm512_slli_epi32, _mm512_srli_epi16, _mm512_storeu_ps, _mm512_ternarylogic_epi32,
    _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};

use super::decode::{e4m3, f16};
use super::source::{CHUNK, Source};
use super::tile::{COLUMNS, Half, Quads, ROWS};
use crate::program::matrix::Element;

/// Bytes of K, and their chunks.
const DEPTH: usize = 32;
const CHUNKS: usize = DEPTH / CHUNK;
/// In which order [`load`] takes a warp's rows, and columns so that the quadruples of a step come out.
const ROW_ORDER: [usize; ROWS] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
const COLUMN_ORDER: [usize; COLUMNS] = [0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15];

/// Numbers of E4M3's codes, of which there are whole 16.
#[target_feature(enable = "avx2,avx512f,avx512vl")]
pub(super) fn decode_e4m3(codes: &[u8], out: &mut Vec<f32>) {
    out.resize(codes.len(), 0.0);
    for (to, from) in out.as_chunks_mut::<16>().0.iter_mut().zip(codes.as_chunks::<16>().0) {
        // SAFETY: 16 bytes.
        let wide = _mm256_cvtepi8_epi16(unsafe { _mm_loadu_si128(from.as_ptr().cast()) });
        // FP16, whose exponent is too low by 8. The sign is there twice when shifted; the lower one goes.
        let mask = _mm256_set1_epi16(0xbf80_u16 as i16);
        let half = _mm256_and_si256(_mm256_slli_epi16::<7>(wide), mask);
        let value = _mm512_mul_ps(_mm512_cvtph_ps(half), _mm512_set1_ps(256.0));
        // The code that would be 480 is the NaN.
        let is_nan = _mm512_cmpeq_ps_mask(_mm512_abs_ps(value), _mm512_set1_ps(480.0));
        let value = _mm512_mask_mov_ps(value, is_nan, _mm512_set1_ps(f32::NAN));
        // SAFETY: 16 floats.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), value) };
    }
}

/// The highest byte of each magnitude's number, and the one below.
struct Table {
    high: [u8; 128],
    low: [u8; 128],
}

impl Table {
    const E4M3: Self = Self::new(true);
    const E5M2: Self = Self::new(false);

    const fn new(is_e4m3: bool) -> Self {
        let mut table = Table { high: [0; 128], low: [0; 128] };
        let mut code = 0;
        while code < 128 {
            let number = if is_e4m3 { e4m3(code as u8) } else { f16((code as u16) << 8) };
            let [.., low, high] = number.to_bits().to_le_bytes();
            (table.high[code], table.low[code]) = (high, low);
            code += 1;
        }
        table
    }
}

/// What a code becomes, and whether all were finite.
struct Decoder {
    high: [__m512i; 2],
    low: [__m512i; 2],
    /// The largest of the highest bytes, byte by byte.
    largest: __m512i,
}

impl Decoder {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn new(element: Element) -> Option<Self> {
        let table = match element {
            Element::E4m3 => &Table::E4M3,
            Element::E5m2 => &Table::E5M2,
            _ => return None,
        };
        let load = |bytes: &[u8; 128]| {
            // SAFETY: twice 64 bytes.
            [0, 64].map(|at| unsafe { _mm512_loadu_si512(bytes[at..].as_ptr().cast()) })
        };
        let (high, low) = (load(&table.high), load(&table.low));
        Some(Decoder { high, low, largest: _mm512_setzero_si512() })
    }

    /// Words of four steps of K that lie in each 32 bits: those of the first and third, and the others.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    fn words(&mut self, codes: __m512i) -> [__m512i; 2] {
        let look_up =
            |[first, second]: [__m512i; 2]| _mm512_permutex2var_epi8(first, codes, second);
        let (magnitude, low) = (look_up(self.high), look_up(self.low));
        self.largest = _mm512_max_epu8(self.largest, magnitude);
        let sign = _mm512_set1_epi8(0x80_u8 as i8);
        // a | b & c.
        let high = _mm512_ternarylogic_epi32::<0xf8>(magnitude, codes, sign);
        let odd_bytes = _mm512_set1_epi16(0xff00_u16 as i16);
        // b if c is set, a otherwise.
        let choose = |a, b| _mm512_ternarylogic_epi32::<0xd8>(a, b, odd_bytes);
        [choose(low, _mm512_slli_epi16::<8>(high)), choose(_mm512_srli_epi16::<8>(low), high)]
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn were_finite(&self) -> bool {
        _mm512_cmpeq_epi8_mask(self.largest, _mm512_set1_epi8(0x7f)) == 0
    }
}

/// Numbers of four steps of K.
#[inline]
#[target_feature(enable = "avx512f")]
fn numbers([first, second]: [__m512i; 2]) -> [__m512; 4] {
    let upper = _mm512_set1_epi32(0xffff_0000_u32 as i32);
    [
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(first)),
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(second)),
        _mm512_castsi512_ps(_mm512_and_si512(first, upper)),
        _mm512_castsi512_ps(_mm512_and_si512(second, upper)),
    ]
}

/// The same chunk of four rows each: to the lanes of four vectors.
#[inline]
#[target_feature(enable = "avx512f")]
fn load(rows: &[[&[u8; CHUNK]; CHUNKS]; 16], order: [usize; 16], chunk: usize) -> [__m512i; 4] {
    let mut vectors = [_mm512_setzero_si512(); 4];
    for (vector, order) in vectors.iter_mut().zip(order.as_chunks::<4>().0) {
        let row = |i: usize| rows[order[i]][chunk].as_ptr().cast::<__m128i>();
        // SAFETY: 16 bytes each.
        *vector = unsafe {
            let one = _mm512_castsi128_si512(_mm_loadu_si128(row(0)));
            let two = _mm512_inserti32x4::<1>(one, _mm_loadu_si128(row(1)));
            let three = _mm512_inserti32x4::<2>(two, _mm_loadu_si128(row(2)));
            _mm512_inserti32x4::<3>(three, _mm_loadu_si128(row(3)))
        };
    }
    vectors
}

/// In each lane, word `j` of vector `i` to word `i` of vector `j`.
#[inline]
#[target_feature(enable = "avx512f")]
fn transposed([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
    let (ab, cd) = (_mm512_unpacklo_epi32(a, b), _mm512_unpacklo_epi32(c, d));
    let (ab_high, cd_high) = (_mm512_unpackhi_epi32(a, b), _mm512_unpackhi_epi32(c, d));
    [
        _mm512_unpacklo_epi64(ab, cd),
        _mm512_unpackhi_epi64(ab, cd),
        _mm512_unpacklo_epi64(ab_high, cd_high),
        _mm512_unpackhi_epi64(ab_high, cd_high),
    ]
}

/// Fills `wide_a` of [`super::tile::Factors`] from a warp's rows; whether it could, as it can those of FP8 with 32
/// bytes of K and finite numbers.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
pub(super) fn widen(element: Element, rows: Source<'_>, wide: &mut Vec<Half>) -> bool {
    let Some(mut decoder) = Decoder::new(element).filter(|_| rows.len() == ROWS * DEPTH) else {
        return false;
    };
    wide.resize(4 * DEPTH, Half([0.0; 16]));
    let rows = rows.rows::<ROWS>(0);
    let chunks = wide.as_chunks_mut::<4>().0.as_chunks_mut::<CHUNK>().0;
    for (chunk, steps) in chunks.iter_mut().enumerate() {
        let codes = transposed(load(&rows, ROW_ORDER, chunk));
        for (codes, steps) in codes.into_iter().zip(steps.as_chunks_mut::<4>().0) {
            let [x, y] = decoder.words(codes);
            // Row `4 * quarter + lane` four times.

            let quarters = [
                [_mm512_shuffle_epi32::<0x00>(x), _mm512_shuffle_epi32::<0x00>(y)],
                [_mm512_shuffle_epi32::<0x55>(x), _mm512_shuffle_epi32::<0x55>(y)],
                [_mm512_shuffle_epi32::<0xaa>(x), _mm512_shuffle_epi32::<0xaa>(y)],
                [_mm512_shuffle_epi32::<0xff>(x), _mm512_shuffle_epi32::<0xff>(y)],
            ];
            for (quarter, words) in quarters.into_iter().enumerate() {
                for (step, numbers) in steps.iter_mut().zip(numbers(words)) {
                    // SAFETY: both are 16 floats, and every pattern of bits is one.
                    step[quarter] = unsafe { std::mem::transmute::<__m512, Half>(numbers) };
                }
            }
        }
    }
    decoder.were_finite()
}

/// Fills `narrow_b` likewise from all columns, of which there must be whole 16.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
pub(super) fn narrow(
    element: Element,
    columns: Source<'_>,
    n: usize,
    narrow: &mut Vec<Quads<f32>>,
) -> bool {
    let fits = columns.len() == n * DEPTH && n.is_multiple_of(COLUMNS);
    let Some(mut decoder) = Decoder::new(element).filter(|_| fits) else { return false };
    narrow.resize(columns.len() / COLUMNS, [[0.0; 4]; 4]);
    let blocks = narrow.as_chunks_mut::<CHUNK>().0.as_chunks_mut::<CHUNKS>().0;
    for (block, chunks) in blocks.iter_mut().enumerate() {
        let columns = columns.rows::<COLUMNS>(block);
        for (chunk, steps) in chunks.iter_mut().enumerate() {
            let codes = transposed(load(&columns, COLUMN_ORDER, chunk));
            for (codes, steps) in codes.into_iter().zip(steps.as_chunks_mut::<4>().0) {
                for (step, numbers) in steps.iter_mut().zip(numbers(decoder.words(codes))) {
                    // SAFETY: both are 16 floats, and every pattern of bits is one.
                    *step = unsafe { std::mem::transmute::<__m512, Quads<f32>>(numbers) };
                }
            }
        }
    }
    decoder.were_finite()
}
