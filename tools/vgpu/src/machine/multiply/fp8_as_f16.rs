//! `mma.sync` of FP8 on Hopper, which has no such instruction: ptxas turns the factors into FP16, multiplies
//! the lower halves of their registers and then the upper ones, and adds the result to the sum.

use half::f16;

use super::{Lanes, Multiplier, Rows, Source, Task};
use crate::accumulation::Accumulation;
use crate::ops::fp8::Fp8;
use crate::program::matrix::{Element, Product, Sum};

impl Multiplier {
    /// A warp's `mma.sync`: [`Multiplier::multiply`], but for FP8 as Hopper has it.
    pub(crate) fn multiply_in_warp(&mut self, task: &Task<'_>, sum: &mut [Lanes]) {
        let product = task.product;
        if self.accumulation != Accumulation::Hopper || !product.a.is_fp8() {
            return self.multiply(task, &mut [Rows::together(sum)]);
        }
        let mut products: Vec<Lanes> = vec![[0; _]; sum.len()];
        for half in 0..2 {
            let [a, b] = [(task.a, product.a), (task.b, product.b)]
                .map(|(codes, element)| widened(codes.gather(&mut Vec::new()), element, half));
            let product = Product { a: Element::F16, b: Element::F16, ..product };
            let (a, b) = (Source::Whole(&a), Source::Whole(&b));
            self.multiply(&Task { product, a, b, ..*task }, &mut [Rows::together(&mut products)]);
        }
        let add = if product.sum == Sum::F16 { add_f16x2 } else { add_f32 };
        for (before, products) in sum.iter_mut().zip(&products) {
            before.iter_mut().zip(products).for_each(|(x, y)| *x = add(*x, *y));
        }
    }
}

/// One half of each four codes, as FP16.
fn widened(codes: &[u8], element: Element, half: usize) -> Vec<u8> {
    let format = if element == Element::E4m3 { Fp8::E4m3 } else { Fp8::E5m2 };
    let pairs =
        codes.as_chunks::<4>().0.iter().flat_map(|four| [four[2 * half], four[2 * half + 1]]);
    pairs.flat_map(|code| f16::from_f32(format.decode(code)).to_le_bytes()).collect()
}

fn add_f32(x: u32, y: u32) -> u32 {
    let sum = f32::from_bits(x) + f32::from_bits(y);
    if sum.is_nan() { 0x7fff_ffff } else { sum.to_bits() }
}

fn add_f16x2(x: u32, y: u32) -> u32 {
    let number = |bits: u32, shift: u32| f16::from_bits((bits >> shift) as u16).to_f64();
    let add = |shift: u32| {
        let sum = f16::from_f64(number(x, shift) + number(y, shift));
        u32::from(if sum.is_nan() { 0x7fff } else { sum.to_bits() })
    };
    add(0) | add(16) << 16
}
