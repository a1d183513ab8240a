//! Borrowed tensors: a pointer into a backend's memory, a layout, a lifetime.

use std::marker::PhantomData;

use super::{Element, Layout, check};
use crate::backend::Backend;
use crate::error::Result;

/// A shared view of `T` elements in backend `B`'s memory. A CUDA address is never dereferenced here.
pub struct TensorRef<'a, B, T, const R: usize> {
    ptr: *const T,
    layout: Layout<R>,
    _memory: PhantomData<&'a T>,
    _backend: PhantomData<fn() -> B>,
}

/// An exclusive view of `T` elements in backend `B`'s memory.
pub struct TensorMut<'a, B, T, const R: usize> {
    ptr: *mut T,
    layout: Layout<R>,
    _memory: PhantomData<&'a mut T>,
    _backend: PhantomData<fn() -> B>,
}

// SAFETY: a view is a `&[T]` with a shape; `Element` is Sync, so sharing it between threads is sound.
unsafe impl<B, T: Element, const R: usize> Send for TensorRef<'_, B, T, R> {}
// SAFETY: as above.
unsafe impl<B, T: Element, const R: usize> Sync for TensorRef<'_, B, T, R> {}
// SAFETY: a view is a `&mut [T]` with a shape; `Element` is Send.
unsafe impl<B, T: Element, const R: usize> Send for TensorMut<'_, B, T, R> {}
// SAFETY: a shared `&TensorMut` gives no access to the elements but reads, and `Element` is Sync.
unsafe impl<B, T: Element, const R: usize> Sync for TensorMut<'_, B, T, R> {}

impl<B, T, const R: usize> Clone for TensorRef<'_, B, T, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B, T, const R: usize> Copy for TensorRef<'_, B, T, R> {}

impl<'a, B, T: Element, const R: usize> TensorRef<'a, B, T, R> {
    /// Views foreign memory.
    ///
    /// # Safety
    ///
    /// `ptr` is aligned for `T` and points at `layout.span()` elements in `B`'s memory that are
    /// initialised, live and not written for `'a`.
    pub const unsafe fn from_raw(ptr: *const T, layout: Layout<R>) -> Self {
        Self { ptr, layout, _memory: PhantomData, _backend: PhantomData }
    }

    /// Extents, in elements.
    pub const fn shape(&self) -> [usize; R] {
        self.layout.shape()
    }

    /// Shape and strides.
    pub const fn layout(&self) -> Layout<R> {
        self.layout
    }

    /// Address of the first element.
    pub const fn as_ptr(&self) -> *const T {
        self.ptr
    }
}

impl<B, T: Element, const R: usize> TensorMut<'_, B, T, R> {
    /// Views foreign memory for writing.
    ///
    /// # Safety
    ///
    /// `ptr` is aligned for `T` and points at `layout.span()` elements in `B`'s memory that are
    /// initialised, live and accessed through this view alone for its lifetime.
    pub const unsafe fn from_raw(ptr: *mut T, layout: Layout<R>) -> Self {
        Self { ptr, layout, _memory: PhantomData, _backend: PhantomData }
    }

    /// Extents, in elements.
    pub const fn shape(&self) -> [usize; R] {
        self.layout.shape()
    }

    /// Shape and strides.
    pub const fn layout(&self) -> Layout<R> {
        self.layout
    }

    /// Address of the first element.
    pub const fn as_mut_ptr(&mut self) -> *mut T {
        self.ptr
    }

    /// A shorter exclusive view of the same elements.
    pub const fn reborrow(&mut self) -> TensorMut<'_, B, T, R> {
        TensorMut {
            ptr: self.ptr,
            layout: self.layout,
            _memory: PhantomData,
            _backend: PhantomData,
        }
    }

    /// A shared view of the same elements.
    pub const fn view(&self) -> TensorRef<'_, B, T, R> {
        TensorRef {
            ptr: self.ptr,
            layout: self.layout,
            _memory: PhantomData,
            _backend: PhantomData,
        }
    }
}

impl<B: Backend, T: Element, const R: usize> TensorRef<'_, B, T, R> {
    /// Copies all memory of the view, gaps included, to the host; waits for earlier work on it.
    ///
    /// # Errors
    ///
    /// Those of the backend's copy.
    pub fn to_host(&self, backend: &B) -> Result<Vec<T>> {
        let mut data = vec![T::zeroed(); self.layout.span()];
        // SAFETY: `from_raw` promised `span` initialised elements that nothing writes.
        unsafe { backend.read(self.ptr.cast(), bytemuck::cast_slice_mut(&mut data))? };
        Ok(data)
    }
}

impl<B: Backend, T: Element, const R: usize> TensorMut<'_, B, T, R> {
    /// Copies `data` into the view, gaps included; waits for the copy.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Shape`] unless `data.len()` is the view's [`Layout::span`].
    pub fn copy_from_host(&mut self, backend: &B, data: &[T]) -> Result<()> {
        check::shape("copy_from_host", "data", &[self.layout.span()], &[data.len()])?;
        // SAFETY: `from_raw` promised `span` elements that are ours alone.
        unsafe { backend.write(self.ptr.cast(), bytemuck::cast_slice(data)) }
    }
}

impl<'a, B, T: Element> TensorRef<'a, B, T, 1> {
    /// Views the first `len` elements.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Capacity`] if there are fewer.
    pub fn prefix(self, len: usize) -> Result<Self> {
        check::capacity("tensor", "elements", len, self.shape()[0], "elements")?;
        let layout = Layout::with_strides([len], self.layout.strides());
        Ok(Self { ptr: self.ptr, layout, _memory: PhantomData, _backend: PhantomData })
    }
}

impl<'a, B, T: Element> TensorRef<'a, B, T, 2> {
    /// Views `[num_groups * m, k]` as `[num_groups, m, k]`.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Alignment`] unless the number of rows is a multiple of `num_groups`.
    pub fn split_rows(self, num_groups: usize) -> Result<TensorRef<'a, B, T, 3>> {
        let layout = self.layout.split_rows(num_groups)?;
        Ok(TensorRef { ptr: self.ptr, layout, _memory: PhantomData, _backend: PhantomData })
    }
}

impl<'a, B, T: Element> TensorMut<'a, B, T, 2> {
    /// Views `[num_groups * m, k]` as `[num_groups, m, k]`.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Alignment`] unless the number of rows is a multiple of `num_groups`.
    pub fn split_rows(self, num_groups: usize) -> Result<TensorMut<'a, B, T, 3>> {
        let layout = self.layout.split_rows(num_groups)?;
        Ok(TensorMut { ptr: self.ptr, layout, _memory: PhantomData, _backend: PhantomData })
    }
}

impl<'a, B, T: Element> TensorRef<'a, B, T, 3> {
    /// Matrix `idx` of the stack.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Value`] if there are not that many.
    pub fn matrix(self, idx: usize) -> Result<TensorRef<'a, B, T, 2>> {
        let ([num_groups, m, k], [group_stride, row_stride, col_stride]) =
            (self.layout.shape(), self.layout.strides());
        if idx >= num_groups {
            let expected = format!("less than {num_groups}");
            return Err(crate::Error::value("tensor", "matrix", expected, idx));
        }
        Ok(TensorRef {
            // NOTE: wrapping, because an empty matrix may lie past the end of its memory.
            ptr: self.ptr.wrapping_add(idx * group_stride),
            layout: Layout::with_strides([m, k], [row_stride, col_stride]),
            _memory: PhantomData,
            _backend: PhantomData,
        })
    }
}

impl<B, T: Element, const R: usize> std::fmt::Debug for TensorRef<'_, B, T, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TensorRef<{}>{:?}", T::DTYPE, self.layout.shape())
    }
}

impl<B, T: Element, const R: usize> std::fmt::Debug for TensorMut<'_, B, T, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TensorMut<{}>{:?}", T::DTYPE, self.layout.shape())
    }
}
