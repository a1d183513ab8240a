//! Which rows hold tokens, looked up on the host.

use super::Cpu;
use crate::moe::Rows;

impl Rows<'_, Cpu> {
    /// Whether row `row` of group `group` (of `m` rows each) holds a token.
    #[inline]
    pub(super) fn has_token(&self, [group, row]: [usize; 2], m: usize) -> bool {
        match self {
            Self::All => true,
            Self::PerRow(layout) => layout.as_span()[group * m + row] >= 0,
            Self::Masked(masked_m) => (row as i64) < i64::from(masked_m.as_span()[group]),
            Self::Offsets { expert_offsets, num_recv_tokens_per_expert } => {
                let (row, offsets) = ((group * m + row) as i64, expert_offsets.as_span());
                let after = offsets.partition_point(|&offset| i64::from(offset) <= row);
                if after == 0 || after == offsets.len() {
                    return false;
                }
                row - i64::from(offsets[after - 1])
                    < i64::from(num_recv_tokens_per_expert.as_span()[after - 1])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::TensorRef;

    fn tokens(rows: &Rows<'_, Cpu>, num_groups: usize, m: usize) -> Vec<bool> {
        let all = (0..num_groups).flat_map(|group| (0..m).map(move |row| [group, row]));
        all.map(|row| rows.has_token(row, m)).collect()
    }

    #[test]
    fn segments_hold_their_tokens_in_front_and_empty_ones_hold_none() {
        let (offsets, num_recv_tokens_per_expert) = ([0, 3, 3, 5], [2, 0, 9]);
        let rows = Rows::Offsets {
            expert_offsets: TensorRef::from_slice(&offsets, [4]).expect("4 offsets"),
            num_recv_tokens_per_expert: TensorRef::from_slice(&num_recv_tokens_per_expert, [3])
                .expect("3 counts"),
        };
        assert_eq!(tokens(&rows, 1, 7), [true, true, false, true, true, false, false]);
    }

    #[test]
    fn masked_groups_hold_their_tokens_in_front() {
        let masked_m = [1, 0, 9];
        let rows = Rows::Masked(TensorRef::from_slice(&masked_m, [3]).expect("3 counts"));
        assert_eq!(tokens(&rows, 3, 2), [true, false, false, false, true, true]);
    }

    #[test]
    fn negative_groups_are_padding() {
        let layout = [0, -1, 2];
        let rows = Rows::PerRow(TensorRef::from_slice(&layout, [3]).expect("3 rows"));
        assert_eq!(tokens(&rows, 1, 3), [true, false, true]);
    }
}
