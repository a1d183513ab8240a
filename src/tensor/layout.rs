//! Shape and strides of a tensor of fixed rank.

use super::check;
use crate::error::Result;

/// Shape and strides, both in elements; `R` is the number of dimensions.
///
/// # Examples
///
/// ```
/// use moekit::tensor::Layout;
/// let row_major = Layout::row_major([4, 6]);
/// assert_eq!(row_major.strides(), [6, 1]);
/// assert_eq!(row_major.offset([2, 3]), 15);
/// // MN-major scales: a column of the matrix is contiguous.
/// let mn_major = Layout::with_strides([5, 3], [1, 8]);
/// assert_eq!(mn_major.span(), 8 * 2 + 4 + 1);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout<const R: usize> {
    shape: [usize; R],
    strides: [usize; R],
}

impl<const R: usize> Layout<R> {
    /// Last dimension contiguous, no gaps. Products beyond `usize::MAX` become that, here and below: no
    /// memory holds such a tensor.
    pub const fn row_major(shape: [usize; R]) -> Self {
        let mut strides = [1usize; R];
        let mut dim = R;
        while dim > 1 {
            dim -= 1;
            strides[dim - 1] = strides[dim].saturating_mul(shape[dim]);
        }
        Self { shape, strides }
    }

    /// Any strides, in elements.
    pub const fn with_strides(shape: [usize; R], strides: [usize; R]) -> Self {
        Self { shape, strides }
    }

    /// Extents, in elements.
    pub const fn shape(&self) -> [usize; R] {
        self.shape
    }

    /// Strides, in elements.
    pub const fn strides(&self) -> [usize; R] {
        self.strides
    }

    /// Number of elements.
    pub fn num_elements(&self) -> usize {
        if self.shape.contains(&0) {
            return 0;
        }
        self.shape.iter().fold(1, |product: usize, &extent| product.saturating_mul(extent))
    }

    /// Elements of memory from the first to one past the last; 0 when empty.
    pub fn span(&self) -> usize {
        if self.num_elements() == 0 {
            return 0;
        }
        let steps = self.shape.iter().zip(self.strides).map(|(n, s)| (n - 1).saturating_mul(s));
        steps.fold(1, usize::saturating_add)
    }

    /// Position of an index in memory, in elements.
    pub fn offset(&self, idx: [usize; R]) -> usize {
        idx.iter().zip(self.strides).map(|(i, s)| i * s).sum()
    }

    /// Whether elements lie in row-major order without gaps.
    pub fn is_contiguous(&self) -> bool {
        self.num_elements() == 0
            || self
                .shape
                .iter()
                .zip(self.strides)
                .zip(Self::row_major(self.shape).strides)
                .all(|((&extent, stride), want)| extent == 1 || stride == want)
    }

    /// Whether every row (last dimension) is contiguous and rows do not overlap.
    pub fn has_contiguous_rows(&self) -> bool {
        let last = R - 1;
        (self.shape[last] <= 1 || self.strides[last] == 1)
            && (0..last).all(|dim| {
                self.shape[dim] <= 1
                    || self.strides[dim]
                        >= self.shape[dim + 1].saturating_mul(self.strides[dim + 1])
            })
    }
}

impl Layout<2> {
    /// `[num_groups * m, k]` as `[num_groups, m, k]`.
    pub(crate) fn split_rows(&self, num_groups: usize) -> Result<Layout<3>> {
        let ([num_rows, k], [row_stride, col_stride]) = (self.shape, self.strides);
        check::multiple("tensor", "rows", num_groups.max(1), num_rows)?;
        let m = num_rows / num_groups.max(1);
        Ok(Layout::with_strides([num_groups, m, k], [m * row_stride, row_stride, col_stride]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::{Tensor, TensorRef};
    use crate::{Cpu, Error};

    #[test]
    fn empty_layouts_span_nothing() {
        assert_eq!(Layout::row_major([0, 7]).span(), 0);
        assert!(Layout::row_major([3, 0, 2]).is_contiguous());
    }

    #[test]
    fn extents_beyond_the_address_space_match_no_memory() {
        for shape in [[1 << 63, 2], [usize::MAX, usize::MAX], [3, usize::MAX]] {
            let layout = Layout::row_major(shape);
            assert_eq!((layout.num_elements(), layout.span()), (usize::MAX, usize::MAX));
            TensorRef::<Cpu, u8, 2>::from_slice(&[], shape).expect_err("no slice is that long");
            let error = Tensor::<Cpu, f32, 2>::zeros(&Cpu::new(), shape).expect_err("no room");
            assert!(matches!(error, Error::OutOfMemory { .. }), "{error}");
        }
        assert_eq!(Layout::row_major([usize::MAX, usize::MAX, 0]).span(), 0);
        let wrapping = Layout::with_strides([3, 2], [1 << 63, 1]);
        Tensor::<Cpu, u8, 2>::zeros_with_layout(&Cpu::new(), wrapping).expect_err("no room");
    }

    #[test]
    fn padded_rows_are_contiguous_rows_but_not_contiguous() {
        let padded = Layout::with_strides([3, 5], [8, 1]);
        assert!(padded.has_contiguous_rows());
        assert!(!padded.is_contiguous());
        assert!(!Layout::with_strides([3, 5], [4, 1]).has_contiguous_rows());
    }
}
