//! Runs of rows that belong to one group, from either form of the contiguous layout.

use std::cell::RefCell;
use std::ops::Range;

/// Consecutive rows of one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Rows of A and D.
    pub(crate) rows: Range<usize>,
    /// Their group; `None` is padding.
    pub(crate) group: Option<usize>,
}

/// An entry that no group answers to; its rows count as padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadEntry {
    /// Index into `grouped_layout`, or of the group in `expert_offsets`.
    pub(crate) idx: usize,
    /// The value found.
    pub(crate) value: i32,
}

thread_local! {
    static SEGMENTS: RefCell<Vec<Segment>> = const { RefCell::new(Vec::new()) };
}

/// Lends an empty list that keeps its capacity from call to call.
pub(crate) fn with_segments<R>(f: impl FnOnce(&mut Vec<Segment>) -> R) -> R {
    let mut segments = SEGMENTS.take();
    segments.clear();
    let result = f(&mut segments);
    SEGMENTS.set(segments);
    result
}

/// Splits rows by `grouped_layout` (INT32 `[m]`: group of each row, -1 = padding).
///
/// Appends segments that cover every row once, in order; returns the first bad entry.
pub(crate) fn from_grouped_layout(
    grouped_layout: &[i32],
    num_groups: usize,
    segments: &mut Vec<Segment>,
) -> Option<BadEntry> {
    let mut bad = None;
    for (row, &value) in grouped_layout.iter().enumerate() {
        let group = usize::try_from(value).ok().filter(|&group| group < num_groups);
        if group.is_none() && value != -1 && bad.is_none() {
            bad = Some(BadEntry { idx: row, value });
        }
        match segments.last_mut() {
            Some(last) if last.group == group && last.rows.end == row => last.rows.end += 1,
            _ => segments.push(Segment { rows: row..row + 1, group }),
        }
    }
    bad
}

/// Splits `m` rows by `expert_offsets` (INT32 `[num_groups + 1]`) and the valid rows of each group
/// (INT32 `[num_groups]`); what no group claims is padding.
///
/// Appends segments that cover every row once, in order. Offsets that descend or pass `m` and
/// counts that are negative or pass the next offset are clipped; returns the first of them.
pub(crate) fn from_offsets(
    expert_offsets: &[i32],
    num_rows_per_group: &[i32],
    m: usize,
    segments: &mut Vec<Segment>,
) -> Option<BadEntry> {
    let mut bad = None;
    let mut push = |rows: Range<usize>, group| {
        if !rows.is_empty() {
            segments.push(Segment { rows, group });
        }
    };
    let mut done = 0;
    for (group, &count) in num_rows_per_group.iter().enumerate() {
        let mut clip = |value: i32, low: usize, high: usize| {
            let clipped = usize::try_from(value).unwrap_or(0).clamp(low, high);
            if clipped as i64 != i64::from(value) && bad.is_none() {
                bad = Some(BadEntry { idx: group, value });
            }
            clipped
        };
        let first = clip(expert_offsets[group], done, m);
        let next = clip(expert_offsets[group + 1], first, m);
        let valid = clip(count, 0, next - first);
        push(done..first, None);
        push(first..first + valid, Some(group));
        push(first + valid..next, None);
        done = next;
    }
    push(done..m, None);
    bad
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(rows: Range<usize>, group: i32) -> Segment {
        Segment { rows, group: usize::try_from(group).ok() }
    }

    #[test]
    fn equal_neighbours_form_one_segment() {
        let mut segments = Vec::new();
        let bad = from_grouped_layout(&[2, 2, -1, -1, 0, 2], 3, &mut segments);
        let want = [segment(0..2, 2), segment(2..4, -1), segment(4..5, 0), segment(5..6, 2)];
        assert_eq!((bad, &segments[..]), (None, &want[..]));
    }

    #[test]
    fn a_group_out_of_range_is_padding_and_reported_once() {
        let mut segments = Vec::new();
        let bad = from_grouped_layout(&[0, 3, -7], 3, &mut segments);
        assert_eq!(bad, Some(BadEntry { idx: 1, value: 3 }));
        assert_eq!(segments, [segment(0..1, 0), segment(1..3, -1)]);
    }

    #[test]
    fn offsets_leave_padding_within_and_behind_the_groups() {
        let mut segments = Vec::new();
        let bad = from_offsets(&[0, 4, 4, 8], &[2, 0, 4], 9, &mut segments);
        let want = [segment(0..2, 0), segment(2..4, -1), segment(4..8, 2), segment(8..9, -1)];
        assert_eq!((bad, &segments[..]), (None, &want[..]));
    }

    #[test]
    fn wild_offsets_are_clipped_and_every_row_is_covered_once() {
        for (offsets, counts) in [
            ([0, 100, 5], [3, 1]),
            ([-4, 2, 6], [2, 9]),
            ([4, 2, 6], [-1, 2]),
            ([0, 3, i32::MAX], [i32::MIN, i32::MAX]),
        ] {
            let mut segments = Vec::new();
            let bad = from_offsets(&offsets, &counts, 6, &mut segments);
            assert!(bad.is_some(), "{offsets:?} {counts:?}");
            let rows: Vec<usize> = segments.iter().flat_map(|s| s.rows.clone()).collect();
            assert_eq!(rows, (0..6).collect::<Vec<_>>(), "{offsets:?} {counts:?}");
        }
    }
}
