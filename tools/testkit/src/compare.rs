//! Comparisons whose failure says what differs and where.
//!
//! Each comes twice: `check_*` returns a [`Mismatch`], for programs that collect results;
//! `assert_*` panics with it at the caller's line.

use std::fmt;

use crate::e4m3;
use crate::element::Element;
use crate::measure::{relative_error, worst_column_error};
use crate::real::Real;

/// Differing elements that a message lists.
const MAX_LISTED: usize = 4;

/// Why two results differ: a text that names the array, the place and both values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch(String);

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Mismatch {}

/// The outcome of a comparison.
pub type Checked = Result<(), Mismatch>;

/// How far two elements may be apart: `|got - want| <= absolute + relative * |want|`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerance {
    /// In the unit of the values.
    pub absolute: f64,
    /// As a part of `|want|`.
    pub relative: f64,
}

/// Checks that two arrays of this shape are equal bit by bit.
///
/// # Errors
///
/// [`Mismatch`] with the number of differing elements and the coordinates and values of the first
/// ones, or with the lengths when they do not fit the shape.
pub fn check_bits_eq<T: Element>(name: &str, shape: &[usize], got: &[T], want: &[T]) -> Checked {
    check_elements(name, shape, got, want, T::same_bits)
}

/// Checks bit by bit, but takes any NaN for any other: payloads differ between machines.
///
/// # Errors
///
/// As [`check_bits_eq`].
pub fn check_same_values<T: Element>(
    name: &str,
    shape: &[usize],
    got: &[T],
    want: &[T],
) -> Checked {
    check_elements(name, shape, got, want, |a, b| a.same_bits(b) || (a.is_nan() && b.is_nan()))
}

/// Checks every element against a tolerance; a NaN matches only a NaN.
///
/// # Errors
///
/// As [`check_bits_eq`].
pub fn check_close<T: Real + Element>(
    name: &str,
    shape: &[usize],
    got: &[T],
    want: &[f64],
    tolerance: Tolerance,
) -> Checked {
    let close = |got: T, want: f64| {
        let got = got.widen();
        let bound = tolerance.absolute + tolerance.relative * want.abs();
        got == want || (got - want).abs() <= bound || (got.is_nan() && want.is_nan())
    };
    check_pairs(name, shape, got, want, close, Element::describe)
}

/// Checks that `|got - want|_F <= bound * |want|_F`; a NaN anywhere fails.
///
/// # Errors
///
/// [`Mismatch`] with the error, the bound, and the element that is farthest off.
pub fn check_relative_error<T: Real>(name: &str, got: &[T], want: &[f64], bound: f64) -> Checked {
    if got.len() != want.len() {
        return mismatch(format!("{name}: {} elements, expected {}", got.len(), want.len()));
    }
    let error = relative_error(got, want);
    if error <= bound {
        return Ok(());
    }
    let deviation = |i: usize| {
        let d = (got[i].widen() - want[i]).abs();
        if d.is_nan() { f64::INFINITY } else { d }
    };
    let worst = (0..got.len())
        .max_by(|&a, &b| deviation(a).total_cmp(&deviation(b)))
        .expect("an empty array has error 0");
    let (got, want) = (got[worst].widen(), want[worst]);
    mismatch(format!(
        "{name}: relative error {error:.3e} above {bound:.3e}; \
         farthest off at flat {worst}: got {got:e}, want {want:e}"
    ))
}

/// Checks the relative error of every column of a row-major matrix.
///
/// # Errors
///
/// [`Mismatch`] with the worst column and its error.
pub fn check_worst_column<T: Real>(
    name: &str,
    got: &[T],
    want: &[f64],
    num_columns: usize,
    bound: f64,
) -> Checked {
    if got.len() != want.len() {
        return mismatch(format!("{name}: {} elements, expected {}", got.len(), want.len()));
    }
    let worst = worst_column_error(got, want, num_columns);
    if worst.error <= bound {
        return Ok(());
    }
    let (column, error) = (worst.column, worst.error);
    mismatch(format!("{name}: column {column} has relative error {error:.3e} above {bound:.3e}"))
}

/// Checks that E4M3 codes are equal but for single steps in a few places.
///
/// For codes quantised from values that are themselves only close: such a value may cross a
/// rounding edge. A NaN matches only a NaN.
///
/// # Errors
///
/// [`Mismatch`] when a code is more than one step off, or more than `max_fraction` of them differ.
pub fn check_codes_near(
    name: &str,
    shape: &[usize],
    got: &[u8],
    want: &[u8],
    max_fraction: f64,
) -> Checked {
    let steps = |a: u8, b: u8| match (e4m3::ordinal(a), e4m3::ordinal(b)) {
        (Some(a), Some(b)) => a.abs_diff(b),
        (None, None) => 0,
        _ => u32::MAX,
    };
    check_elements(name, shape, got, want, |a, b| steps(a, b) <= 1)?;
    let num_differing = got.iter().zip(want).filter(|&(&a, &b)| steps(a, b) != 0).count();
    if num_differing as f64 <= max_fraction * got.len() as f64 {
        return Ok(());
    }
    let len = got.len();
    mismatch(format!(
        "{name}: {num_differing} of {len} codes are one step off, \
         at most a fraction of {max_fraction} may be"
    ))
}

/// Writes the coordinates of a flat row-major index.
pub fn coordinates(shape: &[usize], flat: usize) -> Vec<usize> {
    let mut rest = flat;
    let mut coordinates: Vec<usize> = shape
        .iter()
        .rev()
        .map(|&extent| {
            let coordinate = rest % extent;
            rest /= extent;
            coordinate
        })
        .collect();
    coordinates.reverse();
    coordinates
}

/// Asserts [`check_bits_eq`].
#[track_caller]
pub fn assert_bits_eq<T: Element>(name: &str, shape: &[usize], got: &[T], want: &[T]) {
    expect(check_bits_eq(name, shape, got, want));
}

/// Asserts [`check_same_values`].
#[track_caller]
pub fn assert_same_values<T: Element>(name: &str, shape: &[usize], got: &[T], want: &[T]) {
    expect(check_same_values(name, shape, got, want));
}

/// Asserts [`check_close`].
#[track_caller]
pub fn assert_close<T: Real + Element>(
    name: &str,
    shape: &[usize],
    got: &[T],
    want: &[f64],
    tolerance: Tolerance,
) {
    expect(check_close(name, shape, got, want, tolerance));
}

/// Asserts [`check_relative_error`].
#[track_caller]
pub fn assert_relative_error<T: Real>(name: &str, got: &[T], want: &[f64], bound: f64) {
    expect(check_relative_error(name, got, want, bound));
}

/// Asserts [`check_worst_column`].
#[track_caller]
pub fn assert_worst_column<T: Real>(
    name: &str,
    got: &[T],
    want: &[f64],
    num_columns: usize,
    bound: f64,
) {
    expect(check_worst_column(name, got, want, num_columns, bound));
}

/// Asserts [`check_codes_near`].
#[track_caller]
pub fn assert_codes_near(name: &str, shape: &[usize], got: &[u8], want: &[u8], max_fraction: f64) {
    expect(check_codes_near(name, shape, got, want, max_fraction));
}

#[track_caller]
fn expect(checked: Checked) {
    if let Err(mismatch) = checked {
        panic!("{mismatch}");
    }
}

fn mismatch(text: String) -> Checked {
    Err(Mismatch(text))
}

fn check_elements<T: Element>(
    name: &str,
    shape: &[usize],
    got: &[T],
    want: &[T],
    equal: impl Fn(T, T) -> bool,
) -> Checked {
    check_pairs(name, shape, got, want, equal, Element::describe)
}

fn check_pairs<T: Element, W: Element>(
    name: &str,
    shape: &[usize],
    got: &[T],
    want: &[W],
    equal: impl Fn(T, W) -> bool,
    describe_want: impl Fn(W) -> String,
) -> Checked {
    let len: usize = shape.iter().product();
    if got.len() != len || want.len() != len {
        let (got, want) = (got.len(), want.len());
        return mismatch(format!("{name} {shape:?}: got {got} elements, want has {want}"));
    }
    let differing: Vec<usize> = (0..len).filter(|&i| !equal(got[i], want[i])).collect();
    if differing.is_empty() {
        return Ok(());
    }
    let mut text = format!("{name} {shape:?}: {} of {len} elements differ", differing.len());
    for &i in differing.iter().take(MAX_LISTED) {
        let at = coordinates(shape, i);
        let (got, want) = (got[i].describe(), describe_want(want[i]));
        text += &format!("\n  at {at:?}: got {got}, want {want}");
    }
    if differing.len() > MAX_LISTED {
        text += &format!("\n  … last at {:?}", coordinates(shape, differing[differing.len() - 1]));
    }
    mismatch(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(checked: Checked) -> String {
        checked.expect_err("a mismatch").to_string()
    }

    #[test]
    fn a_bit_mismatch_names_the_coordinates_the_count_and_both_values() {
        let want = [0i32, 1, 2, 3, 4, 5];
        let got = [0i32, 1, 2, 3, 9, 8];
        assert_eq!(check_bits_eq("plan", &[2, 3], &want, &want), Ok(()));
        assert_eq!(
            text(check_bits_eq("plan", &[2, 3], &got, &want)),
            "plan [2, 3]: 2 of 6 elements differ\n  \
             at [1, 1]: got 9, want 4\n  at [1, 2]: got 8, want 5"
        );
    }

    #[test]
    fn bits_tell_zeros_and_nan_payloads_apart_and_values_only_the_zeros() {
        let [a, b] = [f32::from_bits(0x7fc0_0000), f32::from_bits(0xffc0_0001)];
        assert!(check_bits_eq("y", &[1], &[a], &[b]).is_err());
        assert_eq!(check_same_values("y", &[1], &[a], &[b]), Ok(()));
        assert!(check_same_values("y", &[1], &[a], &[1.0]).is_err());
        assert!(
            text(check_same_values("y", &[1], &[0.0f32], &[-0.0]))
                .contains("got 0e0 (0x0), want -0e0 (0x80000000)")
        );
    }

    #[test]
    fn lengths_that_do_not_fit_the_shape_are_a_mismatch() {
        assert!(text(check_bits_eq("d", &[2, 2], &[1u8; 3], &[1; 4])).contains("got 3 elements"));
    }

    #[test]
    fn a_relative_error_names_the_farthest_element_and_nan_is_farthest() {
        assert_eq!(check_relative_error("d", &[1.0f32, 2.0], &[1.0, 2.0], 0.0), Ok(()));
        let message = text(check_relative_error("d", &[1.0f32, 2.5], &[1.0, 2.0], 1e-3));
        assert!(message.contains("flat 1: got 2.5e0, want 2e0"), "{message}");
        let message = text(check_relative_error("d", &[f32::NAN, 9.0], &[1.0, 2.0], 1e9));
        assert!(message.contains("flat 0: got NaN"), "{message}");
    }

    #[test]
    fn a_tolerance_is_absolute_plus_relative() {
        let tolerance = Tolerance { absolute: 0.5, relative: 0.25 };
        assert_eq!(check_close("w", &[1], &[4.0f32 + 1.5], &[4.0], tolerance), Ok(()));
        assert!(check_close("w", &[1], &[4.0f32 + 1.625], &[4.0], tolerance).is_err());
        assert!(check_close("w", &[1], &[f32::NAN], &[4.0], tolerance).is_err());
        let infinite = [f64::INFINITY];
        assert_eq!(check_close("w", &[1], &[f32::INFINITY], &infinite, tolerance), Ok(()));
    }

    #[test]
    fn the_worst_column_is_named() {
        let message = text(check_worst_column("d", &[1.0f32, 3.0], &[1.0, 2.0], 2, 0.1));
        assert!(message.contains("column 1 has relative error 5.000e-1"), "{message}");
    }

    #[test]
    fn codes_may_be_one_step_off_in_a_few_places() {
        let want = [0x38, 0x00, 0x7f, 0x08];
        assert_eq!(check_codes_near("q", &[4], &[0x39, 0x80, 0x7f, 0x08], &want, 0.25), Ok(()));
        assert!(check_codes_near("q", &[4], &[0x39, 0x81, 0x7f, 0x08], &want, 0.25).is_err());
        assert!(check_codes_near("q", &[4], &[0x3a, 0x00, 0x7f, 0x08], &want, 1.0).is_err());
        assert!(check_codes_near("q", &[4], &[0x38, 0x00, 0x7e, 0x08], &want, 1.0).is_err());
    }

    #[test]
    #[should_panic(expected = "plan [1]: 1 of 1 elements differ")]
    fn an_assertion_panics_with_the_mismatch() {
        assert_bits_eq("plan", &[1], &[1i32], &[2]);
    }
}
