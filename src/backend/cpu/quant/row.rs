//! Rows that are quantised per 128 elements.

use super::block::{Amax, scale_and_inverse, zero_scale};
use crate::backend::cpu::shared_mut::SharedMut;
use crate::backend::{Cpu, SimdLevel};
use crate::moe::Activation;
use crate::moe::quant::{GRAN_K, ScaleFormat};
use crate::num::E4M3;
use crate::tensor::{Layout, QuantMut};

/// A per-token quantised output whose rows threads write.
pub(in crate::backend::cpu) struct QuantOut<'a> {
    simd: SimdLevel,
    format: ScaleFormat,
    values_layout: Layout<3>,
    scales_layout: Layout<3>,
    values: SharedMut<'a, E4M3>,
    scales: SharedMut<'a, f32>,
}

/// One row of it.
pub(in crate::backend::cpu) struct QuantRow<'a> {
    simd: SimdLevel,
    format: ScaleFormat,
    codes: &'a mut [E4M3],
    scales: SharedMut<'a, f32>,
    first_scale: usize,
    scale_stride: usize,
}

impl<'a> QuantOut<'a> {
    pub fn new(cpu: &Cpu, out: &'a mut QuantMut<'_, Cpu, 3>, format: ScaleFormat) -> Self {
        Self {
            simd: cpu.simd(),
            format,
            values_layout: out.values.layout(),
            scales_layout: out.scales.layout(),
            values: SharedMut::new(out.values.as_mut_span()),
            scales: SharedMut::new(out.scales.as_mut_span()),
        }
    }

    /// Row `row` of group `group`.
    ///
    /// # Safety
    ///
    /// No other task has this row meanwhile.
    #[inline(always)]
    pub unsafe fn row(&self, [group, row]: [usize; 2]) -> QuantRow<'a> {
        let [_, _, k] = self.values_layout.shape();
        let first_code = self.values_layout.offset([group, row, 0]);
        let [_, _, scale_stride] = self.scales_layout.strides();
        QuantRow {
            simd: self.simd,
            format: self.format,
            // SAFETY: the constructor checked that rows do not overlap; the caller has this one
            // alone.
            codes: unsafe { self.values.slice(first_code, k) },
            scales: self.scales,
            first_scale: self.scales_layout.offset([group, row, 0]),
            scale_stride,
        }
    }
}

impl QuantRow<'_> {
    /// Quantises a whole row.
    #[inline(always)]
    pub fn quantize<T: Activation>(&mut self, x: &[T]) {
        let (full, rest) = x.as_chunks::<GRAN_K>();
        for (block, x) in full.iter().enumerate() {
            prefetch(x);
            self.quantize_block(block, x);
        }
        if !rest.is_empty() {
            self.quantize_block(full.len(), rest);
        }
    }

    /// Quantises 128 elements, or what the last block has.
    #[inline(always)]
    pub fn quantize_block<T: Activation>(&mut self, block: usize, x: &[T]) {
        let codes = &mut self.codes[block * GRAN_K..][..x.len()];
        let amax = Amax::ZERO.and(self.simd, x);
        let (sf, inverse) = scale_and_inverse(amax.bits, self.format);
        amax.encode(self.simd, x, inverse, codes);
        self.write_scale(block, sf);
    }

    /// Writes what a row of zeros gives.
    pub fn write_zeros(&mut self) {
        self.codes.fill(E4M3(0));
        let sf = zero_scale(self.format);
        (0..self.codes.len().div_ceil(GRAN_K)).for_each(|block| self.write_scale(block, sf));
    }

    #[inline(always)]
    fn write_scale(&self, block: usize, sf: f32) {
        // SAFETY: the scales' layout has no overlaps, and this row is one task's alone.
        unsafe { self.scales.write(self.first_scale + block * self.scale_stride, sf) };
    }
}

/// Asks for what comes 4 KB after `x`: the processor itself does not look beyond a page.
#[inline(always)]
fn prefetch<T>(x: &[T; GRAN_K]) {
    #[cfg(target_arch = "x86_64")]
    for line in 0..size_of_val(x) / 64 {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let ahead = x.as_ptr().wrapping_byte_add(4096 + 64 * line).cast();
        // SAFETY: every x86-64 processor has SSE, and a prefetch faults at no address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(ahead) };
    }
}
