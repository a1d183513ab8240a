//! Sums as Hopper's tensor cores form them; `tests/golden` holds bits that a GPU gave. The terms of an
//! instruction are the sum before and the products along K. All are aligned to the largest exponent and
//! cut some bits below it, towards zero; then they are added exactly, and the sum is rounded once. A
//! product's exponent is that of its factors added, so its mantissa is below 4. Zeros have none.

#[cfg(target_arch = "x86_64")]
mod avx512;

use super::place;
use super::rows::Rows;
use super::tile::{Factors, Half, Level, Quads, ROWS};
use crate::ops::LANES;
use crate::program::matrix::{Element, Product, Sum};

/// No term is aligned below this exponent.
const FLOOR: i32 = -133;
/// The exponent of a zero: below all others, also when that of another factor is added.
const NONE: i32 = -1000;
/// The same in a byte.
const ZERO: i8 = i8::MIN;
/// Products of factors within these exponents, scaled for their sum, are exact in FP32.
const NARROW: i32 = 40;
const NAN: f32 = f32::from_bits(0x7fff_ffff);

/// How an instruction adds.
#[derive(Clone, Copy)]
pub(super) struct Rule {
    /// Bits that are kept below the largest exponent.
    kept_bits: i32,
    /// Lowest exponents of A, B and the sum before; subnormal numbers have these.
    lowest: [i32; 3],
    rounding: Rounding,
}

/// What becomes of a sum. One that becomes zero is positive.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rounding {
    /// Cut to FP32.
    Cut,
    /// Cut to 14 bits, as FP32.
    CutShort,
    /// To FP32 whose last bit is set if something was lost, so that it can be rounded to FP16.
    ToOdd,
}

impl Rule {
    /// Of a product of floats.
    pub(super) fn of(product: Product) -> Self {
        let is_fp8 = product.a.is_fp8();
        let is_half = product.sum == Sum::F16;
        Rule {
            kept_bits: if is_fp8 { 13 } else { 25 },
            lowest: [lowest(product.a), lowest(product.b), if is_half { -14 } else { -126 }],
            rounding: match (is_half, is_fp8) {
                (true, _) => Rounding::ToOdd,
                (false, true) => Rounding::CutShort,
                (false, false) => Rounding::Cut,
            },
        }
    }
}

/// The lowest exponent of an element's numbers.
fn lowest(element: Element) -> i32 {
    match element {
        Element::E4m3 => -6,
        Element::E5m2 | Element::F16 => -14,
        _ => -126,
    }
}

/// The exponent of a number; 128 of an infinity or a NaN, a low one of a zero.
#[inline(always)]
fn exponent(x: f32, lowest: i32) -> i32 {
    let field = (x.to_bits() >> 23 & 0xff) as i32 - 127;
    if x == 0.0 { NONE } else { field.max(lowest) }
}

#[inline(always)]
fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

impl Rule {
    /// The sum of `terms` units of the last bit that is kept below `exponent`.
    #[inline(always)]
    fn finish(self, terms: f64, exponent: i32) -> f32 {
        let exact = terms * power_of_two(exponent - self.kept_bits);
        let near = exact as f32;
        let is_high = f64::from(near).abs() > exact.abs() && exact.abs() < power_of_two(128);
        let cut = near.to_bits() - u32::from(is_high);
        let bits = match self.rounding {
            Rounding::Cut => cut,
            Rounding::CutShort => cut & !0x3ff,
            Rounding::ToOdd => cut | u32::from(f64::from(f32::from_bits(cut)) != exact),
        };
        f32::from_bits(if bits << 1 == 0 { 0 } else { bits })
    }

    /// One sum; any numbers.
    fn sum(self, before: f32, a: &[f32], b: &[f32]) -> f32 {
        let pairs = || a.iter().zip(b);
        if !before.is_finite() || pairs().any(|(x, y)| !x.is_finite() || !y.is_finite()) {
            return special_sum(before, a, b);
        }
        let [lowest_a, lowest_b, lowest_sum] = self.lowest;
        let exponents = pairs().map(|(x, y)| exponent(*x, lowest_a) + exponent(*y, lowest_b));
        let largest = exponents.fold(exponent(before, lowest_sum).max(FLOOR), i32::max);
        let units = power_of_two(self.kept_bits - largest);
        let steps = |x: f64| (x * units).trunc();
        let products = pairs().map(|(x, y)| steps(f64::from(*x) * f64::from(*y)));
        self.finish(products.fold(steps(f64::from(before)), |sum, x| sum + x), largest)
    }

    /// Adds to 16 lanes the products of a quarter of the rows and a quadruple of columns; `largest` are
    /// their largest exponents.
    #[inline(always)]
    fn lanes(
        self,
        sums: &mut [f32; LANES / 2],
        largest: &[i8; LANES / 2],
        (a, quarter): (&[Half], usize),
        (b, quad): (&[[[f32; 4]; 4]], usize),
    ) {
        let mut exponents = [0; LANES / 2];
        let mut scales = [0.0; LANES / 2];
        for lane in 0..LANES / 2 {
            let of_products = i32::from(largest[lane]);
            let of_products = if of_products < -2 * NARROW { NONE } else { of_products };
            let largest = of_products.max(exponent(sums[lane], self.lowest[2])).max(FLOOR);
            exponents[lane] = largest;
            // Where the largest is lower, there are no products.
            let scale = self.kept_bits - largest.max(-2 * NARROW);
            scales[lane] = f32::from_bits(((scale + 127) as u32) << 23);
        }
        // Up to 16 products below 2^27 each: two parts, so that neither overflows.
        let mut parts = [[0; LANES / 2]; 2];
        for (step, (a, b)) in a.as_chunks::<4>().0.iter().zip(b).enumerate() {
            let (a, b, part) = (&a[quarter].0, &b[quad], &mut parts[step % 2]);
            for lane in 0..LANES / 2 {
                let product = a[lane] * b[lane % 4] * scales[lane];
                // SAFETY: a product is below four units of the largest term, so this is below 2^27.
                part[lane] += unsafe { product.to_int_unchecked::<i32>() };
            }
        }
        for lane in 0..LANES / 2 {
            let before = sums[lane];
            let finite = if before.is_finite() { before } else { 0.0 };
            let scaled = f64::from(finite) * power_of_two(self.kept_bits - exponents[lane]);
            // SAFETY: the sum before is below two units of the largest term, so this is below 2^26.
            let before_steps = unsafe { scaled.to_int_unchecked::<i32>() };
            let steps = f64::from(parts[0][lane]) + f64::from(parts[1][lane]);
            let sum = self.finish(steps + f64::from(before_steps), exponents[lane]);
            let special = if before.is_nan() { NAN } else { before };
            sums[lane] = if before.is_finite() { sum } else { special };
        }
    }
}

/// A sum of terms of which some are infinities or NaN: the others do not count.
fn special_sum(before: f32, a: &[f32], b: &[f32]) -> f32 {
    let special = |x: f32| if x.is_finite() { 0.0 } else { x };
    let of_pair = |(x, y): (&f32, &f32)| match x.is_finite() && y.is_finite() {
        true => 0.0,
        false => special(x * y),
    };
    let sum = a.iter().zip(b).map(of_pair).fold(special(before), |sum, x| sum + x);
    if sum.is_nan() { NAN } else { sum }
}

/// Exponents of the factors, in the order of [`Factors`].
#[derive(Default)]
pub(super) struct Exponents {
    a: Vec<[i8; 2 * LANES]>,
    b: Vec<[[i8; 4]; 4]>,
}

impl Exponents {
    /// [`Exponents::take_in`] for a level.
    fn take(&mut self, level: Level, rule: Rule, a: &[Half], b: &[[[f32; 4]; 4]]) -> bool {
        match level {
            // SAFETY: `Level::detect` found the features.
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => unsafe { avx512::take(self, rule, a, b) },
            _ => self.take_in(rule, a, b),
        }
    }

    /// Takes those of all factors; false if some are beyond [`NARROW`].
    #[inline(always)]
    fn take_in(&mut self, rule: Rule, a: &[Half], b: &[[[f32; 4]; 4]]) -> bool {
        self.resize(a, b);
        let mut are_narrow = true;
        let mut byte = |x: f32, lowest: i32| {
            let exponent = exponent(x, lowest);
            are_narrow &= exponent == NONE || exponent.abs() <= NARROW;
            if exponent == NONE { ZERO } else { exponent as i8 }
        };
        for (to, from) in self.a.as_flattened_mut().as_chunks_mut().0.iter_mut().zip(a) {
            *to = from.0.map(|x| byte(x, rule.lowest[0]));
        }
        for (to, from) in self.b.as_flattened_mut().iter_mut().zip(b.as_flattened()) {
            *to = from.map(|x| byte(x, rule.lowest[1]));
        }
        are_narrow
    }

    fn resize(&mut self, a: &[Half], b: &[[[f32; 4]; 4]]) {
        self.a.resize(a.len() / 4, [0; 2 * LANES]);
        self.b.resize(b.len(), [[0; 4]; 4]);
    }
}

/// Adds to the registers of a quadruple of columns, as [`Factors::accumulate`] has them.
#[inline(always)]
fn quad_in(
    rule: Rule,
    quad: usize,
    (a, a_exponents): (&[Half], &[[i8; 2 * LANES]]),
    (b, b_exponents): (&[Quads<f32>], &[Quads<i8>]),
    registers: &mut Rows<'_>,
) {
    let mut largest = [ZERO; 2 * LANES];
    for (a, b) in a_exponents.iter().zip(b_exponents) {
        for lane in 0..2 * LANES {
            largest[lane] = largest[lane].max(a[lane].saturating_add(b[quad][lane % 4]));
        }
    }
    for (quarter, largest) in largest.as_chunks().0.iter().enumerate() {
        let register = registers.numbers(meeting(quad, quarter));
        let lanes = &mut register.as_chunks_mut().0[quarter % 2];
        rule.lanes(lanes, largest, (a, quarter), (b, quad));
    }
}

/// The register, of eight, in which a quadruple of columns meets a quarter of the rows.
fn meeting(quad: usize, quarter: usize) -> usize {
    quad / 2 * 4 + quarter / 2 * 2 + quad % 2
}

/// `sums += a * b^T` as [`Factors::accumulate`], whose order the factors have been brought into.
pub(super) fn accumulate(
    level: Level,
    factors: &Factors,
    exponents: &mut Exponents,
    (rule, n): (Rule, usize),
    sums: &mut [Rows<'_>],
) {
    let (wide_a, narrow_b) = factors.arranged();
    if !exponents.take(level, rule, wide_a, narrow_b) {
        return accumulate_any(factors, rule, n, sums);
    }
    let k = factors.plain().1.len() / n;
    let warps = wide_a.chunks_exact(4 * k).zip(exponents.a.chunks_exact(k));
    for (a, registers) in warps.zip(sums) {
        let columns = narrow_b.chunks_exact(k).zip(exponents.b.chunks_exact(k));
        for (i, b) in columns.enumerate() {
            let count = (registers.len() - 8 * i).min(8);
            let mut registers = registers.part(8 * i, count);
            for quad in 0..count / 2 {
                add_quad(level, rule, quad, a, b, &mut registers);
            }
        }
    }
}

/// [`quad_in`] for a level.
fn add_quad(
    level: Level,
    rule: Rule,
    quad: usize,
    a: (&[Half], &[[i8; 2 * LANES]]),
    b: (&[Quads<f32>], &[Quads<i8>]),
    registers: &mut Rows<'_>,
) {
    match level {
        // SAFETY: `Level::detect` found the features.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { avx512::quad(rule, quad, a, b, registers) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { quad_avx2(rule, quad, a, b, registers) },
        Level::Portable => quad_in(rule, quad, a, b, registers),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn quad_avx2(
    rule: Rule,
    quad: usize,
    a: (&[Half], &[[i8; 2 * LANES]]),
    b: (&[Quads<f32>], &[Quads<i8>]),
    registers: &mut Rows<'_>,
) {
    quad_in(rule, quad, a, b, registers);
}

/// The same of any numbers, one sum after the other.
fn accumulate_any(factors: &Factors, rule: Rule, n: usize, sums: &mut [Rows<'_>]) {
    let (a, b) = factors.plain();
    let k = b.len() / n;
    for (a, registers) in a.chunks_exact(ROWS * k).zip(sums) {
        for i in 0..registers.len() {
            for (lane, value) in registers.numbers(i).iter_mut().enumerate() {
                let (row, column) = place(i, lane);
                *value = rule.sum(*value, &a[row * k..][..k], &b[column * k..][..k]);
            }
        }
    }
}
