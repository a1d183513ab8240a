//! How far a result is from the oracle, as one number.

use crate::real::Real;

/// The column that is worst off, and its error.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ColumnError {
    /// Column index.
    pub column: usize,
    /// Relative error of that column.
    pub error: f64,
}

/// Returns `|got - want|_F / |want|_F`.
///
/// Two empty or all-zero arguments have error 0; a zero `want` with a nonzero `got` has error
/// infinity; a NaN on either side makes the error NaN, so that `error <= bound` is false.
///
/// # Panics
///
/// When the lengths differ.
#[track_caller]
pub fn relative_error<T: Real>(got: &[T], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len(), "relative_error: lengths of got and want");
    ratio(got.iter().zip(want).fold((0.0, 0.0), |(difference, norm), (&got, &want)| {
        (difference + (got.widen() - want).powi(2), norm + want.powi(2))
    }))
}

/// Returns the largest relative error of any column of a row-major matrix; a NaN column wins.
///
/// # Panics
///
/// When the lengths differ or are no multiple of `num_columns`.
#[track_caller]
pub fn worst_column_error<T: Real>(got: &[T], want: &[f64], num_columns: usize) -> ColumnError {
    assert_eq!(got.len(), want.len(), "worst_column_error: lengths of got and want");
    assert!(got.is_empty() || got.len().is_multiple_of(num_columns), "whole rows of {num_columns}");
    let mut sums = vec![(0.0, 0.0); num_columns];
    for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
        let (difference, norm) = &mut sums[i % num_columns];
        *difference += (got.widen() - want).powi(2);
        *norm += want.powi(2);
    }
    let mut worst = ColumnError { column: 0, error: 0.0 };
    for (column, sums) in sums.into_iter().enumerate() {
        let error = ratio(sums);
        if error.is_nan() {
            return ColumnError { column, error };
        }
        if error > worst.error {
            worst = ColumnError { column, error };
        }
    }
    worst
}

fn ratio((difference, norm): (f64, f64)) -> f64 {
    if difference == 0.0 && norm == 0.0 { 0.0 } else { (difference / norm).sqrt() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_is_the_ratio_of_the_norms() {
        assert_eq!(relative_error(&[3.0f64, 4.0], &[3.0, 4.0]), 0.0);
        assert_eq!(relative_error(&[3.0f32, 5.0], &[3.0, 4.0]), 0.2);
        assert_eq!(relative_error(&[0.0f32, 0.0], &[3.0, 4.0]), 1.0);
    }

    #[test]
    fn zero_references_and_nans_do_not_pass_quietly() {
        assert_eq!(relative_error(&[0.0f32], &[0.0]), 0.0);
        assert_eq!(relative_error(&[1.0f32], &[0.0]), f64::INFINITY);
        assert!(relative_error(&[f32::NAN, 1.0], &[1.0, 1.0]).is_nan());
        assert!(relative_error(&[1.0f32], &[f64::NAN]).is_nan());
    }

    #[test]
    fn the_worst_column_is_found_behind_a_large_one() {
        let want = [1000.0, 1.0, 1000.0, 1.0];
        let got = [1000.0f32, 1.0, 1000.0, 2.0];
        assert!(relative_error(&got, &want) < 1e-3);
        let worst = worst_column_error(&got, &want, 2);
        assert_eq!(worst.column, 1);
        assert!((worst.error - 0.5f64.sqrt()).abs() < 1e-15);
        assert!(worst_column_error(&[f32::NAN, 9.0], &[1.0, 1.0], 2).error.is_nan());
    }
}
