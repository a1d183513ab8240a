//! Quantised tensors: E4M3 values and their FP32 scale factors.

use super::{Layout, Tensor, TensorMut, TensorRef};
use crate::backend::Backend;
use crate::error::Result;
use crate::num::{E4M3, align, ceil_div};

/// Order in memory of a scale matrix `[rows, ceil_div(k, 128)]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ScaleLayout {
    /// A row's scales lie together.
    #[default]
    RowMajor,
    /// A column's scales lie together, columns [`tma_aligned_rows`] apart: what TMA loads for SM90.
    MnMajor,
}

impl ScaleLayout {
    /// The layout of a `[num_rows, num_blocks]` scale matrix.
    ///
    /// # Examples
    ///
    /// ```
    /// use moekit::tensor::ScaleLayout;
    /// assert_eq!(ScaleLayout::MnMajor.layout([5, 3]).strides(), [1, 8]);
    /// ```
    pub const fn layout(self, [num_rows, num_blocks]: [usize; 2]) -> Layout<2> {
        match self {
            Self::RowMajor => Layout::row_major([num_rows, num_blocks]),
            Self::MnMajor => {
                Layout::with_strides([num_rows, num_blocks], [1, tma_aligned_rows(num_rows)])
            }
        }
    }
}

/// Rows of an FP32 MN-major scale matrix after padding: the stride must be a multiple of 16 bytes.
///
/// # Source
///
/// DeepGEMM `get_tma_aligned_size`.
pub const fn tma_aligned_rows(num_rows: usize) -> usize {
    align(num_rows, 16 / size_of::<f32>())
}

/// E4M3 values with their scales: `value[i, j] * scale[i', j']` is the number meant.
#[derive(Debug)]
pub struct QuantRef<'a, B, const R: usize> {
    /// E4M3 `[.., rows, k]`, rows contiguous.
    pub values: TensorRef<'a, B, E4M3, R>,
    /// FP32 `[.., rows or ceil_div(rows, 128), ceil_div(k, 128)]`, any strides.
    pub scales: TensorRef<'a, B, f32, R>,
}

impl<B, const R: usize> Clone for QuantRef<'_, B, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B, const R: usize> Copy for QuantRef<'_, B, R> {}

impl<'a, B> QuantRef<'a, B, 2> {
    /// Views `[num_groups * m, k]`, quantised per row, as `[num_groups, m, k]`.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Alignment`] unless the number of rows is a multiple of `num_groups`.
    pub fn split_rows(self, num_groups: usize) -> Result<QuantRef<'a, B, 3>> {
        Ok(QuantRef {
            values: self.values.split_rows(num_groups)?,
            scales: self.scales.split_rows(num_groups)?,
        })
    }
}

impl<'a, B> QuantRef<'a, B, 3> {
    /// Matrix `idx` of the stack.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Value`] if there are not that many.
    pub fn matrix(self, idx: usize) -> Result<QuantRef<'a, B, 2>> {
        Ok(QuantRef { values: self.values.matrix(idx)?, scales: self.scales.matrix(idx)? })
    }
}

/// As [`QuantRef`], for writing.
#[derive(Debug)]
pub struct QuantMut<'a, B, const R: usize> {
    /// E4M3 `[.., rows, k]`, rows contiguous.
    pub values: TensorMut<'a, B, E4M3, R>,
    /// FP32 `[.., rows or ceil_div(rows, 128), ceil_div(k, 128)]`, any strides.
    pub scales: TensorMut<'a, B, f32, R>,
}

impl<'a, B> QuantMut<'a, B, 2> {
    /// Views `[num_groups * m, k]`, quantised per row, as `[num_groups, m, k]`.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Alignment`] unless the number of rows is a multiple of `num_groups`.
    pub fn split_rows(self, num_groups: usize) -> Result<QuantMut<'a, B, 3>> {
        Ok(QuantMut {
            values: self.values.split_rows(num_groups)?,
            scales: self.scales.split_rows(num_groups)?,
        })
    }
}

/// Owned E4M3 values with their scales.
#[derive(Debug)]
pub struct QuantTensor<B: Backend, const R: usize> {
    /// E4M3 `[.., rows, k]`.
    pub values: Tensor<B, E4M3, R>,
    /// FP32 `[.., rows or ceil_div(rows, 128), ceil_div(k, 128)]`.
    pub scales: Tensor<B, f32, R>,
}

impl<B: Backend, const R: usize> QuantTensor<B, R> {
    /// Borrows both parts.
    pub fn view(&self) -> QuantRef<'_, B, R> {
        QuantRef { values: self.values.view(), scales: self.scales.view() }
    }

    /// Borrows both parts for writing.
    pub fn view_mut(&mut self) -> QuantMut<'_, B, R> {
        QuantMut { values: self.values.view_mut(), scales: self.scales.view_mut() }
    }
}

impl<B: Backend> QuantTensor<B, 2> {
    /// Allocates zeros for a matrix quantised per row x 128 of K.
    ///
    /// # Errors
    ///
    /// [`crate::Error::OutOfMemory`] when the backend has no room.
    pub fn zeros_per_row(backend: &B, [m, k]: [usize; 2], scales: ScaleLayout) -> Result<Self> {
        Ok(Self {
            values: Tensor::zeros(backend, [m, k])?,
            scales: Tensor::zeros_with_layout(backend, scales.layout([m, ceil_div(k, 128)]))?,
        })
    }

    /// Allocates zeros for a matrix quantised per 128 x 128 block.
    ///
    /// # Errors
    ///
    /// [`crate::Error::OutOfMemory`] when the backend has no room.
    pub fn zeros_per_block(backend: &B, [n, k]: [usize; 2]) -> Result<Self> {
        Ok(Self {
            values: Tensor::zeros(backend, [n, k])?,
            scales: Tensor::zeros(backend, [ceil_div(n, 128), ceil_div(k, 128)])?,
        })
    }

    /// Borrows the first `num_rows` rows of a matrix quantised per row.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Capacity`] if there are fewer.
    pub fn first_rows(&self, num_rows: usize) -> Result<QuantRef<'_, B, 2>> {
        Ok(QuantRef {
            values: self.values.first_rows(num_rows)?,
            scales: self.scales.first_rows(num_rows)?,
        })
    }

    /// Borrows the first `num_rows` rows of a matrix quantised per row, for writing.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Capacity`] if there are fewer.
    pub fn first_rows_mut(&mut self, num_rows: usize) -> Result<QuantMut<'_, B, 2>> {
        Ok(QuantMut {
            values: self.values.first_rows_mut(num_rows)?,
            scales: self.scales.first_rows_mut(num_rows)?,
        })
    }
}
