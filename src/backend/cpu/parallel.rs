//! Loops over rows, split between rayon's threads.

use std::ops::Range;

use rayon::prelude::*;

/// Bytes that one piece of work touches at least: below, handing it over costs more than it saves.
const PIECE_BYTES: usize = 256 << 10;

/// Calls `body` on ranges that cover `0..num_items` once; in parallel from two pieces of work on.
pub(super) fn for_each_range(
    num_items: usize,
    item_bytes: usize,
    body: impl Fn(Range<usize>) + Sync,
) {
    let per_piece = (PIECE_BYTES / item_bytes.max(1)).max(1);
    if num_items <= per_piece || rayon::current_num_threads() == 1 {
        if num_items > 0 {
            body(0..num_items);
        }
        return;
    }
    (0..num_items.div_ceil(per_piece)).into_par_iter().for_each(|piece| {
        let start = piece * per_piece;
        body(start..num_items.min(start + per_piece));
    });
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn every_item_is_visited_once() {
        for (num_items, item_bytes) in [(0, 8), (1, 0), (7, 1 << 20), (100_000, 100)] {
            let visits: Vec<AtomicU32> = (0..num_items).map(|_| AtomicU32::new(0)).collect();
            for_each_range(num_items, item_bytes, |range| {
                for item in range {
                    visits[item].fetch_add(1, Ordering::Relaxed);
                }
            });
            assert!(
                visits.iter().all(|v| v.load(Ordering::Relaxed) == 1),
                "{num_items} items of {item_bytes} bytes"
            );
        }
    }
}
