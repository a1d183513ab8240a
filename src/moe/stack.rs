//! A matrix and a stack of matrices seen alike.

use crate::tensor::{Element, Layout, TensorMut, TensorRef};

/// A rank-2 or rank-3 layout as rank 3, a matrix as a stack of one.
fn stacked<const R: usize>(layout: Layout<R>) -> Layout<3> {
    const { assert!(R == 2 || R == 3, "a matrix, or a stack of matrices") };
    let (shape, strides) = (layout.shape(), layout.strides());
    let (rows, cols) = (R - 2, R - 1);
    let (num_groups, group_stride) =
        if R == 2 { (1, shape[rows] * strides[rows]) } else { (shape[0], strides[0]) };
    Layout::with_strides(
        [num_groups, shape[rows], shape[cols]],
        [group_stride, strides[rows], strides[cols]],
    )
}

/// The shape of a stack of as many `[rows, cols]` matrices as `shape` has.
pub(crate) const fn with_matrix<const R: usize>(
    mut shape: [usize; R],
    [rows, cols]: [usize; 2],
) -> [usize; R] {
    (shape[R - 2], shape[R - 1]) = (rows, cols);
    shape
}

pub(crate) fn stacked_ref<B, T: Element, const R: usize>(
    x: TensorRef<'_, B, T, R>,
) -> TensorRef<'_, B, T, 3> {
    // SAFETY: the same elements, with a dimension of extent 1 in front at most.
    unsafe { TensorRef::from_raw(x.as_ptr(), stacked(x.layout())) }
}

pub(crate) fn stacked_mut<B, T: Element, const R: usize>(
    mut x: TensorMut<'_, B, T, R>,
) -> TensorMut<'_, B, T, 3> {
    // SAFETY: the same elements, with a dimension of extent 1 in front at most, and `x` is
    // consumed.
    unsafe { TensorMut::from_raw(x.as_mut_ptr(), stacked(x.layout())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_is_a_stack_of_one() {
        let layout = stacked(Layout::with_strides([5, 3], [1, 8]));
        assert_eq!((layout.shape(), layout.strides()), ([1, 5, 3], [5, 1, 8]));
        let stack = Layout::with_strides([2, 5, 3], [24, 1, 8]);
        assert_eq!(stacked(stack), stack);
    }
}
