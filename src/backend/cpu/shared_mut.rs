//! A slice that several threads write at places they know to be distinct.

use std::marker::PhantomData;

/// A mutable slice shared by tasks that write disjoint elements.
#[derive(Clone, Copy)]
pub(crate) struct SharedMut<'a, T> {
    ptr: *mut T,
    len: usize,
    _slice: PhantomData<&'a mut [T]>,
}

// SAFETY: it hands out elements only through unsafe calls whose contract is disjointness.
unsafe impl<T: Send> Send for SharedMut<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for SharedMut<'_, T> {}

impl<'a, T> SharedMut<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self { ptr: slice.as_mut_ptr(), len: slice.len(), _slice: PhantomData }
    }

    /// Writes element `idx`.
    ///
    /// # Safety
    ///
    /// No other task accesses the element meanwhile. The index is checked.
    pub(crate) unsafe fn write(&self, idx: usize, value: T) {
        assert!(idx < self.len, "element {idx} of {}", self.len);
        // SAFETY: in range; the caller keeps others away.
        unsafe { self.ptr.add(idx).write(value) };
    }

    /// Borrows `len` elements from `start`.
    ///
    /// # Safety
    ///
    /// No other task accesses these elements while the slice lives. The range is checked.
    pub(crate) unsafe fn slice(&self, start: usize, len: usize) -> &'a mut [T] {
        assert!(start <= self.len && len <= self.len - start, "{start} + {len} of {}", self.len);
        // SAFETY: in range; the caller keeps others away.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.add(start), len) }
    }
}
