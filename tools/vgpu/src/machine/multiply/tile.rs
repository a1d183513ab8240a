//! The innermost loops of a product, on fragments: a register's 32 lanes are 8 rows by 4 columns, so
//! that a register of the sum adds, for each step of K, a vector of A whose elements stand four
//! times each, times four elements of B that repeat.

#[cfg(target_arch = "x86_64")]
use super::avx512;
#[cfg(target_arch = "x86_64")]
use super::bytes;
use super::decode::decode_in;
use super::rows::Rows;
use super::source::Source;
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
    /// For bytes that do not lie together.
    buffer: Vec<u8>,
}

/// One of the factors, and how many rows or columns it has.
#[derive(Clone, Copy)]
enum Which {
    A(usize),
    B(usize),
}

/// What a factor's elements are, where they lie, and whether they are negated.
#[derive(Clone, Copy)]
pub(super) struct Factor<'a> {
    pub element: Element,
    pub source: Source<'a>,
    pub negate: bool,
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
    /// `sums += a * b^T` for `n` columns. Each sum adds its products one after the other in the order of
    /// K, each with one rounding, whatever the level.
    pub(super) fn accumulate(
        &mut self,
        level: Level,
        [a, b]: [Factor<'_>; 2],
        n: usize,
        sums: &mut [Rows<'_>],
    ) {
        self.take(level, Which::B(n), b);
        let share = ROWS * b.source.len() / n;
        // Warp by warp, so that what is wide stays in the nearest cache.
        for (i, sums) in sums.iter_mut().enumerate() {
            self.take(level, Which::A(ROWS), Factor { source: a.source.part(i, share), ..a });
            match level {
                // SAFETY: `Level::detect` found the features.
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 => unsafe { accumulate_avx512(self, n, sums) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 => unsafe { accumulate_avx2(self, n, sums) },
                Level::Portable => self.each_block(n, sums, block_in),
            }
        }
    }

    /// Brings both into the loops' order, and has them as numbers row by row too.
    pub(super) fn take_both(&mut self, level: Level, [a, b]: [Factor<'_>; 2], n: usize) {
        let rows = a.source.len() * n / b.source.len();
        for (which, factor) in [(Which::A(rows), a), (Which::B(n), b)] {
            self.decode(level, which, factor);
            self.arrange_at(level, which);
        }
    }

    /// A and B as numbers, row by row.
    pub(super) fn plain(&self) -> (&[f32], &[f32]) {
        (&self.a, &self.b)
    }

    /// A and B in the loops' order.
    pub(super) fn arranged(&self) -> (&[Half], &[Quads<f32>]) {
        (&self.wide_a, &self.narrow_b)
    }

    /// Brings one into the loops' order.
    fn take(&mut self, level: Level, which: Which, factor: Factor<'_>) {
        #[cfg(target_arch = "x86_64")]
        if level == Level::Avx512 && !factor.negate && is_x86_feature_detected!("avx512vbmi") {
            let Factor { element, source, .. } = factor;
            // SAFETY: `Level::detect` found the other features.
            let done = unsafe {
                match which {
                    Which::A(_) => bytes::widen(element, source, &mut self.wide_a),
                    Which::B(n) => bytes::narrow(element, source, n, &mut self.narrow_b),
                }
            };
            if done {
                return;
            }
        }
        self.decode(level, which, factor);
        self.arrange_at(level, which);
    }

    fn decode(&mut self, level: Level, which: Which, factor: Factor<'_>) {
        let bytes = factor.source.gather(&mut self.buffer);
        let out = match which {
            Which::A(_) => &mut self.a,
            Which::B(_) => &mut self.b,
        };
        decode(level, factor.element, bytes, factor.negate, out);
    }

    fn arrange_at(&mut self, level: Level, which: Which) {
        match level {
            // SAFETY: `Level::detect` found the features.
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => unsafe { arrange_avx512(self, which) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => unsafe { arrange_avx2(self, which) },
            Level::Portable => self.arrange(which, spread_in, transpose_in),
        }
    }

    /// Brings the numbers of one into the loops' order.
    #[inline(always)]
    fn arrange(
        &mut self,
        which: Which,
        spread: impl Fn([&[f32; 4]; 4]) -> [Half; 4],
        transpose: impl Fn([[&[f32; 4]; 4]; 4]) -> [Quads<f32>; 4],
    ) {
        match which {
            Which::A(rows) => self.arrange_a(rows, spread),
            Which::B(n) => self.arrange_b(n, transpose),
        }
    }

    #[inline(always)]
    fn arrange_a(&mut self, rows: usize, spread: impl Fn([&[f32; 4]; 4]) -> [Half; 4]) {
        let quads = self.a.len() / rows / 4;
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
    }

    #[inline(always)]
    fn arrange_b(&mut self, n: usize, transpose: impl Fn([[&[f32; 4]; 4]; 4]) -> [Quads<f32>; 4]) {
        let quads = self.b.len() / n / 4;
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

    /// Calls `block` with the vectors of A and B that each up to eight registers of a warp need, and those.
    #[inline(always)]
    fn each_block(
        &self,
        n: usize,
        sums: &mut Rows<'_>,
        block: impl Fn(&[Half], &[Quads<f32>], Rows<'_>),
    ) {
        let steps = self.narrow_b.len() / n.div_ceil(COLUMNS);
        for (i, b) in self.narrow_b.chunks_exact(steps).enumerate() {
            let count = (sums.len() - 8 * i).min(8);
            block(&self.wide_a, b, sums.part(8 * i, count));
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
fn block_in(a: &[Half], b: &[Quads<f32>], mut registers: Rows<'_>) {
    for octet in 0..registers.len() / 4 {
        for parity in 0..2 {
            let at = [4 * octet + parity, 4 * octet + parity + 2];
            let mut sums = at.map(|at| *registers.numbers(at));
            for (a, b) in a.chunks_exact(4).zip(b) {
                let b = &b[2 * octet + parity];
                for (half, sum) in sums.iter_mut().enumerate() {
                    for lane in 0..LANES {
                        let x = a[2 * half + lane / 16].0[lane % 16];
                        sum[lane] = x.mul_add(b[lane % 4], sum[lane]);
                    }
                }
            }
            at.iter().zip(sums).for_each(|(at, sum)| *registers.numbers(*at) = sum);
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
fn arrange_avx2(factors: &mut Factors, which: Which) {
    factors.arrange(which, spread_in, transpose_in);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
fn arrange_avx512(factors: &mut Factors, which: Which) {
    factors.arrange(which, |rows| avx512::spread(rows), |columns| avx512::transpose(columns));
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn accumulate_avx2(factors: &Factors, n: usize, sums: &mut Rows<'_>) {
    factors.each_block(n, sums, block_in);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
fn accumulate_avx512(factors: &Factors, n: usize, sums: &mut Rows<'_>) {
    factors.each_block(n, sums, |a, b, registers| match registers.len() {
        8 => avx512::block::<4>(a, b, registers),
        _ => avx512::block::<2>(a, b, registers),
    });
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
