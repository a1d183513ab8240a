//! The weighted return of the expert outputs, bitwise as the design prescribes it.

use half::bf16;

use crate::bf16::{round_f32s, widen};

/// What one rank's tokens get back.
#[derive(Debug, Clone, Copy)]
pub struct Returned<'a> {
    /// Row length.
    pub hidden: usize,
    /// Slots per token.
    pub num_topk: usize,
    /// INT32 `[num_tokens, num_topk]`, -1 = not selected.
    pub topk_idx: &'a [i32],
    /// FP32 `[num_tokens, num_topk]`.
    pub topk_weights: &'a [f32],
    /// BF16 `[num_tokens, num_topk, hidden]`: the row of each (token, slot); not read where not
    /// selected.
    pub rows: &'a [bf16],
}

/// Sums the rows of each token by slot, `Reduce::BySlot`, before the rounding: FP32 `[num_tokens,
/// hidden]`.
///
/// ```text
/// acc = 0
/// for slot ascending, selected only:  acc = fma(w, f32(y), acc)
/// for each addend in order:           acc = acc + addend
/// ```
///
/// `addends` FP32 `[num_tokens, hidden]` are the bias and the shared expert, in the caller's order.
///
/// # Numerics
///
/// FP32; the products enter by fused multiply-add. Bitwise.
///
/// # Panics
///
/// When a length does not fit.
#[track_caller]
pub fn by_slot_f32(returned: &Returned<'_>, addends: &[&[f32]]) -> Vec<f32> {
    let Returned { hidden, num_topk, topk_idx, topk_weights, rows } = *returned;
    assert_eq!(topk_idx.len(), topk_weights.len(), "combine: lengths of topk_idx, topk_weights");
    assert_eq!(rows.len(), topk_idx.len() * hidden, "combine: one row per (token, slot)");
    let num_tokens = topk_idx.len() / num_topk;
    let mut out = Vec::with_capacity(num_tokens * hidden);
    for token_idx in 0..num_tokens {
        for col in 0..hidden {
            let mut acc = 0.0f32;
            for slot in token_idx * num_topk..(token_idx + 1) * num_topk {
                if topk_idx[slot] != -1 {
                    acc = topk_weights[slot].mul_add(widen(rows[slot * hidden + col]), acc);
                }
            }
            for addend in addends {
                acc += addend[token_idx * hidden + col];
            }
            out.push(acc);
        }
    }
    out
}

/// Returns [`by_slot_f32`] with its one rounding to BF16.
#[track_caller]
pub fn by_slot(returned: &Returned<'_>, addends: &[&[f32]]) -> Vec<bf16> {
    round_f32s(&by_slot_f32(returned, addends))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(values: &[f32]) -> Vec<bf16> {
        round_f32s(values)
    }

    #[test]
    fn selected_rows_are_weighted_and_others_never_read() {
        let returned = Returned {
            hidden: 2,
            num_topk: 2,
            topk_idx: &[3, -1, -1, -1],
            topk_weights: &[0.5, f32::NAN, f32::NAN, f32::NAN],
            rows: &rows(&[2.0, 4.0, f32::NAN, f32::NAN, f32::NAN, f32::NAN, f32::NAN, f32::NAN]),
        };
        assert_eq!(by_slot_f32(&returned, &[]), [1.0, 2.0, 0.0, 0.0]);
        let shared = [10.0, 20.0, 30.0, 40.0];
        assert_eq!(by_slot(&returned, &[&shared]), rows(&[11.0, 22.0, 30.0, 40.0]));
    }

    #[test]
    fn slots_are_summed_in_their_order() {
        let order = |y: [f32; 3]| {
            by_slot_f32(
                &Returned {
                    hidden: 1,
                    num_topk: 3,
                    topk_idx: &[0, 1, 2],
                    topk_weights: &[1.0; 3],
                    rows: &rows(&y),
                },
                &[],
            )[0]
        };
        let large = 2f32.powi(30);
        assert_eq!(order([large, -large, 1.0]), 1.0);
        assert_eq!(order([large, 1.0, -large]), 0.0);
    }

    #[test]
    fn the_product_is_not_rounded_before_it_is_added() {
        // w * y = (1 + 2^-23) * (1 + 2^-7) needs 31 bits; minus its f32 rounding, fma leaves 2^-30.
        let (w, y) = (1.0 + f32::EPSILON, 1.0 + 2f32.powi(-7));
        let returned = Returned {
            hidden: 1,
            num_topk: 2,
            topk_idx: &[0, 1],
            topk_weights: &[-(w * y), w],
            rows: &rows(&[1.0, y]),
        };
        assert_eq!(by_slot_f32(&returned, &[]), [2f32.powi(-30)]);
    }
}
