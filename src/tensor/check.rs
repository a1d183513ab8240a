//! The checks that argument types share.

use super::Layout;
use crate::error::{Error, Result};

/// [`Error::Shape`] unless `got == expected`.
pub(crate) fn shape(
    op: &'static str,
    arg: &'static str,
    expected: &[usize],
    got: &[usize],
) -> Result<()> {
    if expected == got {
        return Ok(());
    }
    Err(Error::Shape { op, arg, expected: expected.to_vec(), got: got.to_vec() })
}

/// [`Error::Stride`] unless the tensor is row-major without gaps.
pub(crate) fn contiguous<const R: usize>(
    op: &'static str,
    arg: &'static str,
    layout: Layout<R>,
) -> Result<()> {
    stride(op, arg, layout, layout.is_contiguous(), "row-major without gaps")
}

/// [`Error::Stride`] unless every row is contiguous and rows do not overlap.
pub(crate) fn contiguous_rows<const R: usize>(
    op: &'static str,
    arg: &'static str,
    layout: Layout<R>,
) -> Result<()> {
    stride(op, arg, layout, layout.has_contiguous_rows(), "contiguous rows that do not overlap")
}

/// [`Error::Alignment`] unless `got % multiple_of == 0`.
pub(crate) fn multiple(
    op: &'static str,
    arg: &'static str,
    multiple_of: usize,
    got: usize,
) -> Result<()> {
    if got.is_multiple_of(multiple_of) {
        return Ok(());
    }
    Err(Error::Alignment { op, arg, multiple_of, got })
}

/// [`Error::Capacity`] if more is needed than there is.
pub(crate) fn capacity(
    op: &'static str,
    arg: &'static str,
    needed: usize,
    capacity: usize,
    unit: &'static str,
) -> Result<()> {
    if needed <= capacity {
        return Ok(());
    }
    Err(Error::Capacity { op, arg, needed, capacity, unit })
}

/// [`Error::Stride`] if two elements of an output share an address.
pub(crate) fn no_overlap<const R: usize>(
    op: &'static str,
    arg: &'static str,
    layout: Layout<R>,
) -> Result<()> {
    stride(op, arg, layout, !overlaps(layout), "no two elements at one address")
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

fn stride<const R: usize>(
    op: &'static str,
    arg: &'static str,
    layout: Layout<R>,
    holds: bool,
    expected: &'static str,
) -> Result<()> {
    if holds {
        return Ok(());
    }
    Err(Error::Stride { op, arg, expected, got: layout.strides().to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlaps_are_seen_in_any_order_of_strides() {
        assert!(!overlaps(Layout::with_strides([5, 3], [1, 8])));
        assert!(!overlaps(Layout::with_strides([5, 3], [3, 1])));
        assert!(!overlaps(Layout::with_strides([1, 3], [0, 1])));
        assert!(!overlaps(Layout::with_strides([2, 5, 3], [24, 1, 8])));
        assert!(overlaps(Layout::with_strides([5, 3], [1, 4])));
        assert!(overlaps(Layout::with_strides([5, 3], [0, 1])));
        assert!(overlaps(Layout::with_strides([2, 5, 3], [8, 1, 8])));
    }
}
