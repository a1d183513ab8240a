//! Products of small matrices, as the tensor cores form them.

#[cfg(target_arch = "x86_64")]
mod bytes;
mod decode;
mod fp8_as_f16;
mod hopper;
mod tile;

use half::f16;

use hopper::{Exponents, Rule};
pub(crate) use tile::ROWS;
use tile::{Factors, Level};

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
    /// For the bytes of factors, when nobody has them.
    buffers: [Vec<u8>; 2],
}

/// One product.
pub(crate) struct Task<'a> {
    pub product: Product,
    /// Rows of `product.depth` bytes, 16 for each warp.
    pub a: &'a [u8],
    /// Rows of `product.depth` bytes, one for each column of the sum.
    pub b: &'a [u8],
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
            buffers: Default::default(),
        }
    }

    /// Buffers for the bytes of A and B.
    pub(crate) fn take_buffers(&mut self) -> [Vec<u8>; 2] {
        std::mem::take(&mut self.buffers)
    }

    /// Gives them back.
    pub(crate) fn put_buffers(&mut self, buffers: [Vec<u8>; 2]) {
        self.buffers = buffers;
    }

    /// `sum += a * b^T`. `sum` are the fragments of the first warp, register by register, then those of
    /// the next. As [`Accumulation`] says; with FP32, FP16 sums are rounded once.
    pub(crate) fn multiply(&mut self, task: &Task<'_>, sum: &mut [Lanes]) {
        let product = task.product;
        if !task.adds && product.sum != Sum::S32 {
            sum.fill([0; LANES]);
        }
        match product.sum {
            Sum::F32 => {
                // SAFETY: every bit pattern is a float, of the same size and alignment.
                let wide = unsafe { &mut *(std::ptr::from_mut(sum) as *mut [[f32; LANES]]) };
                self.add_products(task, wide);
            }
            Sum::F16 => self.add_to_halves(task, sum),
            Sum::S32 => self.add_to_integers(task, sum),
        }
    }

    /// Adds to registers of FP32.
    fn add_products(&mut self, task: &Task<'_>, sums: &mut [[f32; LANES]]) {
        let Task { product, a, b, negate, .. } = *task;
        let (elements, bytes, n) = ([product.a, product.b], [a, b], usize::from(product.n));
        let as_hopper = self.accumulation == Accumulation::Hopper && product.sum != Sum::S32;
        let plain = !as_hopper && negate == [false; 2];
        if plain && self.factors.accumulate_bytes(self.level, elements, bytes, n, sums) {
            return;
        }
        self.factors.decode(self.level, elements, bytes, negate);
        if as_hopper {
            self.factors.arrange_at(self.level, n);
            let how = (Rule::of(product), n);
            hopper::accumulate(self.level, &self.factors, &mut self.exponents, how, sums);
        } else {
            self.factors.accumulate(self.level, n, sums);
        }
    }

    /// Adds to registers of two FP16 of neighbouring columns each.
    fn add_to_halves(&mut self, task: &Task<'_>, sum: &mut [Lanes]) {
        let mut wide = std::mem::take(&mut self.wide);
        wide.clear();
        for pair in sum.as_chunks::<2>().0 {
            let half = |x: u32, shift: u32| f16::from_bits((x >> shift) as u16).to_f32();
            let [low, high] = [0, 16].map(|at| [0, 1].map(|i| pair[i].map(|x| half(x, at))));
            wide.extend([low[0], high[0], low[1], high[1]]);
        }
        self.add_products(task, &mut wide);
        let has_no_negative_zero = self.accumulation == Accumulation::Hopper;
        let half = |x: f32| {
            let bits = f16::from_f32(x).to_bits();
            u32::from(if has_no_negative_zero && bits == 0x8000 { 0 } else { bits })
        };
        for (pair, wide) in sum.as_chunks_mut::<2>().0.iter_mut().zip(wide.as_chunks::<4>().0) {
            for (i, register) in pair.iter_mut().enumerate() {
                let [low, high] = [&wide[2 * i], &wide[2 * i + 1]];
                *register = std::array::from_fn(|lane| half(low[lane]) | half(high[lane]) << 16);
            }
        }
        self.wide = wide;
    }

    /// Adds to registers of 32-bit integers; sums of products of 8-bit integers are exact in FP32.
    fn add_to_integers(&mut self, task: &Task<'_>, sum: &mut [Lanes]) {
        let mut wide = std::mem::take(&mut self.wide);
        wide.clear();
        wide.resize(sum.len(), [0.0; LANES]);
        self.add_products(task, &mut wide);
        for (register, wide) in sum.iter_mut().zip(&wide) {
            for (bits, terms) in register.iter_mut().zip(wide) {
                let before = if task.adds { *bits as i32 } else { 0 };
                let after = match task.product.saturates {
                    true => before.saturating_add(*terms as i32),
                    false => before.wrapping_add(*terms as i32),
                };
                *bits = after as u32;
            }
        }
        self.wide = wide;
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
        for ((element, n), accumulation) in widths.flat_map(|it| both.map(|how| (it, how))) {
            let sum = if element == Element::S8 { Sum::S32 } else { Sum::F32 };
            let product = Product { a: element, b: element, sum, n, depth: 32, saturates: false };
            let (a, b) = (bytes(64 * 32), bytes(usize::from(n) * 32));
            let task = Task { product, a: &a, b: &b, negate: [true, false], adds: true };
            let mut results = Vec::new();
            for level in levels() {
                let mut multiplier = Multiplier { level, ..Multiplier::new(accumulation) };
                let mut sum = vec![[1f32.to_bits(); LANES]; 4 * product.sum_registers()];
                multiplier.multiply(&task, &mut sum);
                results.push(sum);
            }
            assert!(results.iter().all(|it| *it == results[0]), "{element:?} {n} {accumulation:?}");
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
