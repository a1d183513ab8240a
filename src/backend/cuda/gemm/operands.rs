//! Operands and results of products as the kernels take them.

use crate::backend::cuda::abi::{self, ScaleOrder, ScalesIn, StackOut};
use crate::backend::cuda::heuristics::SCALE_BLOCKS;
use crate::backend::cuda::params::VECTOR_BYTES;
use crate::backend::cuda::{Cuda, Swizzle, TensorMap, TensorMapDesc};
use crate::error::{Error, Result};
use crate::gemm::{GemmFormat, GemmOut, GemmOutFormat};
use crate::num::{align, bf16};
use crate::tensor::{Dtype, Element, Layout, QuantRef, TensorMut, TensorRef};

/// Bytes of K in a box, which is as wide as the swizzle reaches.
const BOX_K_BYTES: usize = 128;
/// Columns of a box of D, 128 bytes of BF16.
const BOX_D_COLUMNS: usize = 64;

/// Where TMA has nothing to do.
pub const NO_MAP: abi::TensorMap = abi::TensorMap { words: [0; 16] };

/// Scales as TMA loads them, [`SCALE_BLOCKS`] blocks of K at a time.
#[derive(Debug, Clone, Copy)]
pub struct ScaleMap {
    pub map: abi::TensorMap,
    pub order: ScaleOrder,
}

impl ScaleMap {
    /// By copies.
    pub const NONE: Self = Self { map: NO_MAP, order: ScaleOrder::Any };
}

/// A or B: `[num_groups, rows, k]`, and its scales if it is in E4M3.
#[derive(Debug, Clone, Copy)]
pub struct Operand<'a> {
    arg: &'static str,
    data: *const u8,
    layout: Layout<3>,
    dtype: Dtype,
    scales: Option<TensorRef<'a, Cuda, f32, 3>>,
}

impl<'a> Operand<'a> {
    pub fn fp8(arg: &'static str, operand: QuantRef<'a, Cuda, 3>) -> Self {
        let QuantRef { values, scales } = operand;
        Self { scales: Some(scales), ..Self::values(arg, &values) }
    }

    pub fn bf16(arg: &'static str, operand: TensorRef<'a, Cuda, bf16, 3>) -> Self {
        Self::values(arg, &operand)
    }

    fn values<T: Element>(arg: &'static str, values: &TensorRef<'_, Cuda, T, 3>) -> Self {
        let (data, layout) = (values.as_ptr().cast(), values.layout());
        Self { arg, data, layout, dtype: T::DTYPE, scales: None }
    }

    pub fn format(&self) -> GemmFormat {
        match self.scales {
            Some(_) => GemmFormat::Fp8,
            None => GemmFormat::Bf16,
        }
    }

    pub fn shape(&self) -> [usize; 3] {
        self.layout.shape()
    }

    /// As TMA loads it, `box_rows` rows at a time.
    ///
    /// # Errors
    ///
    /// [`Error::Alignment`] unless every row starts at a multiple of 16 bytes.
    pub fn map(&self, op: &'static str, box_rows: usize) -> Result<abi::TensorMap> {
        let [row_bytes, group_bytes] = strides_bytes(self.layout, self.dtype.size_bytes());
        for got in [self.data as usize, row_bytes, group_bytes] {
            if !got.is_multiple_of(VECTOR_BYTES) {
                let arg = self.arg;
                return Err(Error::Alignment { op, arg, multiple_of: VECTOR_BYTES, got });
            }
        }
        let box_shape = [box_rows, BOX_K_BYTES / self.dtype.size_bytes()];
        let boxes = (box_shape, Swizzle::B128);
        map(self.data, self.layout, self.dtype, [row_bytes, group_bytes], boxes)
    }

    pub fn scales(&self) -> ScalesIn {
        let Some(scales) = self.scales else {
            return ScalesIn {
                data: std::ptr::null(),
                group_stride: 0,
                row_stride: 0,
                block_stride: 0,
            };
        };
        let [group_stride, row_stride, block_stride] =
            scales.layout().strides().map(|stride| stride as u64);
        ScalesIn { data: scales.as_ptr(), group_stride, row_stride, block_stride }
    }
}

impl Operand<'_> {
    /// Scales as TMA loads them, `box_rows` rows at a time; none where it cannot: where neither those of rows nor those
    /// of blocks lie side by side, where rows or blocks do not start at multiples of 16 bytes, or where blocks do not
    /// come in fours.
    pub fn scale_map(&self, box_rows: usize) -> Result<Option<ScaleMap>> {
        let Some(scales) = self.scales else { return Ok(None) };
        let ([num_groups, num_rows, num_blocks], [group, row, block]) =
            (scales.layout().shape(), scales.layout().strides());
        let box_fits = box_rows * size_of::<f32>() >= VECTOR_BYTES;
        let (order, inner, outer, step, box_shape) = if block == 1 {
            (ScaleOrder::Blocks, num_blocks, num_rows, row, [SCALE_BLOCKS, box_rows])
        } else if row == 1 && box_fits {
            (ScaleOrder::Rows, num_rows, num_blocks, block, [box_rows, SCALE_BLOCKS])
        } else {
            return Ok(None);
        };
        let layout = Layout::with_strides([num_groups, outer, inner], [group, step, 1]);
        let strides = strides_bytes(layout, size_of::<f32>());
        let address = scales.as_ptr().cast::<u8>();
        let is_aligned = [address as usize, strides[0], strides[1]]
            .iter()
            .all(|it| it.is_multiple_of(VECTOR_BYTES));
        if !is_aligned || num_blocks % SCALE_BLOCKS != 0 || num_rows == 0 {
            return Ok(None);
        }
        let [box_columns, box_rows] = box_shape;
        let boxes = ([box_rows, box_columns], Swizzle::None);
        Ok(Some(ScaleMap { map: map(address, layout, Dtype::F32, strides, boxes)?, order }))
    }

    /// Scales of weights whose first half of rows is the gate's and whose second the up-projection's, as TMA loads them:
    /// [`SCALE_BLOCKS`] blocks of K of a row of each. None where it cannot, as above.
    pub fn halves_scale_map(&self) -> Result<Option<ScaleMap>> {
        let Some(scales) = self.scales else { return Ok(None) };
        let ([num_groups, num_rows, num_blocks], [_, _, block]) =
            (scales.layout().shape(), scales.layout().strides());
        let [row, group] = strides_bytes(scales.layout(), size_of::<f32>());
        let address = scales.as_ptr().cast::<u8>();
        let is_aligned =
            [address as usize, row, group].iter().all(|it| it.is_multiple_of(VECTOR_BYTES));
        let width = num_rows / 2;
        if block != 1 || !is_aligned || num_blocks % SCALE_BLOCKS != 0 || width == 0 {
            return Ok(None);
        }
        let desc = TensorMapDesc {
            dtype: Dtype::F32,
            address,
            shape: &[num_blocks.max(1), 2, width, num_groups.max(1)],
            strides_bytes: &[width * row, row, group],
            box_shape: &[SCALE_BLOCKS, 2, 1, 1],
            swizzle: Swizzle::None,
        };
        let map = abi::TensorMap { words: TensorMap::tiled(&desc)?.words() };
        Ok(Some(ScaleMap { map, order: ScaleOrder::Blocks }))
    }
}

/// D, where products go.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    data: *mut u8,
    layout: Layout<3>,
    dtype: Dtype,
    kind: abi::GemmOut,
}

impl Output {
    /// `[m, n]`, as a stack of one.
    pub fn matrix(out: &mut GemmOut<'_, Cuda, 2>) -> Self {
        let layout = out.layout();
        let ([m, n], [row, column]) = (layout.shape(), layout.strides());
        let layout = Layout::with_strides([1, m, n], [m * row, row, column]);
        Self { layout, ..Self::parts(out, Layout::row_major([0; 3])) }
    }

    /// `[num_groups, m, n]`.
    pub fn stack(out: &mut GemmOut<'_, Cuda, 3>) -> Self {
        let layout = out.layout();
        Self::parts(out, layout)
    }

    /// Matrix of a stack of FP32 that starts at element `first`, added to.
    pub fn added(d: &mut TensorMut<'_, Cuda, f32, 3>, first: usize) -> Self {
        let ([_, m, n], [_, row, column]) = (d.shape(), d.layout().strides());
        let layout = Layout::with_strides([1, m, n], [m * row, row, column]);
        let data = d.as_mut_ptr().wrapping_add(first).cast();
        Self { data, layout, dtype: Dtype::F32, kind: abi::GemmOut::F32Accumulate }
    }

    fn parts<const R: usize>(out: &mut GemmOut<'_, Cuda, R>, layout: Layout<3>) -> Self {
        let (data, dtype, kind) = match out {
            GemmOut::Bf16(d) => (d.as_mut_ptr().cast(), Dtype::Bf16, abi::GemmOut::Bf16),
            GemmOut::F32(d) => (d.as_mut_ptr().cast(), Dtype::F32, abi::GemmOut::F32),
            GemmOut::F32Accumulate(d) => {
                (d.as_mut_ptr().cast(), Dtype::F32, abi::GemmOut::F32Accumulate)
            }
        };
        Self { data, layout, dtype, kind }
    }

    pub fn kind(&self) -> abi::GemmOut {
        self.kind
    }

    fn strides_bytes(&self) -> [usize; 2] {
        strides_bytes(self.layout, self.dtype.size_bytes())
    }

    fn is_aligned(&self) -> bool {
        let [row, group] = self.strides_bytes();
        [self.data as usize, row, group].iter().all(|it| it.is_multiple_of(VECTOR_BYTES))
    }

    pub fn params(&self) -> StackOut {
        let [group_stride, row_stride, _] = self.layout.strides().map(|stride| stride as u64);
        let is_aligned = u32::from(self.is_aligned());
        StackOut { data: self.data.cast(), group_stride, row_stride, is_aligned, reserved: 0 }
    }

    /// The same, as the choice of tile sees it.
    pub fn format(&self) -> GemmOutFormat {
        match self.kind {
            abi::GemmOut::Bf16 => GemmOutFormat::Bf16,
            abi::GemmOut::F32 => GemmOutFormat::F32,
            abi::GemmOut::F32Accumulate => GemmOutFormat::F32Accumulate,
        }
    }

    /// D as TMA stores it, `box_rows` rows at a time; none where it cannot, or where the kernels store from
    /// registers.
    pub fn map(&self, box_rows: usize) -> Result<Option<abi::TensorMap>> {
        if self.dtype != Dtype::Bf16 || !self.is_aligned() {
            return Ok(None);
        }
        let strides = self.strides_bytes();
        let boxes = ([box_rows, BOX_D_COLUMNS], Swizzle::B128);
        let map = map(self.data, self.layout, self.dtype, strides, boxes)?;
        Ok(Some(map))
    }
}

/// Bytes from one row to the next and from one group to the next; of a stride that is never taken, a
/// multiple of 16.
fn strides_bytes(layout: Layout<3>, element_bytes: usize) -> [usize; 2] {
    let ([num_groups, num_rows, num_columns], [group, row, _]) = (layout.shape(), layout.strides());
    let row_bytes = match num_rows {
        0 | 1 => align(num_columns * element_bytes, VECTOR_BYTES).max(VECTOR_BYTES),
        _ => row * element_bytes,
    };
    let group_bytes = match num_groups {
        0 | 1 => align(num_rows.max(1) * row_bytes, VECTOR_BYTES),
        _ => group * element_bytes,
    };
    [row_bytes, group_bytes]
}

fn map(
    address: *const u8,
    layout: Layout<3>,
    dtype: Dtype,
    strides_bytes: [usize; 2],
    ([box_rows, box_columns], swizzle): ([usize; 2], Swizzle),
) -> Result<abi::TensorMap> {
    // NOTE: an extent of zero cannot be described; nothing of it is ever loaded.
    let [num_groups, num_rows, num_columns] = layout.shape().map(|extent| extent.max(1));
    let desc = TensorMapDesc {
        dtype,
        address,
        shape: &[num_columns, num_rows, num_groups],
        strides_bytes: &strides_bytes,
        box_shape: &[box_columns, box_rows, 1],
        swizzle,
    };
    Ok(abi::TensorMap { words: TensorMap::tiled(&desc)?.words() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stride_that_is_never_taken_is_a_multiple_of_16_bytes() {
        let layout = Layout::with_strides([1, 1, 5], [17, 17, 1]);
        assert_eq!(strides_bytes(layout, 2), [16, 16]);
        let layout = Layout::with_strides([1, 3, 20], [60, 20, 1]);
        assert_eq!(strides_bytes(layout, 4), [80, 240]);
        let layout = Layout::with_strides([2, 3, 20], [90, 24, 1]);
        assert_eq!(strides_bytes(layout, 2), [48, 180]);
    }
}
