//! Operands and results as slices with strides.

use std::marker::PhantomData;

use half::bf16;

/// Values of K that one scale, and one exact partial sum, covers.
pub(crate) const BLOCK_K: usize = 128;

/// One 128-block of K; the last may be shorter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KBlock {
    pub(super) idx: usize,
    pub(super) len: usize,
}

impl KBlock {
    /// The blocks of `k` values, in ascending order.
    pub(super) fn all(k: usize) -> impl Iterator<Item = Self> {
        (0..k.div_ceil(BLOCK_K)).map(move |idx| Self { idx, len: (k - idx * BLOCK_K).min(BLOCK_K) })
    }
}

/// Rows that share a scale.
///
/// NOTE: an enum, because a division by a number that the compiler does not know costs as much as packing a
/// column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowsPerScale {
    /// Activations.
    One,
    /// Weights, scaled per 128 x 128 block.
    Block,
}

impl RowsPerScale {
    /// Index of the scale of `row`.
    #[inline(always)]
    fn scale_row(self, row: usize) -> usize {
        match self {
            Self::One => row,
            Self::Block => row / BLOCK_K,
        }
    }
}

/// FP32 scale factors of an [`Fp8Mat`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct ScaleMat<'a> {
    /// The scale of row `r` and K-block `b` is at `(r / rows_per_scale) * row_stride + b * kblock_stride`.
    pub(crate) data: &'a [f32],
    pub(crate) rows_per_scale: RowsPerScale,
    /// Elements from one row (or block of rows) to the next.
    pub(crate) row_stride: usize,
    /// Elements from one K-block to the next.
    pub(crate) kblock_stride: usize,
}

/// E4M3 codes `[rows, k]`, rows contiguous, with their scales.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fp8Mat<'a> {
    /// E4M3 codes.
    pub(crate) codes: &'a [u8],
    /// Elements from one row to the next.
    pub(crate) row_stride: usize,
    /// Scale factors, one per 128 of K.
    pub(crate) scales: ScaleMat<'a>,
}

/// BF16 values `[rows, k]`, rows contiguous.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bf16Mat<'a> {
    /// The values.
    pub(crate) values: &'a [bf16],
    /// Elements from one row to the next.
    pub(crate) row_stride: usize,
}

/// An operand `[rows, k]`, rows contiguous.
pub(crate) trait Operand: Copy + Send + Sync {
    /// One stored element.
    type Element: bytemuck::Pod + Send + Sync;

    /// The elements of one row in one K-block.
    fn block(&self, row: usize, block: KBlock) -> &[Self::Element];

    /// The scale of one row in one K-block.
    fn scale(&self, row: usize, block_idx: usize) -> f32;

    /// Hints that the `rows` of the block at `block_idx` are wanted soon. May point past the end.
    fn prefetch(&self, row: usize, block_idx: usize);

    /// The same operand from row `first_row` on; it must lie where scales begin.
    fn starting_at_row(&self, first_row: usize) -> Self;

    /// Panics unless the slices hold `rows` rows of `k`.
    fn assert_holds(&self, rows: usize, k: usize);
}

impl Operand for Fp8Mat<'_> {
    type Element = u8;

    #[inline]
    fn block(&self, row: usize, block: KBlock) -> &[u8] {
        &self.codes[row * self.row_stride + block.idx * BLOCK_K..][..block.len]
    }

    #[inline]
    fn scale(&self, row: usize, block_idx: usize) -> f32 {
        let s = &self.scales;
        s.data[s.rows_per_scale.scale_row(row) * s.row_stride + block_idx * s.kblock_stride]
    }

    #[inline]
    fn prefetch(&self, row: usize, block_idx: usize) {
        let first = self.codes.as_ptr().wrapping_add(row * self.row_stride + block_idx * BLOCK_K);
        prefetch_line(first);
        prefetch_line(first.wrapping_add(64));
    }

    fn starting_at_row(&self, first_row: usize) -> Self {
        let scales = self.scales;
        let is_whole =
            scales.rows_per_scale == RowsPerScale::One || first_row.is_multiple_of(BLOCK_K);
        debug_assert!(is_whole, "row {first_row} shares its scale with rows before it");
        let first_scale = scales.rows_per_scale.scale_row(first_row) * scales.row_stride;
        Self {
            codes: &self.codes[(first_row * self.row_stride).min(self.codes.len())..],
            scales: ScaleMat { data: &scales.data[first_scale.min(scales.data.len())..], ..scales },
            ..*self
        }
    }

    fn assert_holds(&self, rows: usize, k: usize) {
        if rows == 0 || k == 0 {
            return;
        }
        let s = &self.scales;
        assert!((rows - 1) * self.row_stride + k <= self.codes.len(), "codes: {rows} rows of {k}");
        let last_scale = s.rows_per_scale.scale_row(rows - 1) * s.row_stride
            + (k.div_ceil(BLOCK_K) - 1) * s.kblock_stride;
        assert!(last_scale < s.data.len(), "scales: {rows} rows of {k}");
    }
}

impl Operand for Bf16Mat<'_> {
    type Element = bf16;

    #[inline]
    fn block(&self, row: usize, block: KBlock) -> &[bf16] {
        &self.values[row * self.row_stride + block.idx * BLOCK_K..][..block.len]
    }

    #[inline]
    fn scale(&self, _row: usize, _block_idx: usize) -> f32 {
        1.0
    }

    #[inline]
    fn prefetch(&self, row: usize, block_idx: usize) {
        let start = row * self.row_stride + block_idx * BLOCK_K;
        let first = self.values.as_ptr().wrapping_add(start).cast::<u8>();
        for line in 0..4 {
            prefetch_line(first.wrapping_add(line * 64));
        }
    }

    fn starting_at_row(&self, first_row: usize) -> Self {
        let start = (first_row * self.row_stride).min(self.values.len());
        Self { values: &self.values[start..], ..*self }
    }

    fn assert_holds(&self, rows: usize, k: usize) {
        if rows > 0 && k > 0 {
            let needed = (rows - 1) * self.row_stride + k;
            assert!(needed <= self.values.len(), "values: {rows} rows of {k}");
        }
    }
}

#[inline(always)]
pub(super) fn prefetch_line(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch never faults, whatever the address.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Where a product goes, and how.
pub(crate) enum OutMat<'a> {
    /// Overwritten; one rounding to BF16, to nearest even.
    Bf16(&'a mut [bf16]),
    /// Overwritten.
    F32(&'a mut [f32]),
    /// Added to: one FP32 addition per element after the whole product is summed.
    AddF32(&'a mut [f32]),
}

/// An [`OutMat`] whose rows the tasks share out among themselves.
#[derive(Clone, Copy)]
pub(crate) struct SharedOut<'a> {
    target: Target,
    len: usize,
    first: usize,
    row_stride: usize,
    _data: PhantomData<&'a mut [f32]>,
}

#[derive(Clone, Copy)]
enum Target {
    Bf16(*mut bf16),
    F32(*mut f32),
    AddF32(*mut f32),
}

// SAFETY: elements are reached only through `store` and `clear`, whose contract is disjointness.
unsafe impl Send for SharedOut<'_> {}
// SAFETY: as above.
unsafe impl Sync for SharedOut<'_> {}

impl<'a> SharedOut<'a> {
    pub(super) fn new(out: OutMat<'a>, row_stride: usize) -> Self {
        let (target, len) = match out {
            OutMat::Bf16(d) => (Target::Bf16(d.as_mut_ptr()), d.len()),
            OutMat::F32(d) => (Target::F32(d.as_mut_ptr()), d.len()),
            OutMat::AddF32(d) => (Target::AddF32(d.as_mut_ptr()), d.len()),
        };
        Self { target, len, first: 0, row_stride, _data: PhantomData }
    }

    /// The same result with row 0 at element `first`.
    pub(super) fn starting_at(&self, first: usize) -> Self {
        Self { first, ..*self }
    }

    /// Panics unless the slice holds `rows` rows of `cols`.
    pub(super) fn assert_holds(&self, rows: usize, cols: usize) {
        if rows > 0 && cols > 0 {
            let needed = self.first + (rows - 1) * self.row_stride + cols;
            assert!(needed <= self.len, "d: {rows} rows of {cols}");
        }
    }

    /// Stores `values` at columns `col..` of the row at `row`.
    ///
    /// # Safety
    ///
    /// No other task touches these elements meanwhile. The range is checked.
    #[inline]
    pub(super) unsafe fn store(&self, row: usize, col: usize, values: &[f32]) {
        let start = self.start(row, col, values.len());
        // SAFETY: in range by `start`; the caller keeps others away.
        unsafe {
            match self.target {
                Target::Bf16(d) => {
                    let d = std::slice::from_raw_parts_mut(d.add(start), values.len());
                    for (d, &value) in d.iter_mut().zip(values) {
                        *d = bf16::from_bits(round_to_bf16(value));
                    }
                }
                Target::F32(d) => {
                    std::slice::from_raw_parts_mut(d.add(start), values.len())
                        .copy_from_slice(values);
                }
                Target::AddF32(d) => {
                    let d = std::slice::from_raw_parts_mut(d.add(start), values.len());
                    for (d, &value) in d.iter_mut().zip(values) {
                        *d += value;
                    }
                }
            }
        }
    }

    /// Writes zeros, also where products are added.
    ///
    /// # Safety
    ///
    /// As [`SharedOut::store`].
    pub(super) unsafe fn clear(&self, row: usize, num_cols: usize) {
        let start = self.start(row, 0, num_cols);
        // SAFETY: in range by `start`; the caller keeps others away; all-zero bits are 0.0.
        unsafe {
            match self.target {
                Target::Bf16(d) => d.add(start).write_bytes(0, num_cols),
                Target::F32(d) | Target::AddF32(d) => d.add(start).write_bytes(0, num_cols),
            }
        }
    }

    #[inline]
    fn start(&self, row: usize, col: usize, len: usize) -> usize {
        let start = self.first + row * self.row_stride + col;
        assert!(start <= self.len && len <= self.len - start, "row {row} of the result");
        start
    }
}

/// Rounds to nearest even without a branch, so that the loop above becomes vector code.
#[inline(always)]
fn round_to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    let rounded = (bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16) as u16;
    let quiet_nan = ((bits >> 16) | 0x40) as u16;
    if value.is_nan() { quiet_nan } else { rounded }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bf16_rounding_agrees_with_half() {
        for high in 0..=u16::MAX {
            for low in [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff] {
                let value = f32::from_bits(u32::from(high) << 16 | low);
                let want = bf16::from_f32(value).to_bits();
                assert_eq!(round_to_bf16(value), want, "{:#010x}", value.to_bits());
            }
        }
    }

    #[test]
    fn blocks_cover_k_and_the_last_is_the_rest() {
        let lens = |k| KBlock::all(k).map(|b| b.len).collect::<Vec<_>>();
        assert_eq!(lens(0), [0usize; 0]);
        assert_eq!(lens(16), [16]);
        assert_eq!(lens(256), [128, 128]);
        assert_eq!(lens(2880)[21..], [128, 64]);
    }
}
