//! The innermost loops of a product, on fragments: a register's 32 lanes are 8 rows by 4 columns, so
//! that a register of the sum adds, for each step of K, a vector of A whose elements stand four
//! times each, times four elements of B that repeat.

#[cfg(target_arch = "x86_64")]
use super::bytes;
use super::decode::decode_in;
use crate::ops::LANES;
use crate::program::matrix::Element;

/// Rows of a warp's part of a product.
pub(crate) const ROWS: usize = 16;
/// Columns whose registers are summed at the same time.
pub(super) const COLUMNS: usize = 16;

/// Half of a register's lanes, as one vector.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Half(pub [f32; LANES / 2]);

/// Four quadruples: elements of B of one step of K, or of their exponents.
pub(super) type Quads<T> = [[T; 4]; 4];

/// The factors of a product as the loops want them.
#[derive(Default)]
pub(super) struct Factors {
    a: Vec<f32>,
    b: Vec<f32>,
    /// For each warp and step of K four vectors: rows 0-3, 4-7, 8-11 and 12-15.
    wide_a: Vec<Half>,
    /// For each 16 columns and step of K four quadruples: columns 0, 2, 4, 6; the odd ones; the same
    /// of the next eight.
    narrow_b: Vec<Quads<f32>>,
}

/// What the loops are compiled for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Level {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Level {
    /// The processor's.
    pub(super) fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            let wide = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            return if wide { Level::Avx512 } else { Level::Avx2 };
        }
        Level::Portable
    }
}

impl Factors {
    /// Numbers of the bytes of A and B, which lie row by row.
    pub(super) fn decode(
        &mut self,
        level: Level,
        [a, b]: [Element; 2],
        [a_bytes, b_bytes]: [&[u8]; 2],
        [negate_a, negate_b]: [bool; 2],
    ) {
        decode(level, a, a_bytes, negate_a, &mut self.a);
        decode(level, b, b_bytes, negate_b, &mut self.b);
    }

    /// A and B as numbers, row by row.
    pub(super) fn plain(&self) -> (&[f32], &[f32]) {
        (&self.a, &self.b)
    }

    /// `sums += a * b^T` for `n` columns; `sums` are the registers of the first warp, then those of
    /// the next. Each sum adds its products one after the other in the order of K, each with one
    /// rounding, whatever the level.
    pub(super) fn accumulate(&mut self, level: Level, n: usize, sums: &mut [[f32; LANES]]) {
        match level {
            // SAFETY: `Level::detect` found the features.
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => unsafe {
                arrange_avx512(self, n);
                accumulate_avx512(self, n, sums);
            },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => unsafe { accumulate_avx2(self, n, sums) },
            Level::Portable => {
                self.arrange(n, spread_in, transpose_in);
                self.each_block(n, sums, block_in);
            }
        }
    }

    /// As [`Factors::decode`] and [`Factors::accumulate`], faster, for the factors and levels where it can; whether it
    /// has. A and B as numbers are not to be had then.
    pub(super) fn accumulate_bytes(
        &mut self,
        level: Level,
        elements: [Element; 2],
        bytes: [&[u8]; 2],
        n: usize,
        sums: &mut [[f32; LANES]],
    ) -> bool {
        match level {
            // SAFETY: `Level::detect` found the features.
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => unsafe {
                let takes = bytes::takes(elements, bytes, n);
                if takes {
                    let ([a, b], [a_bytes, b_bytes]) = (elements, bytes);
                    bytes::narrow(b, b_bytes, &mut self.narrow_b);
                    // Warp by warp, so that what is wide stays in the nearest cache.
                    let warps = a_bytes.chunks_exact(ROWS * b_bytes.len() / n);
                    for (rows, sums) in warps.zip(sums.chunks_exact_mut(n / 2)) {
                        bytes::widen(a, rows, &mut self.wide_a);
                        accumulate_avx512(self, n, sums);
                    }
                }
                takes
            },
            _ => false,
        }
    }

    /// Brings A and B into the loops' order.
    pub(super) fn arrange_at(&mut self, level: Level, n: usize) {
        match level {
            // SAFETY: `Level::detect` found the features.
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => unsafe { arrange_avx512(self, n) },
            _ => self.arrange(n, spread_in, transpose_in),
        }
    }

    /// A and B in the loops' order.
    pub(super) fn arranged(&self) -> (&[Half], &[Quads<f32>]) {
        (&self.wide_a, &self.narrow_b)
    }

    /// Brings the numbers into the loops' order.
    #[inline(always)]
    fn arrange(
        &mut self,
        n: usize,
        spread: impl Fn([&[f32; 4]; 4]) -> [Half; 4],
        transpose: impl Fn([[&[f32; 4]; 4]; 4]) -> [Quads<f32>; 4],
    ) {
        let quads = self.b.len() / n / 4;
        self.wide_a.resize(self.a.len() * 4 / (LANES / 2), Half([0.0; LANES / 2]));
        let rows = self.a.as_chunks::<4>().0.chunks_exact(ROWS * quads);
        for (rows, vectors) in rows.zip(self.wide_a.chunks_exact_mut(ROWS * quads)) {
            for quarter in 0..4 {
                let four: [_; 4] =
                    std::array::from_fn(|i| &rows[(quarter * 4 + i) * quads..][..quads]);
                for (quad, vectors) in vectors.as_chunks_mut::<ROWS>().0.iter_mut().enumerate() {
                    let halves = spread(std::array::from_fn(|i| &four[i][quad]));
                    for (step, half) in halves.into_iter().enumerate() {
                        vectors[4 * step + quarter] = half;
                    }
                }
            }
        }
        self.narrow_b.resize(n.div_ceil(COLUMNS) * quads * 4, [[0.0; 4]; 4]);
        let columns = self.b.as_chunks::<4>().0.chunks(COLUMNS * quads);
        for (columns, steps) in columns.zip(self.narrow_b.chunks_exact_mut(4 * quads)) {
            // The second eight columns may be missing.
            let count = columns.len() / quads;
            let all: [[_; 4]; 4] = std::array::from_fn(|i| {
                let column = |at: usize| at / 2 * 8 % count + at % 2 + 2 * i;
                std::array::from_fn(|at| &columns[column(at) * quads..][..quads])
            });
            for (quad, steps) in steps.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                *steps =
                    transpose(std::array::from_fn(|i| std::array::from_fn(|at| &all[i][at][quad])));
            }
        }
    }

    /// Calls `block` with the vectors of A and B that each up to eight registers need, and those.
    #[inline(always)]
    fn each_block(
        &self,
        n: usize,
        sums: &mut [[f32; LANES]],
        block: impl Fn(&[Half], &[Quads<f32>], &mut [[f32; LANES]]),
    ) {
        let k = self.narrow_b.len() / n.div_ceil(COLUMNS);
        for (a, registers) in self.wide_a.chunks_exact(4 * k).zip(sums.chunks_exact_mut(n / 2)) {
            for (b, registers) in self.narrow_b.chunks_exact(k).zip(registers.chunks_mut(8)) {
                block(a, b, registers);
            }
        }
    }
}

/// Four steps of four rows to a vector for each step.
#[inline(always)]
fn spread_in(rows: [&[f32; 4]; 4]) -> [Half; 4] {
    std::array::from_fn(|step| Half(std::array::from_fn(|lane| rows[lane / 4][step])))
}

/// Four steps of column `i` of each quadruple to the quadruples of each step.
#[inline(always)]
fn transpose_in(columns: [[&[f32; 4]; 4]; 4]) -> [Quads<f32>; 4] {
    std::array::from_fn(|step| {
        std::array::from_fn(|at| std::array::from_fn(|i| columns[i][at][step]))
    })
}

/// Register `4 * octet + 2 * half + parity` has rows `8 * half` on and the even or odd columns.
#[inline(always)]
fn block_in(a: &[Half], b: &[Quads<f32>], registers: &mut [[f32; LANES]]) {
    for octet in 0..registers.len() / 4 {
        for parity in 0..2 {
            let at = [4 * octet + parity, 4 * octet + parity + 2];
            let mut sums = at.map(|at| registers[at]);
            for (a, b) in a.chunks_exact(4).zip(b) {
                let b = &b[2 * octet + parity];
                for (half, sum) in sums.iter_mut().enumerate() {
                    for lane in 0..LANES {
                        let x = a[2 * half + lane / 16].0[lane % 16];
                        sum[lane] = x.mul_add(b[lane % 4], sum[lane]);
                    }
                }
            }
            at.iter().zip(sums).for_each(|(at, sum)| registers[*at] = sum);
        }
    }
}

fn decode(level: Level, element: Element, bytes: &[u8], negate: bool, out: &mut Vec<f32>) {
    match level {
        // SAFETY: `Level::detect` found the features.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { decode_avx512(element, bytes, negate, out) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { decode_avx2(element, bytes, negate, out) },
        Level::Portable => decode_in(element, bytes, negate, out),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
fn decode_avx512(element: Element, codes: &[u8], negate: bool, out: &mut Vec<f32>) {
    if element == Element::E4m3 && !negate && codes.len().is_multiple_of(16) {
        return bytes::decode_e4m3(codes, out);
    }
    decode_in(element, codes, negate, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn decode_avx2(element: Element, bytes: &[u8], negate: bool, out: &mut Vec<f32>) {
    decode_in(element, bytes, negate, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn accumulate_avx2(factors: &mut Factors, n: usize, sums: &mut [[f32; LANES]]) {
    factors.arrange(n, spread_in, transpose_in);
    factors.each_block(n, sums, block_in);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
fn accumulate_avx512(factors: &Factors, n: usize, sums: &mut [[f32; LANES]]) {
    factors.each_block(n, sums, |a, b, registers| match registers.len() {
        8 => block_avx512::<4>(a, b, registers),
        _ => block_avx512::<2>(a, b, registers),
    });
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
fn arrange_avx512(factors: &mut Factors, n: usize) {
    factors.arrange(n, |rows| spread_avx512(rows), |columns| transpose_avx512(columns));
}

/// A vector of four quadruples.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f")]
fn quarters([a, b, c, d]: [&[f32; 4]; 4]) -> std::arch::x86_64::__m512 {
    use std::arch::x86_64::{_mm_loadu_ps, _mm512_castps128_ps512, _mm512_insertf32x4};
    // SAFETY: four floats each.
    let [a, b, c, d] = [a, b, c, d].map(|four| unsafe { _mm_loadu_ps(four.as_ptr()) });
    let low = _mm512_insertf32x4::<1>(_mm512_castps128_ps512(a), b);
    _mm512_insertf32x4::<3>(_mm512_insertf32x4::<2>(low, c), d)
}

/// [`spread_in`], whose vector is the same four rows with each step's element repeated.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f")]
fn spread_avx512(rows: [&[f32; 4]; 4]) -> [Half; 4] {
    use std::arch::x86_64::{__m512, _mm512_permute_ps};
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

/// [`transpose_in`] in the four quarters of vectors.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose_avx512(columns: [[&[f32; 4]; 4]; 4]) -> [Quads<f32>; 4] {
    use std::arch::x86_64::{
        __m512, _mm512_castpd_ps, _mm512_castps_pd, _mm512_unpackhi_pd, _mm512_unpackhi_ps,
        _mm512_unpacklo_pd, _mm512_unpacklo_ps,
    };
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

/// [`block_in`] with all sums in registers of the processor.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn block_avx512<const QUADS: usize>(a: &[Half], b: &[Quads<f32>], registers: &mut [[f32; LANES]]) {
    use std::arch::x86_64::{
        __m512, _mm_loadu_ps, _mm512_broadcast_f32x4, _mm512_fmadd_ps, _mm512_load_ps,
        _mm512_loadu_ps, _mm512_setzero_ps, _mm512_storeu_ps,
    };
    // Quadruple `q` and quarter `h` of A meet in half `h % 2` of this register.
    let place = |q: usize, h: usize| q / 2 * 4 + h / 2 * 2 + q % 2;
    let mut sums: [[__m512; 4]; QUADS] = [[_mm512_setzero_ps(); 4]; QUADS];
    for (q, four) in sums.iter_mut().enumerate() {
        for (h, sum) in four.iter_mut().enumerate() {
            let from = &registers[place(q, h)][h % 2 * 16..][..16];
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
            let to = &mut registers[place(q, h)][h % 2 * 16..][..16];
            // SAFETY: 16 floats.
            unsafe { _mm512_storeu_ps(to.as_mut_ptr(), *sum) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_decoded_alike_at_every_level() {
        let bytes: Vec<u8> = (0..=u8::MAX).collect();
        for element in [Element::E4m3, Element::E5m2, Element::Bf16, Element::F16] {
            let decoded = |level| {
                let mut out = Vec::new();
                decode(level, element, &bytes, false, &mut out);
                out
            };
            for (got, expected) in decoded(Level::detect()).iter().zip(decoded(Level::Portable)) {
                let both_nan = got.is_nan() && expected.is_nan();
                assert!(both_nan || got.to_bits() == expected.to_bits(), "{got}, not {expected}");
            }
        }
    }
}
