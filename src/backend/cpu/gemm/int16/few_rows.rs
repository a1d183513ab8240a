//! A few rows times 16 columns straight from memory, as decoding has them.
//!
//! Packing transposes columns so that each takes one lane; that pays only if many rows share it. Here a column
//! stays along its vector, and only the INT32 sums change places at the end of the block. The sums are exact, so
//! the bits are those of the packed way.

#![expect(clippy::needless_range_loop, reason = "constant trip counts keep vectors in registers")]

use std::arch::x86_64::*;

use super::PANEL;
use super::pack::{
    LANES, Multiplier, NO_COLUMN, NanCodes, add_squares, exponents, halves, load_masks,
};
use crate::backend::cpu::gemm::BLOCK_K;
use crate::backend::cpu::gemm::arith::Step;
use crate::backend::cpu::gemm::view::{Fp8Mat, Operand};

/// More rows are faster by way of a packed panel.
pub(super) const MAX_ROWS: usize = 4;
/// Columns at once: few streams through memory are faster than many.
pub(super) const NUM_COLS: usize = LANES;
/// Vectors of a packed row.
const VECTORS: usize = BLOCK_K / 32;

/// Adds one K-block's products, like `multiply` after `pack_panel`.
///
/// # Safety
///
/// The processor has AVX-512 F, BW, VBMI, VNNI and FP16.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni,avx512fp16")]
pub(super) unsafe fn multiply_fp16(step: Step<'_, Fp8Mat<'_>, i16>) {
    // SAFETY: the attribute above.
    unsafe { by_num_rows::<true>(step) }
}

/// As [`multiply_fp16`], without FP16.
///
/// # Safety
///
/// The processor has AVX-512 F, BW, VBMI and VNNI.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
pub(super) unsafe fn multiply(step: Step<'_, Fp8Mat<'_>, i16>) {
    // SAFETY: the attribute above.
    unsafe { by_num_rows::<false>(step) }
}

#[inline(always)]
unsafe fn by_num_rows<const FP16: bool>(step: Step<'_, Fp8Mat<'_>, i16>) {
    // SAFETY: the callers' attributes.
    unsafe {
        match step.a_factors.len() {
            1 => rows::<FP16, 1>(step),
            2 => rows::<FP16, 2>(step),
            3 => rows::<FP16, 3>(step),
            num_rows => {
                assert_eq!(num_rows, MAX_ROWS, "few rows");
                rows::<FP16, MAX_ROWS>(step);
            }
        }
    }
}

#[inline(always)]
unsafe fn rows<const FP16: bool, const ROWS: usize>(step: Step<'_, Fp8Mat<'_>, i16>) {
    let Step { b, cols, block, ahead, a, a_factors, acc, .. } = step;
    assert!(cols.len() <= NUM_COLS, "columns");
    assert_eq!(a.len(), ROWS * BLOCK_K, "packed rows");
    assert_eq!(acc.len(), ROWS * PANEL, "accumulators");
    let mut columns = [NO_COLUMN.as_ptr(); LANES];
    let mut scales = [0.0f32; LANES];
    for (lane, col) in cols.enumerate() {
        ahead.prefetch(b, lane);
        columns[lane] = b.block(col, block).as_ptr();
        scales[lane] = b.scale(col, block.idx);
    }
    let columns = Columns { pointers: columns, masks: load_masks(block.len) };
    // SAFETY: the callers' attributes; each column has `block.len` readable codes; `a`, `a_factors` and `acc`
    // were checked above.
    unsafe {
        let exponents = exponents(columns.sums_of_squares());
        let mut nan_codes = NanCodes(_mm512_setzero_si512());
        let sums = if _mm512_cmpgt_epi32_mask(exponents, _mm512_set1_epi32(7)) == 0 {
            products::<FP16, false, ROWS>(&columns, exponents, a, &mut nan_codes)
        } else {
            products::<FP16, true, ROWS>(&columns, exponents, a, &mut nan_codes)
        };
        let factors = _mm512_slli_epi32::<23>(_mm512_sub_epi32(_mm512_set1_epi32(127), exponents));
        let factors = _mm512_mul_ps(_mm512_castsi512_ps(factors), _mm512_loadu_ps(scales.as_ptr()));
        let factors = match nan_codes.found() {
            0 => factors,
            _ => {
                let nan = _mm512_set1_ps(f32::NAN);
                _mm512_mask_blend_ps(columns.with_nan_codes(), factors, nan)
            }
        };
        for row in 0..ROWS {
            let factor = _mm512_mul_ps(_mm512_set1_ps(a_factors[row]), factors);
            let acc = acc.as_mut_ptr().add(row * PANEL);
            let sums = _mm512_cvtepi32_ps(sums[row]);
            _mm512_storeu_ps(acc, _mm512_fmadd_ps(sums, factor, _mm512_loadu_ps(acc)));
        }
    }
}

/// One K-block of 16 columns.
struct Columns {
    pointers: [*const u8; LANES],
    /// Which of the first and the second 64 codes there are.
    masks: [u64; 2],
}

// NOTE: loops, not closures: a closure has not the instructions that its surroundings have.
impl Columns {
    /// # Safety
    ///
    /// The processor has AVX-512 F and BW; the column has as many readable codes as the masks say.
    #[inline(always)]
    unsafe fn load(&self, lane: usize, half: usize) -> __m512i {
        // SAFETY: the contract above; a masked-out load does not fault.
        unsafe {
            let codes = self.pointers[lane].wrapping_add(64 * half);
            _mm512_maskz_loadu_epi8(self.masks[half], codes.cast())
        }
    }

    #[inline(always)]
    unsafe fn sums_of_squares(&self) -> __m512i {
        // SAFETY: the callers' attributes and pointers.
        unsafe {
            let mut sums = [_mm512_setzero_si512(); LANES];
            for lane in 0..LANES {
                let first = add_squares(_mm512_setzero_si512(), self.load(lane, 0));
                sums[lane] = add_squares(first, self.load(lane, 1));
            }
            sums_of(&sums)
        }
    }

    /// A bit for each column with a NaN code.
    #[inline(always)]
    unsafe fn with_nan_codes(&self) -> u16 {
        // SAFETY: the callers' attributes and pointers.
        unsafe {
            let none = NanCodes(_mm512_setzero_si512());
            let mut lanes = 0;
            for lane in 0..LANES {
                let codes = none.fold(self.load(lane, 0)).fold(self.load(lane, 1));
                lanes |= u16::from(codes.found() != 0) << lane;
            }
            lanes
        }
    }
}

/// Sums of products of each row, one column to a lane. Folds all codes into `nan_codes`.
#[inline(always)]
unsafe fn products<const FP16: bool, const TWICE: bool, const ROWS: usize>(
    columns: &Columns,
    exponents: __m512i,
    a: &[i16],
    nan_codes: &mut NanCodes,
) -> [__m512i; ROWS] {
    // SAFETY: the callers' attributes and pointers; `a` has `ROWS` rows of `VECTORS` vectors.
    unsafe {
        let multipliers = Multiplier::new(exponents).lanes();
        let mut sums = [[_mm512_setzero_si512(); LANES]; ROWS];
        for lane in 0..LANES {
            let multiplier = multipliers.lane(lane);
            let (codes0, codes1) = (columns.load(lane, 0), columns.load(lane, 1));
            *nan_codes = nan_codes.fold(codes0).fold(codes1);
            let ((even0, odd0), (even1, odd1)) = (halves(codes0), halves(codes1));
            let fixed: [__m512i; VECTORS] = [
                multiplier.convert::<FP16, TWICE>(even0),
                multiplier.convert::<FP16, TWICE>(odd0),
                multiplier.convert::<FP16, TWICE>(even1),
                multiplier.convert::<FP16, TWICE>(odd1),
            ];
            for row in 0..ROWS {
                let a = a.as_ptr().add(row * BLOCK_K).cast::<__m512i>();
                let mut sum = _mm512_setzero_si512();
                for v in 0..VECTORS {
                    sum = dpwssd(sum, fixed[v], _mm512_loadu_si512(a.add(v)));
                }
                sums[row][lane] = sum;
            }
        }
        let mut by_lane = [_mm512_setzero_si512(); ROWS];
        for row in 0..ROWS {
            by_lane[row] = sums_of(&sums[row]);
        }
        by_lane
    }
}

/// `sum + a * b`, by pairs.
///
/// # Safety
///
/// The processor has AVX-512 F and VNNI.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn dpwssd(mut sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
    // NOTE: of a short chain of the intrinsic the compiler makes twice as many instructions, to shorten the
    // chain; here their number counts.
    // SAFETY: the contract above; the instruction has no other effect.
    unsafe {
        std::arch::asm!(
            "vpdpwssd {sum}, {a}, {b}",
            sum = inout(zmm_reg) sum, a = in(zmm_reg) a, b = in(zmm_reg) b,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}

/// Lane `i`: the sum of the lanes of vector `i`, modulo 2^32.
#[inline(always)]
unsafe fn sums_of(vectors: &[__m512i; LANES]) -> __m512i {
    // SAFETY: the callers' attributes.
    unsafe {
        let mut pairs = [_mm512_setzero_si512(); 8];
        for i in 0..8 {
            let (a, b) = (vectors[2 * i], vectors[2 * i + 1]);
            pairs[i] = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
        }
        let mut quads = [_mm512_setzero_si512(); 4];
        for i in 0..4 {
            let (a, b) = (pairs[2 * i], pairs[2 * i + 1]);
            quads[i] = _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
        }
        // Each 128 bits now hold a quarter of the sums of four vectors.
        add_quarters(add_quarters(quads[0], quads[1]), add_quarters(quads[2], quads[3]))
    }
}

/// The 128-bit quarters of `a` and `b`, added two by two.
#[inline(always)]
unsafe fn add_quarters(a: __m512i, b: __m512i) -> __m512i {
    // SAFETY: the callers' attributes.
    unsafe {
        let (even, odd) = (_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0xdd>(a, b));
        _mm512_add_epi32(even, odd)
    }
}
