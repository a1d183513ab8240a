//! A float with a total order, for heaps.

use std::cmp::Ordering;

/// A load that is never NaN, ordered by value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Ordered<T = f64>(pub T);

macro_rules! total_order {
    ($($float:ty),*) => {$(
        impl Eq for Ordered<$float> {}

        impl PartialOrd for Ordered<$float> {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl Ord for Ordered<$float> {
            fn cmp(&self, other: &Self) -> Ordering {
                self.0.total_cmp(&other.0)
            }
        }
    )*};
}

total_order!(f32, f64);
