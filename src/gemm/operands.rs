//! Operands and results that the layouts share, and their checks.

use super::shape::{GemmFormat, GemmOutFormat};
use crate::cost::Cost;
use crate::error::Result;
use crate::num::{bf16, ceil_div};
use crate::tensor::{Layout, QuantRef, TensorMut, TensorRef, check};

/// A and B in one number format; `RA` and `RB` are their ranks, `[.., m, k]` and `[.., n, k]`.
#[derive(Debug)]
pub enum Operands<'a, B, const RA: usize, const RB: usize> {
    /// E4M3; A has scales per row x 128 of K, B per 128 x 128 block.
    Fp8 {
        /// A: E4M3 `[.., m, k]`, FP32 scales `[.., m, ceil_div(k, 128)]` of any strides.
        a: QuantRef<'a, B, RA>,
        /// B: E4M3 `[.., n, k]`, FP32 scales `[.., ceil_div(n, 128), ceil_div(k, 128)]`.
        b: QuantRef<'a, B, RB>,
    },
    /// BF16.
    Bf16 {
        /// A: `[.., m, k]`, rows contiguous.
        a: TensorRef<'a, B, bf16, RA>,
        /// B: `[.., n, k]`, rows contiguous.
        b: TensorRef<'a, B, bf16, RB>,
    },
}

/// D, rows contiguous.
#[derive(Debug)]
pub enum GemmOut<'a, B, const R: usize> {
    /// Overwritten; one rounding to BF16.
    Bf16(TensorMut<'a, B, bf16, R>),
    /// Overwritten.
    F32(TensorMut<'a, B, f32, R>),
    /// Added to: `d += a bᵀ`, one FP32 addition per element after the product.
    F32Accumulate(TensorMut<'a, B, f32, R>),
}

/// Checks FP32 weights of `num_rows` rows of D.
pub(super) fn check_row_weights<B>(
    op: &'static str,
    row_weights: &TensorRef<'_, B, f32, 1>,
    num_rows: usize,
) -> Result<()> {
    check::shape(op, "row_weights", &[num_rows], &row_weights.shape())?;
    check::contiguous(op, "row_weights", row_weights.layout())
}

/// Bytes of weights of `num_rows` rows, if there are any.
pub(super) fn row_weights_cost<B>(
    row_weights: Option<&TensorRef<'_, B, f32, 1>>,
    num_rows: usize,
) -> Cost {
    let num_bytes = row_weights.map_or(0, |_| num_rows * size_of::<f32>());
    Cost { hbm_bytes: num_bytes as u64, ..Cost::default() }
}

impl<B, const R: usize> GemmOut<'_, B, R> {
    pub(crate) fn layout(&self) -> Layout<R> {
        match self {
            Self::Bf16(d) => d.layout(),
            Self::F32(d) | Self::F32Accumulate(d) => d.layout(),
        }
    }

    pub(super) fn format(&self) -> GemmOutFormat {
        match self {
            Self::Bf16(_) => GemmOutFormat::Bf16,
            Self::F32(_) => GemmOutFormat::F32,
            Self::F32Accumulate(_) => GemmOutFormat::F32Accumulate,
        }
    }

    pub(super) fn check(&self, op: &'static str, expected: [usize; R]) -> Result<()> {
        check::shape(op, "d", &expected, &self.layout().shape())?;
        check::contiguous_rows(op, "d", self.layout())
    }
}

impl<B, const RA: usize, const RB: usize> Operands<'_, B, RA, RB> {
    pub(crate) fn a_layout(&self) -> Layout<RA> {
        match self {
            Self::Fp8 { a, .. } => a.values.layout(),
            Self::Bf16 { a, .. } => a.layout(),
        }
    }

    pub(crate) fn b_layout(&self) -> Layout<RB> {
        match self {
            Self::Fp8 { b, .. } => b.values.layout(),
            Self::Bf16 { b, .. } => b.layout(),
        }
    }

    pub(super) fn format(&self) -> GemmFormat {
        match self {
            Self::Fp8 { .. } => GemmFormat::Fp8,
            Self::Bf16 { .. } => GemmFormat::Bf16,
        }
    }

    /// Checks strides, the common K and the scales' shapes; returns `(m, n, k)`.
    pub(super) fn check(&self, op: &'static str) -> Result<(usize, usize, usize)> {
        let (a, b) = (self.a_layout(), self.b_layout());
        let (m, k) = (a.shape()[RA - 2], a.shape()[RA - 1]);
        let n = b.shape()[RB - 2];
        let mut b_shape = b.shape();
        b_shape[RB - 1] = k;
        check::shape(op, "b", &b_shape, &b.shape())?;
        check::multiple(op, "k", 16, k)?;
        check::contiguous_rows(op, "a", a)?;
        check::contiguous_rows(op, "b", b)?;
        if let Self::Fp8 { a, b } = self {
            let mut a_scales = a.values.shape();
            a_scales[RA - 1] = ceil_div(k, 128);
            check::shape(op, "a.scales", &a_scales, &a.scales.shape())?;
            let mut b_scales = b.values.shape();
            b_scales[RB - 2] = ceil_div(n, 128);
            b_scales[RB - 1] = ceil_div(k, 128);
            check::shape(op, "b.scales", &b_scales, &b.scales.shape())?;
        }
        Ok((m, n, k))
    }
}
