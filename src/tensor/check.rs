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
