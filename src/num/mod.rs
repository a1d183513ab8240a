//! Number formats and the few functions whose bits are a contract on every backend.

mod e4m3;
mod exp;
mod round;
mod ue8m0;

pub use e4m3::{E4M3, E4M3_MAX};
pub use exp::{exp, sigmoid};
pub use half::bf16;
pub use round::round_bf16;
pub use ue8m0::Ue8m0;

/// Returns `ceil(a / b)`.
///
/// # Examples
///
/// ```
/// assert_eq!(moekit::num::ceil_div(2880, 128), 23);
/// ```
pub const fn ceil_div(a: usize, b: usize) -> usize {
    a.div_ceil(b)
}

/// Returns the smallest multiple of `to` that is at least `a`.
///
/// # Examples
///
/// ```
/// assert_eq!(moekit::num::align(130, 128), 256);
/// ```
pub const fn align(a: usize, to: usize) -> usize {
    a.next_multiple_of(to)
}
