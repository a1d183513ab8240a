//! Walks the tiles of one or many products, in parallel.
//!
//! A task is some rows times some panels of one product. It packs its rows for all of K once; then
//! it takes each panel through K, one 128-block at a time: pack the block (it stays in the first-level
//! cache), multiply it with all rows, forget it. What one row gets does not depend on which
//! task it falls into, nor on the other rows there.

use std::ops::Range;

use rayon::prelude::*;

use super::BLOCK_K;
use super::arith::{Ahead, Arith, PanelMut, Step};
use super::scratch::{Scratch, with_offsets, with_scratch};
use super::view::{KBlock, Operand, SharedOut};

/// Rows that share one packed panel: packing costs as much as multiplying some ten rows.
const MAX_ROWS_PER_TASK: usize = 512;
/// Tasks per thread, so that threads end at about the same time.
const TASKS_PER_THREAD: usize = 8;
/// Panels that share packed rows, unless threads would idle.
const MIN_PANELS_PER_TASK: usize = 4;
/// K-blocks ahead of which the columns are fetched from memory.
const PREFETCH_BLOCKS: usize = 3;

/// `d = a bᵀ`: A `[m, k]`, B `[n, k]`, D `[m, n]`.
#[derive(Clone, Copy)]
pub(crate) struct Product<'a, M> {
    pub(super) a: M,
    pub(super) b: M,
    pub(super) d: SharedOut<'a>,
    /// What multiplies the sums of each row, `[m]`.
    pub(super) row_weights: Option<&'a [f32]>,
    pub(super) m: usize,
    pub(super) n: usize,
    pub(super) k: usize,
}

impl<M: Operand> Product<'_, M> {
    fn assert_extents(&self) {
        self.a.assert_holds(self.m, self.k);
        self.b.assert_holds(self.n, self.k);
        self.d.assert_holds(self.m, self.n);
        assert!(self.row_weights.is_none_or(|weights| weights.len() >= self.m), "weights of rows");
    }

    fn num_row_tiles(&self) -> usize {
        self.m.div_ceil(MAX_ROWS_PER_TASK)
    }

    /// Row tiles of nearly equal height.
    fn rows_of_tile(&self, tile: usize) -> Range<usize> {
        let num_tiles = self.num_row_tiles();
        self.m * tile / num_tiles..self.m * (tile + 1) / num_tiles
    }
}

/// Computes `num_products` products, whose results must not overlap.
pub(super) fn multiply_all<'a, M: Operand, A: Arith<M>>(
    arith: A,
    num_products: usize,
    product: impl Fn(usize) -> Product<'a, M> + Sync,
) {
    let num_panels = |p: &Product<'_, M>| p.n.div_ceil(A::PANEL);
    let num_threads = rayon::current_num_threads();
    let num_tiles: usize = (0..num_products)
        .map(|idx| {
            let p = product(idx);
            p.assert_extents();
            p.num_row_tiles() * num_panels(&p)
        })
        .sum();
    let panels_per_task = panels_per_task(num_tiles, num_threads);

    with_offsets(|offsets| {
        let mut num_tasks = 0;
        for idx in 0..num_products {
            offsets.push(num_tasks);
            let p = product(idx);
            num_tasks += p.num_row_tiles() * num_panels(&p).div_ceil(panels_per_task);
        }
        let offsets = &*offsets;
        let run = |task: usize| {
            let idx = offsets.partition_point(|&first| first <= task) - 1;
            let p = product(idx);
            let (chunk, tile) = (
                (task - offsets[idx]) / p.num_row_tiles(),
                (task - offsets[idx]) % p.num_row_tiles(),
            );
            let first = chunk * panels_per_task;
            let panels = first..num_panels(&p).min(first + panels_per_task);
            with_scratch(|scratch| run_task(arith, &p, p.rows_of_tile(tile), panels, scratch));
        };
        if num_threads == 1 || num_tasks <= 1 {
            (0..num_tasks).for_each(run);
        } else {
            (0..num_tasks).into_par_iter().with_max_len(1).for_each(run);
        }
    });
}

fn panels_per_task(num_tiles: usize, num_threads: usize) -> usize {
    if num_threads == 1 {
        return num_tiles.max(1);
    }
    let balanced = num_tiles / (num_threads * TASKS_PER_THREAD);
    balanced.max(MIN_PANELS_PER_TASK.min(num_tiles.div_ceil(num_threads))).max(1)
}

fn run_task<M: Operand, A: Arith<M>>(
    arith: A,
    p: &Product<'_, M>,
    rows: Range<usize>,
    panels: Range<usize>,
    scratch: &mut Scratch,
) {
    let num_rows = rows.len();
    let num_blocks = p.k.div_ceil(BLOCK_K);
    let a = scratch.a.lend::<A::Packed>(num_blocks * num_rows * BLOCK_K);
    let a_factors = scratch.a_factors.lend::<f32>(num_blocks * num_rows);
    let b = scratch.b.lend::<A::Packed>(BLOCK_K * A::PANEL);
    let b_factors = scratch.b_factors.lend::<f32>(A::PANEL);
    let acc = scratch.acc.lend::<f32>(num_rows * A::PANEL);

    for block in KBlock::all(p.k) {
        for (i, row) in rows.clone().enumerate() {
            let at = block.idx * num_rows + i;
            let packed = &mut a[at * BLOCK_K..][..BLOCK_K];
            a_factors[at] = arith.pack_row(&p.a, row, block, packed);
        }
    }

    let width = A::num_cols_at_once(num_rows);
    let last_col = p.n.min(panels.end * A::PANEL);
    for first_col in (panels.start * A::PANEL..last_col).step_by(width) {
        let cols = first_col..last_col.min(first_col + width);
        acc.fill(0.0);
        for block in KBlock::all(p.k) {
            arith.add_block(Step {
                b: &p.b,
                cols: cols.clone(),
                block,
                ahead: ahead(p, cols.clone(), width, block.idx + PREFETCH_BLOCKS),
                a: &a[block.idx * num_rows * BLOCK_K..][..num_rows * BLOCK_K],
                a_factors: &a_factors[block.idx * num_rows..][..num_rows],
                panel: PanelMut { packed: b, factors: b_factors },
                acc,
            });
        }
        for (row, sums) in rows.clone().zip(acc.chunks_exact_mut(A::PANEL)) {
            let sums = &mut sums[..cols.len()];
            if let Some(weights) = p.row_weights {
                sums.iter_mut().for_each(|sum| *sum *= weights[row]);
            }
            // SAFETY: the task owns these rows and columns of this product, and products do not
            // overlap.
            unsafe { p.d.store(row, cols.start, sums) };
        }
    }
}

/// Where some columns' K-block lies; what passes the end of K counts on in the next columns, which the same
/// or another task takes next.
fn ahead<M>(p: &Product<'_, M>, cols: Range<usize>, width: usize, block_idx: usize) -> Ahead {
    let num_blocks = p.k.div_ceil(BLOCK_K);
    let first_col = cols.start + block_idx / num_blocks * width;
    Ahead { cols: first_col..p.n.min(first_col + width), block_idx: block_idx % num_blocks }
}
