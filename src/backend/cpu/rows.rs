//! Walks the rows that a rank received.

use rayon::prelude::*;

use super::Cpu;
use super::row_copy::RowCopy;
use crate::moe::handle::HandleState;
use crate::moe::plan::RowLayout;

/// Rows per task: some 100 KB of tokens.
const ROWS_PER_TASK: usize = 16;

/// Calls `f(row, slot, copy)` for every valid row, in parallel; `slot` is the row's `src_info`.
pub(super) fn par_for_each_row(
    state: &HandleState<Cpu>,
    copy: RowCopy,
    f: impl Fn(usize, usize, RowCopy) + Sync,
) {
    let src_info = state.src_info.view().as_span();
    let ranges = valid_rows(state);
    (0..ranges.len()).into_par_iter().for_each(|expert| {
        let rows = ranges.get(expert);
        (0..rows.len().div_ceil(ROWS_PER_TASK)).into_par_iter().for_each(|task| {
            let start = rows.start + task * ROWS_PER_TASK;
            let rows = start..rows.end.min(start + ROWS_PER_TASK);
            copy.run(|copy| rows.for_each(|row| f(row, src_info[row] as usize, copy)));
        });
    });
}

/// Number of valid rows.
pub(super) fn num_rows(state: &HandleState<Cpu>) -> usize {
    let ranges = valid_rows(state);
    (0..ranges.len()).map(|expert| ranges.get(expert).len()).sum()
}

/// As [`par_for_each_row`], in order and on this thread; stops at the first error.
pub(super) fn try_for_each_row<E>(
    state: &HandleState<Cpu>,
    mut f: impl FnMut(usize, usize) -> Result<(), E>,
) -> Result<(), E> {
    let src_info = state.src_info.view().as_span();
    let ranges = valid_rows(state);
    for row in (0..ranges.len()).flat_map(|expert| ranges.get(expert)) {
        f(row, src_info[row] as usize)?;
    }
    Ok(())
}

/// Whether rows were clipped because they did not fit.
pub(super) fn overflowed(state: &HandleState<Cpu>) -> bool {
    let ranges = valid_rows(state);
    let num_recv = state.num_recv_tokens_per_expert.view().as_span();
    num_recv.iter().enumerate().any(|(expert, &num)| ranges.get(expert).len() < num as usize)
}

/// The valid rows of each expert.
struct ValidRows<'a> {
    offsets: &'a [i32],
    num_recv: &'a [i32],
    row_layout: RowLayout,
    num_rows: usize,
}

fn valid_rows(state: &HandleState<Cpu>) -> ValidRows<'_> {
    ValidRows {
        offsets: state.expert_offsets.view().as_span(),
        num_recv: state.num_recv_tokens_per_expert.view().as_span(),
        row_layout: state.row_layout,
        num_rows: state.src_info.shape()[0],
    }
}

impl ValidRows<'_> {
    fn len(&self) -> usize {
        self.num_recv.len()
    }

    fn get(&self, expert: usize) -> std::ops::Range<usize> {
        let num_recv = self.num_recv[expert] as usize;
        let (start, capacity) = match self.row_layout {
            RowLayout::Contiguous { .. } => {
                let start = self.offsets[expert] as usize;
                (start, self.num_rows - start)
            }
            RowLayout::Masked { max_m } => (expert * max_m, max_m),
        };
        start..start + num_recv.min(capacity)
    }
}
