//! The orders in which operands and scales are stored.

use crate::quant::Quantised;

/// Rounds a number of FP32 rows up to what TMA takes as a stride: 16 bytes, four elements.
pub fn tma_aligned_rows(rows: usize) -> usize {
    rows.next_multiple_of(4)
}

/// Stores `[rows, cols]` column after column, `stride >= rows` elements apart; the gaps hold
/// `fill`.
///
/// With `stride = tma_aligned_rows(rows)` these are the MN-major, TMA-aligned scales of an operand
/// whose row-major scales are `values`.
///
/// # Panics
///
/// When `values` has another length, or the stride is shorter than a column.
#[track_caller]
pub fn mn_major<T: Copy>(values: &[T], [rows, cols]: [usize; 2], stride: usize, fill: T) -> Vec<T> {
    assert_eq!(values.len(), rows * cols, "mn_major: elements of a [{rows}, {cols}] matrix");
    assert!(stride >= rows, "mn_major: stride {stride} is shorter than {rows} rows");
    let mut out = vec![fill; stride * cols];
    for row in 0..rows {
        for col in 0..cols {
            out[col * stride + row] = values[row * cols + col];
        }
    }
    out
}

/// Packs the UE8M0 codes of four consecutive K-blocks into one INT32, MN-major and TMA-aligned.
///
/// `codes` is `[rows, cols]`, row-major. Word `(row, c)` holds the codes of columns `4c..4c + 4`,
/// the first in its lowest byte, 0 beyond the last column; it stands at
/// `c * tma_aligned_rows(rows) + row`. Words of rows beyond the last are 0.
///
/// # Panics
///
/// When `codes` has another length.
///
/// # Source
///
/// DeepGEMM `get_mn_major_tma_aligned_packed_ue8m0_tensor` (README, "Utilities").
#[track_caller]
pub fn packed_ue8m0(codes: &[u8], [rows, cols]: [usize; 2]) -> Vec<i32> {
    assert_eq!(codes.len(), rows * cols, "packed_ue8m0: codes of a [{rows}, {cols}] matrix");
    let stride = tma_aligned_rows(rows);
    let mut words = vec![0; stride * cols.div_ceil(4)];
    for row in 0..rows {
        for (c, four) in codes[row * cols..][..cols].chunks(4).enumerate() {
            let mut bytes = [0; 4];
            bytes[..four.len()].copy_from_slice(four);
            words[c * stride + row] = i32::from_le_bytes(bytes);
        }
    }
    words
}

/// The operand of a k-grouped product, flattened.
#[derive(Debug, Clone, PartialEq)]
pub struct KGrouped {
    /// `[num_groups]`: `k_g`.
    pub ks: Vec<usize>,
    /// E4M3: `[rows, k_g]` of every group, K-major, one after another.
    pub codes: Vec<u8>,
    /// FP32: `[rows, ceil(k_g / 128)]` of every group, row-major, one after another.
    pub scales: Vec<f32>,
}

/// Flattens the operands of all groups, one after another.
pub fn k_grouped(operands: &[Quantised]) -> KGrouped {
    KGrouped {
        ks: operands.iter().map(|operand| operand.cols).collect(),
        codes: operands.iter().flat_map(|operand| operand.codes.iter().copied()).collect(),
        scales: operands.iter().flat_map(|operand| operand.scales.iter().copied()).collect(),
    }
}

/// Joins the scales of all groups into `[rows, sum of ceil(k_g / 128)]`, row-major.
///
/// [`mn_major`] of that is the order that DeepGEMM stores for K-major operands.
///
/// # Panics
///
/// When the groups differ in rows.
#[track_caller]
pub fn joined_scales(operands: &[Quantised]) -> Vec<f32> {
    let rows = operands.first().map_or(0, |operand| operand.rows);
    assert!(operands.iter().all(|operand| operand.rows == rows), "joined_scales: rows differ");
    let mut joined = Vec::new();
    for row in 0..rows {
        for operand in operands {
            let [_, cols] = operand.scale_shape();
            joined.extend_from_slice(&operand.scales[row * cols..][..cols]);
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::{ScaleFormat, per_token};

    #[test]
    fn columns_follow_each_other_at_the_stride() {
        let scales = [1, 2, 3, 4, 5, 6]; // [3, 2]
        assert_eq!(mn_major(&scales, [3, 2], tma_aligned_rows(3), 0), [1, 3, 5, 0, 2, 4, 6, 0]);
        assert_eq!(mn_major(&scales, [3, 2], 3, 0), [1, 3, 5, 2, 4, 6]);
    }

    #[test]
    fn four_scales_share_a_word_first_in_the_lowest_byte() {
        let codes = [0x01, 0x02, 0x03, 0x84, 0x05, 0x11, 0x12, 0x13, 0x14, 0x15]; // [2, 5]
        let words = packed_ue8m0(&codes, [2, 5]);
        assert_eq!(words[0] as u32, 0x8403_0201);
        assert_eq!(words, [words[0], 0x1413_1211, 0, 0, 0x05, 0x15, 0, 0]);
    }

    #[test]
    fn groups_follow_each_other_or_stand_side_by_side() {
        let one = per_token(&[448.0; 2 * 128], [2, 128], ScaleFormat::F32);
        let two = per_token(&[896.0; 2 * 256], [2, 256], ScaleFormat::F32);
        let operands = [one, two];
        let flat = k_grouped(&operands);
        assert_eq!(flat.ks, [128, 256]);
        assert_eq!(flat.codes.len(), 2 * 384);
        assert_eq!(flat.scales, [1.0, 1.0, 2.0, 2.0, 2.0, 2.0]);
        assert_eq!(joined_scales(&operands), [1.0, 2.0, 2.0, 1.0, 2.0, 2.0]);
    }
}
