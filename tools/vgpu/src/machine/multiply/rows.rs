//! The registers of a warp's part of a sum.

use std::marker::PhantomData;

use super::Lanes;
use crate::machine::registers::Registers;
use crate::ops::LANES;
use crate::program::Reg;

/// Most registers that a thread has for a sum.
const MOST: usize = 128;

/// Registers that lie one behind the other.
static TOGETHER: [Reg; MOST] = {
    let mut places = [Reg(0); MOST];
    let mut i = 0;
    while i < MOST {
        places[i] = Reg((i * LANES) as u32);
        i += 1;
    }
    places
};

/// Rows of 32 words, wherever they are.
pub(crate) struct Rows<'a> {
    base: *mut u32,
    /// Where each begins, in words from `base` on.
    places: &'a [Reg],
    words: PhantomData<&'a mut [Lanes]>,
}

impl<'a> Rows<'a> {
    /// 32-bit registers of a warp.
    pub(crate) fn of(registers: &'a mut Registers, places: &'a [Reg]) -> Self {
        Rows { base: registers.as_mut_ptr(), places, words: PhantomData }
    }

    /// At most [`MOST`], one behind the other.
    pub(crate) fn together(words: &'a mut [Lanes]) -> Self {
        let places = &TOGETHER[..words.len()];
        Rows { base: words.as_mut_ptr().cast(), places, words: PhantomData }
    }

    /// The same of numbers.
    pub(super) fn of_numbers(numbers: &'a mut [[f32; LANES]]) -> Self {
        let places = &TOGETHER[..numbers.len()];
        Rows { base: numbers.as_mut_ptr().cast(), places, words: PhantomData }
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Some of them.
    pub(super) fn part(&mut self, first: usize, count: usize) -> Rows<'_> {
        let places = &self.places[first..][..count];
        Rows { base: self.base, places, words: PhantomData }
    }

    pub(super) fn bits(&mut self, i: usize) -> &mut Lanes {
        // SAFETY: there are whole rows at all places, which nobody else uses for the time of the borrow.
        unsafe { &mut *self.base.add(self.places[i].0 as usize).cast() }
    }

    /// The same as numbers.
    pub(super) fn numbers(&mut self, i: usize) -> &mut [f32; LANES] {
        let bits = std::ptr::from_mut(self.bits(i));
        // SAFETY: every bit pattern is a float, of the same size and alignment.
        unsafe { &mut *bits.cast() }
    }
}
