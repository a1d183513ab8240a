//! Metadata checks shared by the stages' constructors.

use crate::error::{Error, Result};
use crate::tensor::{Element, Layout, TensorMut, TensorRef};

/// One operation's name, for its checks.
#[derive(Clone, Copy)]
pub(crate) struct Checker(pub &'static str);

impl Checker {
    pub fn shape(self, arg: &'static str, got: &[usize], expected: &[usize]) -> Result<()> {
        if got == expected {
            return Ok(());
        }
        let (expected, got) = (expected.to_vec(), got.to_vec());
        Err(Error::Shape { op: self.0, arg, expected, got })
    }

    pub fn contiguous_rows<const R: usize>(
        self,
        arg: &'static str,
        layout: Layout<R>,
    ) -> Result<()> {
        if layout.has_contiguous_rows() {
            return Ok(());
        }
        let got = layout.strides().to_vec();
        Err(Error::Stride { op: self.0, arg, expected: "rows contiguous and apart", got })
    }

    pub fn contiguous<const R: usize>(self, arg: &'static str, layout: Layout<R>) -> Result<()> {
        if layout.is_contiguous() {
            return Ok(());
        }
        let got = layout.strides().to_vec();
        Err(Error::Stride { op: self.0, arg, expected: "row-major without gaps", got })
    }

    /// Refuses outputs two of whose elements share an address.
    pub fn no_overlap<const R: usize>(self, arg: &'static str, layout: Layout<R>) -> Result<()> {
        if !overlaps(layout) {
            return Ok(());
        }
        let got = layout.strides().to_vec();
        Err(Error::Stride { op: self.0, arg, expected: "no two elements at one address", got })
    }

    pub fn multiple(self, arg: &'static str, got: usize, multiple_of: usize) -> Result<()> {
        if got.is_multiple_of(multiple_of) {
            return Ok(());
        }
        Err(Error::Alignment { op: self.0, arg, multiple_of, got })
    }
}

/// Whether some dimension, taken by ascending stride, steps into the ones before it.
fn overlaps<const R: usize>(layout: Layout<R>) -> bool {
    if layout.num_elements() == 0 {
        return false;
    }
    let (shape, strides) = (layout.shape(), layout.strides());
    let mut dims: [usize; R] = std::array::from_fn(|dim| dim);
    dims.sort_unstable_by_key(|&dim| strides[dim]);
    let mut span = 1;
    for dim in dims.into_iter().filter(|&dim| shape[dim] > 1) {
        if strides[dim] < span {
            return true;
        }
        span += (shape[dim] - 1) * strides[dim];
    }
    false
}

/// A rank-2 or rank-3 layout as rank 3, a matrix as one group.
pub(crate) fn grouped<const R: usize>(layout: Layout<R>) -> Layout<3> {
    const { assert!(R == 2 || R == 3, "a matrix, or a stack of matrices") };
    let (shape, strides) = (layout.shape(), layout.strides());
    let (rows, cols) = (R - 2, R - 1);
    if R == 2 {
        let group_stride = shape[rows] * strides[rows];
        return Layout::with_strides(
            [1, shape[rows], shape[cols]],
            [group_stride, strides[rows], strides[cols]],
        );
    }
    Layout::with_strides(
        [shape[0], shape[rows], shape[cols]],
        [strides[0], strides[rows], strides[cols]],
    )
}

pub(crate) fn grouped_ref<B, T: Element, const R: usize>(
    x: TensorRef<'_, B, T, R>,
) -> TensorRef<'_, B, T, 3> {
    // SAFETY: the same elements, with a dimension of extent 1 in front at most.
    unsafe { TensorRef::from_raw(x.as_ptr(), grouped(x.layout())) }
}

pub(crate) fn grouped_mut<B, T: Element, const R: usize>(
    mut x: TensorMut<'_, B, T, R>,
) -> TensorMut<'_, B, T, 3> {
    // SAFETY: the same elements, with a dimension of extent 1 in front at most, and `x` is consumed.
    unsafe { TensorMut::from_raw(x.as_mut_ptr(), grouped(x.layout())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlapping_outputs_are_seen_in_any_order_of_strides() {
        assert!(!overlaps(Layout::with_strides([5, 3], [1, 8])));
        assert!(!overlaps(Layout::with_strides([5, 3], [3, 1])));
        assert!(!overlaps(Layout::with_strides([1, 3], [0, 1])));
        assert!(!overlaps(Layout::with_strides([2, 5, 3], [24, 1, 8])));
        assert!(overlaps(Layout::with_strides([5, 3], [1, 4])));
        assert!(overlaps(Layout::with_strides([5, 3], [0, 1])));
        assert!(overlaps(Layout::with_strides([2, 5, 3], [8, 1, 8])));
    }

    #[test]
    fn a_matrix_is_one_group() {
        let layout = grouped(Layout::with_strides([5, 3], [1, 8]));
        assert_eq!((layout.shape(), layout.strides()), ([1, 5, 3], [5, 1, 8]));
        assert!(!overlaps(layout));
    }
}
