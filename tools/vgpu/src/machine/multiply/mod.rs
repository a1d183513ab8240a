//! Products of small matrices, as the tensor cores form them.

#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod bytes;
mod decode;
mod fp8_as_f16;
mod hopper;
mod rows;
mod source;
mod tile;

use half::f16;

use hopper::{Exponents, Rule};
pub(crate) use rows::Rows;
pub(crate) use source::{CHUNK, Chunks, Source};
pub(crate) use tile::ROWS;
use tile::{Factor, Factors, Level};

use crate::accumulation::Accumulation;
use crate::ops::LANES;
use crate::program::matrix::{Product, Sum};

/// A register of all lanes.
pub(crate) type Lanes = [u32; LANES];

/// Multiplies; keeps its buffers from one product to the next.
pub(crate) struct Multiplier {
    level: Level,
    factors: Factors,
    /// Sums of other types in FP32.
    wide: Vec<[f32; LANES]>,
    accumulation: Accumulation,
    exponents: Exponents,
}

/// One product.
pub(crate) struct Task<'a> {
    pub product: Product,
    /// Rows of `product.depth` bytes, 16 for each warp.
    pub a: Source<'a>,
    /// Rows of `product.depth` bytes, one for each column of the sum.
    pub b: Source<'a>,
    pub negate: [bool; 2],
    /// The sum before counts.
    pub adds: bool,
}

impl Multiplier {
    pub(crate) fn new(accumulation: Accumulation) -> Self {
        let level = Level::detect();
        Multiplier {
            level,
            factors: Factors::default(),
            wide: Vec::new(),
            accumulation,
            exponents: Exponents::default(),
        }
    }

    /// `sums += a * b^T`. `sums` are the fragments of the warps. As [`Accumulation`] says; with FP32, FP16
    /// sums are rounded once.
    pub(crate) fn multiply(&mut self, task: &Task<'_>, sums: &mut [Rows<'_>]) {
        let sum = task.product.sum;
        if !task.adds && sum != Sum::S32 {
            for rows in &mut *sums {
                (0..rows.len()).for_each(|i| *rows.bits(i) = [0; LANES]);
            }
        }
        match sum {
            Sum::F32 => self.add_products(task, sums),
            Sum::F16 => self.add_to_halves(task, sums),
            Sum::S32 => self.add_to_integers(task, sums),
        }
    }

    /// Adds to registers of FP32.
    fn add_products(&mut self, task: &Task<'_>, sums: &mut [Rows<'_>]) {
        let Task { product, a, b, negate, .. } = *task;
        let factor = |element, source, negate| Factor { element, source, negate };
        let factors = [factor(product.a, a, negate[0]), factor(product.b, b, negate[1])];
        let n = usize::from(product.n);
        if self.accumulation == Accumulation::Hopper && product.sum != Sum::S32 {
            self.factors.take_both(self.level, factors, n);
            let how = (Rule::of(product), n);
            hopper::accumulate(self.level, &self.factors, &mut self.exponents, how, sums);
        } else {
            self.factors.accumulate(self.level, factors, n, sums);
        }
    }

    /// Adds to registers of two FP16 of neighbouring columns each.
    fn add_to_halves(&mut self, task: &Task<'_>, sums: &mut [Rows<'_>]) {
        let mut wide = std::mem::take(&mut self.wide);
        wide.clear();
        for rows in &mut *sums {
            for i in (0..rows.len()).step_by(2) {
                let pair = [*rows.bits(i), *rows.bits(i + 1)];
                let half = |x: u32, shift: u32| f16::from_bits((x >> shift) as u16).to_f32();
                let [low, high] = [0, 16].map(|at| pair.map(|x| x.map(|x| half(x, at))));
                wide.extend([low[0], high[0], low[1], high[1]]);
            }
        }
        self.add_products_to(task, &mut wide);
        let has_no_negative_zero = self.accumulation == Accumulation::Hopper;
        let half = |x: f32| {
            let bits = f16::from_f32(x).to_bits();
            u32::from(if has_no_negative_zero && bits == 0x8000 { 0 } else { bits })
        };
        let mut quads = wide.as_chunks::<4>().0.iter();
        for rows in sums {
            for (i, wide) in (0..rows.len()).step_by(2).zip(&mut quads) {
                for j in 0..2 {
                    let [low, high] = [&wide[2 * j], &wide[2 * j + 1]];
                    *rows.bits(i + j) =
                        std::array::from_fn(|lane| half(low[lane]) | half(high[lane]) << 16);
                }
            }
        }
        self.wide = wide;
    }

    /// Adds to registers of 32-bit integers; sums of products of 8-bit integers are exact in FP32.
    fn add_to_integers(&mut self, task: &Task<'_>, sums: &mut [Rows<'_>]) {
        let mut wide = std::mem::take(&mut self.wide);
        wide.clear();
        wide.resize(sums.iter().map(Rows::len).sum(), [0.0; LANES]);
        self.add_products_to(task, &mut wide);
        let mut terms = wide.iter();
        for rows in sums {
            for (i, terms) in (0..rows.len()).zip(&mut terms) {
                for (bits, terms) in rows.bits(i).iter_mut().zip(terms) {
                    let before = if task.adds { *bits as i32 } else { 0 };
                    let after = match task.product.saturates {
                        true => before.saturating_add(*terms as i32),
                        false => before.wrapping_add(*terms as i32),
                    };
                    *bits = after as u32;
                }
            }
        }
        self.wide = wide;
    }

    /// Adds to numbers of FP32, those of one warp after the other's.
    fn add_products_to(&mut self, task: &Task<'_>, wide: &mut [[f32; LANES]]) {
        let warps = wide.chunks_exact_mut(usize::from(task.product.n) / 2);
        self.add_products(task, &mut warps.map(Rows::of_numbers).collect::<Vec<_>>());
    }
}

/// Row, of a warp's 16, and column of a lane of a register of an FP32 sum.
fn place(register: usize, lane: usize) -> (usize, usize) {
    let row = lane / 4 + register / 2 % 2 * 8;
    (row, register / 4 * 8 + lane % 4 * 2 + register % 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::matrix::Element;

    #[test]
    fn all_levels_give_the_same_bits() {
        let mut seed = 1u64;
        let mut bytes = |count: usize| -> Vec<u8> {
            let mut byte = || {
                seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                (seed >> 56) as u8
            };
            // No exponent is all ones, so that there is no NaN.
            (0..count).map(|_| byte() & 0xbb).collect()
        };
        let elements =
            [Element::F16, Element::Bf16, Element::Tf32, Element::E4m3, Element::E5m2, Element::S8];
        let widths = elements.into_iter().flat_map(|it| [(it, 8), (it, 24), (it, 128)]);
        let both = [Accumulation::Fp32, Accumulation::Hopper];
        let cases = widths.flat_map(|it| both.map(|how| (it, how)));
        let signs = [[false; 2], [true, false], [false, true]];
        for (((element, n), accumulation), negate) in
            cases.flat_map(|it| signs.map(|negate| (it, negate)))
        {
            let sum = if element == Element::S8 { Sum::S32 } else { Sum::F32 };
            let product = Product { a: element, b: element, sum, n, depth: 32, saturates: false };
            let (a, b) = (bytes(64 * 32), bytes(usize::from(n) * 32));
            // The same, chunk by chunk in another order.
            let chunks = Chunks::new((0..a.len() as u32 / 16).map(|i| (i ^ 5) * 16).collect());
            let memory: Vec<u8> = (0..a.len()).map(|i| a[((i / 16) ^ 5) * 16 + i % 16]).collect();
            let scattered = Source::scattered(&memory, &chunks);
            let mut results = Vec::new();
            for (level, a) in
                levels().into_iter().flat_map(|it| [(it, Source::Whole(&a)), (it, scattered)])
            {
                let task = Task { product, a, b: Source::Whole(&b), negate, adds: true };
                let mut multiplier = Multiplier { level, ..Multiplier::new(accumulation) };
                let mut sum = vec![[1f32.to_bits(); LANES]; 4 * product.sum_registers()];
                let warps = sum.chunks_exact_mut(product.sum_registers());
                multiplier.multiply(&task, &mut warps.map(Rows::together).collect::<Vec<_>>());
                results.push(sum);
            }
            assert!(
                results.iter().all(|it| *it == results[0]),
                "{element:?} {n} {accumulation:?} {negate:?}"
            );
        }
    }

    /// Those that the processor has.
    fn levels() -> Vec<Level> {
        let all = [
            Level::Portable,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2,
            #[cfg(target_arch = "x86_64")]
            Level::Avx512,
        ];
        all.into_iter().filter(|level| *level <= Level::detect()).collect()
    }
}
