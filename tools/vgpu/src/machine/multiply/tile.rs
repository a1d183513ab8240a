//! The innermost loops of a product, on fragments: a register's 32 lanes are 8 rows by 4 columns, so
//! that a register of the sum adds, for each step of K, a vector of A whose elements stand four
//! times each, times four elements of B that repeat.

use super::decode::decode_in;
use crate::ops::LANES;
use crate::program::matrix::Element;

/// Rows of a warp's part of a product.
pub(crate) const ROWS: usize = 16;
/// Columns whose registers are summed at the same time.
const COLUMNS: usize = 16;

/// Half of a register's lanes, as one vector.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Half(pub [f32; LANES / 2]);

/// The factors of a product as the loops want them.
#[derive(Default)]
pub(super) struct Factors {
    a: Vec<f32>,
    b: Vec<f32>,
    /// For each warp and step of K four vectors: rows 0-3, 4-7, 8-11 and 12-15.
    wide_a: Vec<Half>,
    /// For each 16 columns and step of K four quadruples: columns 0, 2, 4, 6; the odd ones; the same
    /// of the next eight.
    narrow_b: Vec<[[f32; 4]; 4]>,
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
            Level::Avx512 => unsafe { accumulate_avx512(self, n, sums) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => unsafe { accumulate_avx2(self, n, sums) },
            Level::Portable => {
                self.arrange(n);
                self.each_block(n, sums, block_in);
            }
        }
    }

    /// Brings the numbers into the loops' order.
    #[inline(always)]
    fn arrange(&mut self, n: usize) {
        let quads = self.b.len() / n / 4;
        self.wide_a.clear();
        for rows in self.a.as_chunks::<4>().0.chunks_exact(ROWS * quads) {
            self.wide_a.resize(self.wide_a.len() + ROWS * quads, Half([0.0; LANES / 2]));
            let at = self.wide_a.len() - ROWS * quads;
            let vectors = self.wide_a[at..].as_chunks_mut::<ROWS>().0;
            for (quad, vectors) in vectors.iter_mut().enumerate() {
                for quarter in 0..4 {
                    let four = std::array::from_fn(|i| rows[(quarter * 4 + i) * quads + quad]);
                    for (step, values) in transposed(four).into_iter().enumerate() {
                        let lanes = std::array::from_fn(|lane| values[lane / 4]);
                        vectors[4 * step + quarter] = Half(lanes);
                    }
                }
            }
        }
        self.narrow_b.clear();
        for columns in self.b.as_chunks::<4>().0.chunks(COLUMNS * quads) {
            for quad in 0..quads {
                // By quadruple of columns and step; the second eight columns may be missing.
                let mut quadruples = [[[0.0; 4]; 4]; 4];
                let count = columns.len() / quads / 4;
                for (at, steps) in quadruples.iter_mut().enumerate().take(count) {
                    let first = at / 2 * 8 + at % 2;
                    let four = std::array::from_fn(|i| columns[(first + 2 * i) * quads + quad]);
                    *steps = transposed(four);
                }
                for step in 0..4 {
                    self.narrow_b.push(quadruples.map(|steps| steps[step]));
                }
            }
        }
    }

    /// Calls `block` with the vectors of A and B that each up to eight registers need, and those.
    #[inline(always)]
    fn each_block(
        &self,
        n: usize,
        sums: &mut [[f32; LANES]],
        block: impl Fn(&[Half], &[[[f32; 4]; 4]], &mut [[f32; LANES]]),
    ) {
        let k = self.b.len() / n;
        for (a, registers) in self.wide_a.chunks_exact(4 * k).zip(sums.chunks_exact_mut(n / 2)) {
            for (b, registers) in self.narrow_b.chunks_exact(k).zip(registers.chunks_mut(8)) {
                block(a, b, registers);
            }
        }
    }
}

#[inline(always)]
fn transposed(rows: [[f32; 4]; 4]) -> [[f32; 4]; 4] {
    std::array::from_fn(|i| std::array::from_fn(|j| rows[j][i]))
}

/// Register `4 * octet + 2 * half + parity` has rows `8 * half` on and the even or odd columns.
#[inline(always)]
fn block_in(a: &[Half], b: &[[[f32; 4]; 4]], registers: &mut [[f32; LANES]]) {
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
fn decode_avx512(element: Element, bytes: &[u8], negate: bool, out: &mut Vec<f32>) {
    decode_in(element, bytes, negate, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn decode_avx2(element: Element, bytes: &[u8], negate: bool, out: &mut Vec<f32>) {
    decode_in(element, bytes, negate, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn accumulate_avx2(factors: &mut Factors, n: usize, sums: &mut [[f32; LANES]]) {
    factors.arrange(n);
    factors.each_block(n, sums, block_in);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
fn accumulate_avx512(factors: &mut Factors, n: usize, sums: &mut [[f32; LANES]]) {
    factors.arrange(n);
    factors.each_block(n, sums, |a, b, registers| match registers.len() {
        8 => block_avx512::<4>(a, b, registers),
        _ => block_avx512::<2>(a, b, registers),
    });
}

/// [`block_in`] with all sums in registers of the processor.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn block_avx512<const QUADS: usize>(
    a: &[Half],
    b: &[[[f32; 4]; 4]],
    registers: &mut [[f32; LANES]],
) {
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
