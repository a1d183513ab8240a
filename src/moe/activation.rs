//! The element types that activations have.

use crate::num::{bf16, round_bf16};
use crate::tensor::Element;

/// BF16 or FP32: what a stage reads activations as and writes them as; arithmetic is in FP32.
pub trait Activation: Element + private::Sealed {
    /// Widens to FP32, exactly.
    fn to_f32(self) -> f32;

    /// Rounds from FP32, to nearest even; a NaN becomes the one NaN of the type.
    fn from_f32(x: f32) -> Self;
}

impl Activation for bf16 {
    #[inline(always)]
    fn to_f32(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    #[inline(always)]
    fn from_f32(x: f32) -> Self {
        round_bf16(x)
    }
}

impl Activation for f32 {
    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }

    #[inline(always)]
    fn from_f32(x: f32) -> Self {
        // NOTE: PTX's canonical NaN, so that a NaN too has the same bits on every backend.
        if x.is_nan() { f32::from_bits(0x7fff_ffff) } else { x }
    }
}

mod private {
    pub trait Sealed {}
    impl Sealed for crate::num::bf16 {}
    impl Sealed for f32 {}
}
