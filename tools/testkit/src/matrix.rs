//! A row-major f64 matrix, the common currency of the oracles.

use crate::real::Real;

/// A dense row-major matrix of f64.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// `[rows, cols]`, row-major.
    pub values: Vec<f64>,
}

impl Matrix {
    /// Widens a row-major slice.
    ///
    /// # Panics
    ///
    /// When `values.len() != rows * cols`.
    #[track_caller]
    pub fn new<T: Real>(values: &[T], [rows, cols]: [usize; 2]) -> Self {
        assert_eq!(values.len(), rows * cols, "Matrix::new: values of a [{rows}, {cols}] matrix");
        Self { rows, cols, values: values.iter().map(|value| value.widen()).collect() }
    }

    /// Makes a matrix of zeros.
    pub fn zeros([rows, cols]: [usize; 2]) -> Self {
        Self { rows, cols, values: vec![0.0; rows * cols] }
    }

    /// Returns one row.
    pub fn row(&self, row: usize) -> &[f64] {
        &self.values[row * self.cols..][..self.cols]
    }

    /// Returns one row for writing.
    pub fn row_mut(&mut self, row: usize) -> &mut [f64] {
        &mut self.values[row * self.cols..][..self.cols]
    }

    /// Returns the rows `rows`, in that order.
    pub fn select_rows(&self, rows: impl IntoIterator<Item = usize>) -> Self {
        let mut selected = Self { rows: 0, cols: self.cols, values: Vec::new() };
        for row in rows {
            selected.rows += 1;
            selected.values.extend_from_slice(self.row(row));
        }
        selected
    }

    /// Returns the transposed matrix.
    pub fn transposed(&self) -> Self {
        let mut out = Self::zeros([self.cols, self.rows]);
        for row in 0..self.rows {
            for col in 0..self.cols {
                out.values[col * self.rows + row] = self.values[row * self.cols + col];
            }
        }
        out
    }

    /// Rounds every element to f32.
    pub fn to_f32(&self) -> Vec<f32> {
        self.values.iter().map(|&value| value as f32).collect()
    }

    /// Rounds every element to BF16 and back.
    pub fn rounded_to_bf16(&self) -> Self {
        let rounded = self.values.iter().map(|&value| crate::bf16::round(value).widen()).collect();
        Self { values: rounded, ..*self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposing_swaps_the_coordinates() {
        let matrix = Matrix::new(&[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0], [2, 3]);
        let transposed = matrix.transposed();
        assert_eq!((transposed.rows, transposed.cols), (3, 2));
        assert_eq!(transposed.values, [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    }

    #[test]
    fn rows_are_selected_in_the_order_asked_for() {
        let matrix = Matrix::new(&[1.0f32, 2.0, 3.0, 4.0], [2, 2]);
        assert_eq!(matrix.select_rows([1, 1, 0]).values, [3.0, 4.0, 3.0, 4.0, 1.0, 2.0]);
    }

    #[test]
    fn rounding_to_bf16_keeps_eight_bits() {
        assert_eq!(Matrix::new(&[1.0 + 2f64.powi(-8)], [1, 1]).rounded_to_bf16().values, [1.0]);
    }
}
