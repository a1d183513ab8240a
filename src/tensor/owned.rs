//! Owned tensors.

use std::marker::PhantomData;

use super::{Element, Layout, TensorMut, TensorRef, check};
use crate::backend::{Backend, Buffer};
use crate::error::Result;

/// A tensor that owns its memory on backend `B`.
pub struct Tensor<B: Backend, T, const R: usize> {
    buffer: B::Buffer,
    layout: Layout<R>,
    _element: PhantomData<T>,
}

impl<B: Backend, T: Element, const R: usize> Tensor<B, T, R> {
    /// Allocates a row-major tensor of zeros.
    ///
    /// # Errors
    ///
    /// [`crate::Error::OutOfMemory`] when the backend has no room.
    pub fn zeros(backend: &B, shape: [usize; R]) -> Result<Self> {
        Self::zeros_with_layout(backend, Layout::row_major(shape))
    }

    /// Allocates a tensor of zeros with any layout.
    ///
    /// # Errors
    ///
    /// [`crate::Error::OutOfMemory`] when the backend has no room.
    pub fn zeros_with_layout(backend: &B, layout: Layout<R>) -> Result<Self> {
        let buffer = backend.alloc(layout.span().saturating_mul(size_of::<T>()))?;
        Ok(Self { buffer, layout, _element: PhantomData })
    }

    /// Allocates a row-major tensor and copies `data` into it; waits for the copy.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Shape`] unless `data.len()` is the product of `shape`; [`crate::Error::OutOfMemory`].
    ///
    /// # Examples
    ///
    /// ```
    /// use moekit::{Cpu, tensor::Tensor};
    /// let cpu = Cpu::new();
    /// let x = Tensor::from_host(&cpu, &[1.0f32, 2.0], [1, 2])?;
    /// assert_eq!(x.to_host(&cpu)?, [1.0, 2.0]);
    /// # Ok::<(), moekit::Error>(())
    /// ```
    pub fn from_host(backend: &B, data: &[T], shape: [usize; R]) -> Result<Self> {
        let mut tensor = Self::zeros(backend, shape)?;
        tensor.view_mut().copy_from_host(backend, data)?;
        Ok(tensor)
    }

    /// Copies all memory of the tensor, gaps included, to the host; waits for earlier work on it.
    ///
    /// # Errors
    ///
    /// Those of the backend's copy, and faults that earlier stages recorded.
    pub fn to_host(&self, backend: &B) -> Result<Vec<T>> {
        self.view().to_host(backend)
    }

    /// Extents, in elements.
    pub fn shape(&self) -> [usize; R] {
        self.layout.shape()
    }

    /// Shape and strides.
    pub fn layout(&self) -> Layout<R> {
        self.layout
    }

    /// Borrows the tensor.
    pub fn view(&self) -> TensorRef<'_, B, T, R> {
        // SAFETY: the buffer holds `span` zeroed or written elements and lives as long as the borrow.
        unsafe { TensorRef::from_raw(self.buffer.as_ptr().cast(), self.layout) }
    }

    /// Borrows the tensor for writing.
    pub fn view_mut(&mut self) -> TensorMut<'_, B, T, R> {
        // SAFETY: as `view`, and the borrow is exclusive.
        unsafe { TensorMut::from_raw(self.buffer.as_mut_ptr().cast(), self.layout) }
    }
}

impl<B: Backend, T: Element> Tensor<B, T, 2> {
    /// Borrows the first `num_rows` rows.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Capacity`] if the tensor has fewer rows.
    pub fn first_rows(&self, num_rows: usize) -> Result<TensorRef<'_, B, T, 2>> {
        let layout = self.row_prefix(num_rows)?;
        // SAFETY: a prefix of the rows lies within the buffer.
        Ok(unsafe { TensorRef::from_raw(self.buffer.as_ptr().cast(), layout) })
    }

    /// Borrows the first `num_rows` rows for writing.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Capacity`] if the tensor has fewer rows.
    pub fn first_rows_mut(&mut self, num_rows: usize) -> Result<TensorMut<'_, B, T, 2>> {
        let layout = self.row_prefix(num_rows)?;
        // SAFETY: a prefix of the rows lies within the buffer, and the borrow is exclusive.
        Ok(unsafe { TensorMut::from_raw(self.buffer.as_mut_ptr().cast(), layout) })
    }

    fn row_prefix(&self, num_rows: usize) -> Result<Layout<2>> {
        let [capacity, num_cols] = self.shape();
        check::capacity("tensor", "rows", num_rows, capacity, "rows")?;
        Ok(Layout::with_strides([num_rows, num_cols], self.layout.strides()))
    }
}

impl<B: Backend, T: Element, const R: usize> std::fmt::Debug for Tensor<B, T, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tensor<{}>{:?}", T::DTYPE, self.shape())
    }
}
