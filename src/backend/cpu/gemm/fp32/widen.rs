//! Elements as FP32.

use half::bf16;

use crate::backend::cpu::gemm::view::{Bf16Mat, Fp8Mat, KBlock, Operand};
use crate::num::E4M3;

/// An operand whose elements widen to FP32 exactly.
pub(crate) trait Widen: Operand {
    /// The exact value; NaN codes become NaN.
    fn widen(element: Self::Element) -> f32;
}

impl Widen for Fp8Mat<'_> {
    #[inline(always)]
    fn widen(code: u8) -> f32 {
        E4M3(code).to_f32()
    }
}

impl Widen for Bf16Mat<'_> {
    #[inline(always)]
    fn widen(value: bf16) -> f32 {
        f32::from_bits(u32::from(value.to_bits()) << 16)
    }
}

/// Widens one row of a block into `packed`, zeros from `block.len` on.
#[inline(always)]
pub(super) fn widen_row<M: Widen>(m: &M, row: usize, block: KBlock, packed: &mut [f32]) {
    for (packed, &element) in packed.iter_mut().zip(m.block(row, block)) {
        *packed = M::widen(element);
    }
    packed[block.len..].fill(0.0);
}
