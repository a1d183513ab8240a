//! A warp's register file.

use crate::ops::{Class, LANES};
use crate::program::Reg;

#[derive(Clone, Copy)]
#[repr(C, align(128))]
struct Row([u32; LANES]);

/// Rows of 32 words; see [`crate::ops`] for how values lie in them.
pub(crate) struct Registers(Vec<Row>);

impl Registers {
    pub(crate) fn new(num_rows: usize) -> Self {
        Registers(vec![Row([0; LANES]); num_rows])
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut u32 {
        self.0.as_mut_ptr().cast()
    }

    fn word(&self, reg: Reg) -> *const u32 {
        debug_assert!((reg.0 as usize) < self.0.len() * LANES);
        self.0.as_ptr().cast::<u32>().wrapping_add(reg.0 as usize)
    }

    fn word_mut(&mut self, reg: Reg) -> *mut u32 {
        debug_assert!((reg.0 as usize) < self.0.len() * LANES);
        self.as_mut_ptr().wrapping_add(reg.0 as usize)
    }

    pub(crate) fn r32(&self, reg: Reg) -> &[u32; LANES] {
        // SAFETY: the allocator gave a 32-bit register a row within the file.
        unsafe { &*self.word(reg).cast() }
    }

    pub(crate) fn r64(&self, reg: Reg) -> &[u64; LANES] {
        // SAFETY: the allocator gave a 64-bit register two rows within the file.
        unsafe { &*self.word(reg).cast() }
    }

    pub(crate) fn r128(&self, reg: Reg) -> &[u128; LANES] {
        // SAFETY: the allocator gave a 128-bit register four rows within the file.
        unsafe { &*self.word(reg).cast() }
    }

    pub(crate) fn pred(&self, reg: Reg) -> u32 {
        // SAFETY: the allocator gave a predicate a word within the file.
        unsafe { *self.word(reg) }
    }

    pub(crate) fn r32_mut(&mut self, reg: Reg) -> &mut [u32; LANES] {
        // SAFETY: as in `r32`.
        unsafe { &mut *self.word_mut(reg).cast() }
    }

    pub(crate) fn r64_mut(&mut self, reg: Reg) -> &mut [u64; LANES] {
        // SAFETY: as in `r64`.
        unsafe { &mut *self.word_mut(reg).cast() }
    }

    pub(crate) fn r128_mut(&mut self, reg: Reg) -> &mut [u128; LANES] {
        // SAFETY: as in `r128`.
        unsafe { &mut *self.word_mut(reg).cast() }
    }

    /// Sets a predicate for the lanes of `mask`.
    pub(crate) fn set_pred(&mut self, reg: Reg, bits: u32, mask: u32) {
        // SAFETY: as in `pred`.
        let word = unsafe { &mut *self.word_mut(reg) };
        *word = *word & !mask | bits & mask;
    }

    /// One lane of a register of up to 64 bits, zero-extended.
    pub(crate) fn get(&self, class: Class, reg: Reg, lane: usize) -> u128 {
        match class {
            Class::Pred => u128::from(self.pred(reg) >> lane & 1),
            Class::R32 => u128::from(self.r32(reg)[lane]),
            Class::R64 => u128::from(self.r64(reg)[lane]),
            Class::R128 => self.r128(reg)[lane],
        }
    }

    /// Sets one lane, cutting the value to the register's width.
    pub(crate) fn set(&mut self, class: Class, reg: Reg, lane: usize, value: u128) {
        match class {
            Class::Pred => self.set_pred(reg, if value != 0 { u32::MAX } else { 0 }, 1 << lane),
            Class::R32 => self.r32_mut(reg)[lane] = value as u32,
            Class::R64 => self.r64_mut(reg)[lane] = value as u64,
            Class::R128 => self.r128_mut(reg)[lane] = value,
        }
    }
}
