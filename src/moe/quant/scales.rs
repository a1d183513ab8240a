//! Arguments of the transforms between layouts of scales.

use crate::error::Result;
use crate::moe::stack::{stacked_mut, stacked_ref, with_matrix};
use crate::num::ceil_div;
use crate::tensor::{Layout, TensorMut, TensorRef, check, tma_aligned_rows};

/// Scales in one 32-bit word.
const NUM_PACKED: usize = 4;

/// The layout that TMA loads packed scales from: MN-major `[num_rows, ceil_div(num_blocks, 4)]`
/// words, columns a multiple of 16 bytes apart.
///
/// # Examples
///
/// ```
/// use moekit::moe::quant::packed_scales_layout;
/// let layout = packed_scales_layout([5, 56]);
/// assert_eq!((layout.shape(), layout.strides()), ([5, 14], [1, 8]));
/// ```
pub const fn packed_scales_layout([num_rows, num_blocks]: [usize; 2]) -> Layout<2> {
    let num_words = ceil_div(num_blocks, NUM_PACKED);
    Layout::with_strides([num_rows, num_words], [1, tma_aligned_rows(num_rows)])
}

/// Arguments of [`Backend::relayout_scales`](crate::Backend::relayout_scales): the same scales in
/// another order.
///
/// # Shapes
///
/// `num_groups` is there for stacks alone (`R = 3`).
///
/// | name | dtype | shape | layout |
/// | --- | --- | --- | --- |
/// | `scales` | FP32 | `[num_groups, num_rows, num_blocks]` | any strides |
/// | `out` | FP32 | `[num_groups, num_rows, num_blocks]` | any strides, overwritten; gaps stay |
///
/// # Source
///
/// DeepGEMM `get_mn_major_tma_aligned_tensor`, and its inverse.
///
/// # Examples
///
/// ```
/// use moekit::moe::quant::RelayoutScalesArgs;
/// use moekit::tensor::{ScaleLayout, Tensor};
/// use moekit::{Backend, Cpu};
///
/// let cpu = Cpu::new();
/// let scales = Tensor::from_host(&cpu, &[1.0f32, 2.0, 3.0, 4.0], [2, 2])?;
/// let mut out = Tensor::zeros_with_layout(&cpu, ScaleLayout::MnMajor.layout([2, 2]))?;
/// cpu.relayout_scales(&cpu.stream()?, RelayoutScalesArgs::new(scales.view(), out.view_mut())?)?;
/// assert_eq!(out.to_host(&cpu)?, [1.0, 3.0, 0.0, 0.0, 2.0, 4.0]);
/// # Ok::<(), moekit::Error>(())
/// ```
#[derive(Debug)]
pub struct RelayoutScalesArgs<'a, B> {
    pub(crate) scales: TensorRef<'a, B, f32, 3>,
    pub(crate) out: TensorMut<'a, B, f32, 3>,
}

impl<'a, B> RelayoutScalesArgs<'a, B> {
    /// Checks shapes and strides; `R` is 2 for a matrix, 3 for a stack of them.
    ///
    /// # Errors
    ///
    /// - [`Error::Shape`](crate::Error::Shape) unless both shapes are equal.
    /// - [`Error::Stride`](crate::Error::Stride) if two elements of `out` share an address.
    pub fn new<const R: usize>(
        scales: TensorRef<'a, B, f32, R>,
        out: TensorMut<'a, B, f32, R>,
    ) -> Result<Self> {
        const OP: &str = "relayout_scales";
        check::shape(OP, "out", &scales.shape(), &out.shape())?;
        check::no_overlap(OP, "out", out.layout())?;
        Ok(Self { scales: stacked_ref(scales), out: stacked_mut(out) })
    }
}

/// Arguments of [`Backend::pack_scales`](crate::Backend::pack_scales): four UE8M0 bytes to a word.
///
/// Byte `b` (from the lowest) of `out[i, w]` is the UE8M0 code of `scales[i, 4 w + b]`; bytes past
/// the last scale are 0.
///
/// # Shapes
///
/// `num_groups` is there for stacks alone (`R = 3`).
///
/// | name | dtype | shape | layout |
/// | --- | --- | --- | --- |
/// | `scales` | FP32 | `[num_groups, num_rows, num_blocks]` | any strides; powers of two |
/// | `out` | INT32 | `[num_groups, num_rows, ceil_div(num_blocks, 4)]` | any strides, overwritten; gaps stay |
///
/// TMA wants the layout [`packed_scales_layout`].
///
/// # Errors
///
/// At [`Backend::check`](crate::Backend::check): [`Error::Value`](crate::Error::Value) when a scale
/// is not one of the powers of two that UE8M0 holds; it is rounded up.
///
/// # Source
///
/// DeepGEMM `get_mn_major_tma_aligned_packed_ue8m0_tensor`.
///
/// # Examples
///
/// ```
/// use moekit::moe::quant::{PackScalesArgs, packed_scales_layout};
/// use moekit::tensor::Tensor;
/// use moekit::{Backend, Cpu};
///
/// let cpu = Cpu::new();
/// let stream = cpu.stream()?;
/// let scales = Tensor::from_host(&cpu, &[1.0f32, 2.0, 0.5, 4.0, 1.0], [1, 5])?;
/// let mut out = Tensor::zeros_with_layout(&cpu, packed_scales_layout([1, 5]))?;
/// cpu.pack_scales(&stream, PackScalesArgs::new(scales.view(), out.view_mut())?)?;
/// cpu.check(&stream)?;
/// assert_eq!(out.to_host(&cpu)?, [0x817e_807fu32 as i32, 0, 0, 0, 127]);
/// # Ok::<(), moekit::Error>(())
/// ```
#[derive(Debug)]
pub struct PackScalesArgs<'a, B> {
    pub(crate) scales: TensorRef<'a, B, f32, 3>,
    pub(crate) out: TensorMut<'a, B, i32, 3>,
}

impl<'a, B> PackScalesArgs<'a, B> {
    /// Checks shapes and strides; `R` is 2 for a matrix, 3 for a stack of them.
    ///
    /// # Errors
    ///
    /// - [`Error::Shape`](crate::Error::Shape) unless `out` has the shape above.
    /// - [`Error::Stride`](crate::Error::Stride) if two elements of `out` share an address.
    pub fn new<const R: usize>(
        scales: TensorRef<'a, B, f32, R>,
        out: TensorMut<'a, B, i32, R>,
    ) -> Result<Self> {
        const OP: &str = "pack_scales";
        check::shape(OP, "out", &packed_shape(scales.shape()), &out.shape())?;
        check::no_overlap(OP, "out", out.layout())?;
        Ok(Self { scales: stacked_ref(scales), out: stacked_mut(out) })
    }
}

/// Arguments of [`Backend::unpack_scales`](crate::Backend::unpack_scales): the inverse of
/// [`PackScalesArgs`].
///
/// # Shapes
///
/// `num_groups` is there for stacks alone (`R = 3`).
///
/// | name | dtype | shape | layout |
/// | --- | --- | --- | --- |
/// | `packed` | INT32 | `[num_groups, num_rows, ceil_div(num_blocks, 4)]` | any strides |
/// | `out` | FP32 | `[num_groups, num_rows, num_blocks]` | any strides, overwritten; gaps stay |
#[derive(Debug)]
pub struct UnpackScalesArgs<'a, B> {
    pub(crate) packed: TensorRef<'a, B, i32, 3>,
    pub(crate) out: TensorMut<'a, B, f32, 3>,
}

impl<'a, B> UnpackScalesArgs<'a, B> {
    /// Checks shapes and strides; `R` is 2 for a matrix, 3 for a stack of them.
    ///
    /// # Errors
    ///
    /// - [`Error::Shape`](crate::Error::Shape) unless `packed` has the shape above.
    /// - [`Error::Stride`](crate::Error::Stride) if two elements of `out` share an address.
    pub fn new<const R: usize>(
        packed: TensorRef<'a, B, i32, R>,
        out: TensorMut<'a, B, f32, R>,
    ) -> Result<Self> {
        const OP: &str = "unpack_scales";
        check::shape(OP, "packed", &packed_shape(out.shape()), &packed.shape())?;
        check::no_overlap(OP, "out", out.layout())?;
        Ok(Self { packed: stacked_ref(packed), out: stacked_mut(out) })
    }
}

fn packed_shape<const R: usize>(shape: [usize; R]) -> [usize; R] {
    with_matrix(shape, [shape[R - 2], ceil_div(shape[R - 1], NUM_PACKED)])
}
