//! Quantisation to E4M3 with scales, bitwise as the design prescribes it.
//!
//! For every tile of `gran_rows × gran_cols` elements (smaller at the edges):
//!
//! ```text
//! amax = largest |x| of the tile, NaN left out, at most f32::MAX
//! sf   = max(amax, 1e-4) / 448                 f32 division
//! sf   = 2^ceil(log2(sf))                      UE8M0 scales only
//! code = e4m3_rn_satfinite(x * (1 / sf))       f32 division, f32 product
//! ```
//!
//! so NaN becomes the NaN code without touching its neighbours, and ±infinity becomes ±448.
//!
//! # Source
//!
//! DeepSeek-V3 technical report, section 3.3.2 (tiles of 1×128, blocks of 128×128); DeepGEMM
//! `deep_gemm/utils/math.py` (`per_token_`, `per_block_`, `per_channel_cast_to_fp8`). Differs: a
//! NaN does not spread, an infinity saturates.

use crate::e4m3;
use crate::matrix::Matrix;
use crate::ue8m0;

/// Elements that one scale covers along K.
pub const GRAN_K: usize = 128;

/// How a scale is represented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScaleFormat {
    /// Any f32.
    F32,
    /// A power of two, rounded up.
    Ue8m0,
}

/// E4M3 codes with one f32 scale per tile: `value[r, c] = decode(code[r, c]) * scale[r / gran_rows,
/// c / gran_cols]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantised {
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// Rows that one scale covers.
    pub gran_rows: usize,
    /// Columns that one scale covers.
    pub gran_cols: usize,
    /// E4M3 `[rows, cols]`, row-major.
    pub codes: Vec<u8>,
    /// FP32 `[ceil(rows / gran_rows), ceil(cols / gran_cols)]`, row-major.
    pub scales: Vec<f32>,
}

impl Quantised {
    /// Wraps codes and scales that came from elsewhere.
    ///
    /// # Panics
    ///
    /// When a length does not fit the shape and granularity.
    #[track_caller]
    pub fn new(codes: Vec<u8>, scales: Vec<f32>, shape: [usize; 2], gran: [usize; 2]) -> Self {
        let [[rows, cols], [gran_rows, gran_cols]] = [shape, gran];
        let quantised = Self { rows, cols, gran_rows, gran_cols, codes, scales };
        let [scale_rows, scale_cols] = quantised.scale_shape();
        assert_eq!(quantised.codes.len(), rows * cols, "Quantised::new: number of codes");
        assert_eq!(
            quantised.scales.len(),
            scale_rows * scale_cols,
            "Quantised::new: number of scales, [{scale_rows}, {scale_cols}]"
        );
        quantised
    }

    /// Returns the shape of `scales`.
    pub fn scale_shape(&self) -> [usize; 2] {
        [self.rows.div_ceil(self.gran_rows), self.cols.div_ceil(self.gran_cols)]
    }

    /// Returns the scale that covers an element.
    pub fn scale(&self, row: usize, col: usize) -> f32 {
        let [_, scale_cols] = self.scale_shape();
        self.scales[(row / self.gran_rows) * scale_cols + col / self.gran_cols]
    }

    /// Multiplies codes and scales out in f64, which is exact.
    pub fn dequantise(&self) -> Matrix {
        let mut out = Matrix::zeros([self.rows, self.cols]);
        for row in 0..self.rows {
            for (col, value) in out.row_mut(row).iter_mut().enumerate() {
                let code = self.codes[row * self.cols + col];
                *value = e4m3::decode(code) * f64::from(self.scale(row, col));
            }
        }
        out
    }

    /// Multiplies codes and scales out with one f32 rounding each.
    pub fn dequantise_f32(&self) -> Vec<f32> {
        self.dequantise().to_f32()
    }

    /// Returns the UE8M0 codes of the scales, rounded up where they are no powers of two.
    pub fn ue8m0_scales(&self) -> Vec<u8> {
        self.scales.iter().map(|&scale| ue8m0::encode_up(f64::from(scale))).collect()
    }
}

/// Returns the scale of a tile from its largest magnitude.
pub fn scale_factor(amax: f32, format: ScaleFormat) -> f32 {
    let sf = amax.clamp(1e-4, f32::MAX) / 448.0;
    match format {
        ScaleFormat::F32 => sf,
        ScaleFormat::Ue8m0 => ue8m0::round_up(f64::from(sf)) as f32,
    }
}

/// Returns the code of `x` under the scale `sf`.
pub fn code(x: f32, sf: f32) -> u8 {
    e4m3::encode(f64::from(x * (1.0f32 / sf)))
}

/// Quantises with one scale per tile of `gran`.
///
/// # Panics
///
/// When `x.len()` is not the product of the shape.
#[track_caller]
pub fn tiles(x: &[f32], shape: [usize; 2], gran: [usize; 2], format: ScaleFormat) -> Quantised {
    let [[rows, cols], [gran_rows, gran_cols]] = [shape, gran];
    assert_eq!(x.len(), rows * cols, "quant::tiles: elements of a [{rows}, {cols}] matrix");
    let mut scales = Vec::new();
    for first_row in (0..rows).step_by(gran_rows) {
        for first_col in (0..cols).step_by(gran_cols) {
            let mut amax = 0.0f32;
            for row in first_row..rows.min(first_row + gran_rows) {
                for col in first_col..cols.min(first_col + gran_cols) {
                    // f32::max returns the other argument for a NaN.
                    amax = amax.max(x[row * cols + col].abs());
                }
            }
            scales.push(scale_factor(amax, format));
        }
    }
    let mut quantised = Quantised::new(vec![0; x.len()], scales, shape, gran);
    for row in 0..rows {
        for col in 0..cols {
            let sf = quantised.scale(row, col);
            quantised.codes[row * cols + col] = code(x[row * cols + col], sf);
        }
    }
    quantised
}

/// Quantises activations: one scale per row and 128 columns.
#[track_caller]
pub fn per_token(x: &[f32], shape: [usize; 2], format: ScaleFormat) -> Quantised {
    tiles(x, shape, [1, GRAN_K], format)
}

/// Quantises weights: one scale per 128×128 block.
#[track_caller]
pub fn per_block(x: &[f32], shape: [usize; 2], format: ScaleFormat) -> Quantised {
    tiles(x, shape, [128, GRAN_K], format)
}

/// Quantises along the rows: one scale per 128 rows and column.
#[track_caller]
pub fn per_channel(x: &[f32], shape: [usize; 2], format: ScaleFormat) -> Quantised {
    tiles(x, shape, [GRAN_K, 1], format)
}

/// Makes the operands of the k-grouped product: per expert, features × tokens, quantised along
/// tokens.
///
/// `x` is `[rows, num_features]` in the contiguous receive layout. Expert `e` owns the rows
/// `expert_offsets[e]..expert_offsets[e + 1]`, of which the first `num_rows_per_expert[e]` hold
/// tokens; its operand is `[num_features, expert_offsets[e + 1] - expert_offsets[e]]` with one
/// scale per feature and 128 tokens. Padding counts as zero whatever it holds.
///
/// # Panics
///
/// When the offsets do not describe `x`.
#[track_caller]
pub fn transposed_per_expert(
    x: &[f32],
    num_features: usize,
    expert_offsets: &[usize],
    num_rows_per_expert: &[usize],
    format: ScaleFormat,
) -> Vec<Quantised> {
    assert_eq!(expert_offsets.len(), num_rows_per_expert.len() + 1, "one offset more than experts");
    let mut operands = Vec::new();
    for (expert_idx, &num_rows) in num_rows_per_expert.iter().enumerate() {
        let first_row = expert_offsets[expert_idx];
        let k = expert_offsets[expert_idx + 1] - first_row;
        assert!(num_rows <= k, "expert {expert_idx} has {num_rows} rows in a segment of {k}");
        let mut transposed = vec![0.0f32; num_features * k];
        for row in 0..num_rows {
            for feature in 0..num_features {
                transposed[feature * k + row] = x[(first_row + row) * num_features + feature];
            }
        }
        operands.push(per_token(&transposed, [num_features, k], format));
    }
    operands
}

#[cfg(test)]
mod tests {
    use super::*;
    use ScaleFormat::{F32, Ue8m0};

    #[test]
    fn the_largest_element_becomes_448_and_one_scale_covers_128() {
        let mut x = vec![0.0f32; 256];
        x[3] = -448.0;
        x[128] = 896.0;
        x[129] = 448.0;
        let q = per_token(&x, [1, 256], F32);
        assert_eq!(q.scales, [1.0, 2.0]);
        assert_eq!(q.codes[3], 0xfe);
        assert_eq!(q.codes[128], 0x7e);
        assert_eq!(q.codes[129], 0x76, "224 = 1.75 * 2^7: exponent field 14, mantissa 6");
        assert_eq!(q.codes[0], 0x00);
    }

    #[test]
    fn zeros_take_the_smallest_scale() {
        let q = per_token(&[0.0; 16], [1, 16], F32);
        assert_eq!(q.scales, [1e-4f32 / 448.0]);
        assert_eq!(q.codes, [0; 16]);
        assert_eq!(per_token(&[0.0; 16], [1, 16], Ue8m0).scales, [2f32.powi(-22)]);
    }

    #[test]
    fn the_reciprocal_is_rounded_before_the_product() {
        // 4.875 * 448 / 13 = 168 lies half-way between the codes 0x72 (160) and 0x73 (176). The
        // quotient in f32 is exact and goes to the even code; the product with the rounded
        // reciprocal is not.
        let sf = scale_factor(13.0, F32);
        assert_eq!(e4m3::encode(f64::from(4.875f32 / sf)), 0x72);
        assert_eq!(code(4.875, sf), 0x73);
    }

    #[test]
    fn power_of_two_scales_round_up() {
        let q = per_token(&[500.0, 1.0], [1, 2], Ue8m0);
        assert_eq!(q.scales, [2.0]);
        assert_eq!(q.ue8m0_scales(), [128]);
        assert_eq!(q.dequantise().values, [512.0, 1.0], "250 is nearer to 256 than to 240");
    }

    #[test]
    fn the_last_scale_covers_the_remainder() {
        let mut x = vec![1.0f32; 2 * 144];
        x[128..144].fill(0.5);
        let q = per_token(&x, [2, 144], F32);
        assert_eq!(q.scale_shape(), [2, 2]);
        assert_eq!(q.scales, [1.0 / 448.0, 0.5 / 448.0, 1.0 / 448.0, 1.0 / 448.0]);
    }

    #[test]
    fn a_block_shares_one_scale_and_edges_have_their_own() {
        let (n, k) = (130, 160);
        let mut x = vec![1.0f32; n * k];
        x[5 * k + 7] = 448.0; // block (0, 0)
        x[129 * k + 159] = 896.0; // block (1, 1)
        let q = per_block(&x, [n, k], F32);
        let one = 1.0f32 / 448.0;
        assert_eq!(q.scales, [1.0, one, one, 2.0]);
        assert_eq!(q.scale(127, 127), 1.0);
        assert_eq!(q.scale(128, 128), 2.0);
    }

    #[test]
    fn nan_stays_alone_and_infinity_saturates() {
        let q = per_token(&[f32::NAN, 448.0, -1.0], [1, 3], F32);
        assert_eq!((q.scales[0], &q.codes[..]), (1.0, &[0x7f, 0x7e, 0xb8][..]));
        let q = per_token(&[f32::INFINITY, f32::NEG_INFINITY, 1.0], [1, 3], F32);
        assert_eq!(q.scales, [f32::MAX / 448.0]);
        assert_eq!(q.codes, [0x7e, 0xfe, 0x00]);
    }

    #[test]
    fn per_channel_is_per_token_of_the_transposed() {
        let (rows, cols) = (200, 3);
        let x: Vec<f32> = (0..rows * cols).map(|i| ((i * 37) % 101) as f32 - 50.0).collect();
        let channel = per_channel(&x, [rows, cols], F32);
        let token = &transposed_per_expert(&x, cols, &[0, rows], &[rows], F32)[0];
        for row in 0..rows {
            for col in 0..cols {
                assert_eq!(channel.codes[row * cols + col], token.codes[col * rows + row]);
                assert_eq!(channel.scale(row, col), token.scale(col, row));
            }
        }
    }

    #[test]
    fn padding_rows_become_zero_columns_of_the_transposed() {
        let x = [1.0, 2.0, f32::NAN, f32::NAN, 4.0, 448.0, f32::NAN, f32::NAN];
        let operands = transposed_per_expert(&x, 2, &[0, 2, 2, 4], &[1, 0, 1], F32);
        assert_eq!(operands.iter().map(|o| o.cols).collect::<Vec<_>>(), [2, 0, 2]);
        assert_eq!(operands[0].codes, [0x7e, 0, 0x7e, 0]);
        assert_eq!(operands[2].scales, [4.0 / 448.0, 1.0]);
    }
}
