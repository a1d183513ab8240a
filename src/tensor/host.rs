//! Views of host memory: what the cpu backend and callers in Rust use.

use super::{Element, Layout, TensorMut, TensorRef};
use crate::backend::Cpu;
use crate::error::{Error, Result};

impl<'a, T: Element, const R: usize> TensorRef<'a, Cpu, T, R> {
    /// Views a slice in row-major order.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] unless `data.len()` is the product of `shape`.
    ///
    /// # Examples
    ///
    /// ```
    /// use moekit::tensor::TensorRef;
    /// let x = TensorRef::from_slice(&[1, 2, 3, 4, 5, 6], [2, 3])?;
    /// assert_eq!(x.row([1]), [4, 5, 6]);
    /// # Ok::<(), moekit::Error>(())
    /// ```
    pub fn from_slice(data: &'a [T], shape: [usize; R]) -> Result<Self> {
        let layout = Layout::row_major(shape);
        check_len(data.len(), &layout)?;
        // SAFETY: the slice holds exactly `span` elements and is borrowed for `'a`.
        Ok(unsafe { Self::from_raw(data.as_ptr(), layout) })
    }

    /// All elements in row-major order, or `None` when there are gaps or another order.
    pub fn as_slice(&self) -> Option<&'a [T]> {
        // SAFETY: a contiguous view covers `num_elements` initialised elements for `'a`.
        self.layout().is_contiguous().then(|| unsafe {
            std::slice::from_raw_parts(self.as_ptr(), self.layout().num_elements())
        })
    }

    /// All elements between the first and the last, gaps included.
    pub fn as_span(&self) -> &'a [T] {
        // SAFETY: `from_raw` promised `span` initialised elements for `'a`.
        unsafe { std::slice::from_raw_parts(self.as_ptr(), self.layout().span()) }
    }
}

impl<T: Element, const R: usize> TensorMut<'_, Cpu, T, R> {
    /// All elements between the first and the last, gaps included.
    pub fn as_mut_span(&mut self) -> &mut [T] {
        let span = self.layout().span();
        // SAFETY: `from_raw` promised `span` initialised elements, exclusively ours.
        unsafe { std::slice::from_raw_parts_mut(self.as_mut_ptr(), span) }
    }
}

impl<'a, T: Element, const R: usize> TensorMut<'a, Cpu, T, R> {
    /// Views a slice in row-major order, for writing.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] unless `data.len()` is the product of `shape`.
    pub fn from_slice(data: &'a mut [T], shape: [usize; R]) -> Result<Self> {
        let layout = Layout::row_major(shape);
        check_len(data.len(), &layout)?;
        // SAFETY: the slice holds exactly `span` elements and is mutably borrowed for `'a`.
        Ok(unsafe { Self::from_raw(data.as_mut_ptr(), layout) })
    }
}

/// Rows of a rank-2 view, for loops over tokens.
impl<'a, T: Element> TensorRef<'a, Cpu, T, 2> {
    /// Row `idx`, contiguous.
    ///
    /// # Panics
    ///
    /// If the row is out of range or rows are not contiguous.
    pub fn row(&self, [idx]: [usize; 1]) -> &'a [T] {
        let [num_rows, num_cols] = self.shape();
        assert!(idx < num_rows && self.layout().has_contiguous_rows(), "row {idx} of {num_rows}");
        let start = self.layout().offset([idx, 0]);
        &self.as_span()[start..][..num_cols]
    }
}

fn check_len<const R: usize>(len: usize, layout: &Layout<R>) -> Result<()> {
    if len == layout.num_elements() {
        return Ok(());
    }
    Err(Error::Shape {
        op: "tensor",
        arg: "data",
        expected: layout.shape().to_vec(),
        got: vec![len],
    })
}
