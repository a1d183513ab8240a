//! What a way of multiplying supplies: how it packs the operands, and how it multiplies them.

use std::ops::Range;

use super::view::{KBlock, Operand};

/// One way to multiply, for one instruction set and one kind of operand.
///
/// Rows of A are packed one by one, 128 of K at a time. Columns of D (rows of B) are packed in
/// panels of `PANEL`, lane by lane. A packed operand carries one FP32 factor per row or column and
/// K-block, and the result is
/// `acc = fma(sum over the block, a_factor * b_factor, acc)`, blocks in ascending K.
pub(super) trait Arith<M: Operand>: Copy + Send + Sync {
    /// A packed element; a row takes 128 of them per K-block.
    type Packed: bytemuck::Pod;

    /// Columns of a panel.
    const PANEL: usize;

    /// Packs one row of A in one K-block (128 elements, zeros from `block.len` on); returns its
    /// factor.
    fn pack_row(self, a: &M, row: usize, block: KBlock, packed: &mut [Self::Packed]) -> f32;

    /// Packs `factors.len()` (at most `PANEL`) columns from `col` on in one K-block, and their
    /// factors. Lanes without a column are unspecified. Column by column, asks memory for `ahead`: all at
    /// once would stall.
    fn pack_panel(
        self,
        b: &M,
        cols: Range<usize>,
        block: KBlock,
        ahead: Ahead,
        panel: PanelMut<'_, Self::Packed>,
    );

    /// Adds one K-block's products to `tile.acc`.
    fn multiply(self, tile: Tile<'_, Self::Packed>);

    /// Columns that [`Arith::add_block`] is given at once for this many rows; divides `PANEL`.
    fn num_cols_at_once(_num_rows: usize) -> usize {
        Self::PANEL
    }

    /// Adds one K-block's products to `step.acc`, by way of a packed panel unless there is a better one.
    fn add_block(self, step: Step<'_, M, Self::Packed>) {
        self.pack_and_multiply(step);
    }

    /// Packs the columns, then multiplies.
    fn pack_and_multiply(self, step: Step<'_, M, Self::Packed>) {
        let Step { b, cols, block, ahead, a, a_factors, panel, acc } = step;
        let PanelMut { packed, factors } = panel;
        self.pack_panel(b, cols, block, ahead, PanelMut { packed, factors });
        self.multiply(Tile { a, a_factors, b: packed, b_factors: factors, acc, k_len: block.len });
    }
}

/// One K-block's work before B is packed: all rows of a task times some columns.
pub(super) struct Step<'a, M, P> {
    pub(super) b: &'a M,
    pub(super) cols: Range<usize>,
    pub(super) block: KBlock,
    pub(super) ahead: Ahead,
    /// `[num_rows, 128]`, as packed by `pack_row`; aligned to 64 bytes.
    pub(super) a: &'a [P],
    /// `[num_rows]`.
    pub(super) a_factors: &'a [f32],
    /// Room for the columns, packed.
    pub(super) panel: PanelMut<'a, P>,
    /// `[num_rows, PANEL]`, added to.
    pub(super) acc: &'a mut [f32],
}

/// Columns in a K-block that will be packed soon.
pub(super) struct Ahead {
    pub(super) cols: Range<usize>,
    pub(super) block_idx: usize,
}

impl Ahead {
    /// Asks memory for the column that takes lane `lane`.
    #[inline(always)]
    pub(super) fn prefetch<M: Operand>(&self, b: &M, lane: usize) {
        let col = self.cols.start + lane;
        if col < self.cols.end {
            b.prefetch(col, self.block_idx);
        }
    }
}

/// One packed K-block of a panel of B, to be written.
pub(super) struct PanelMut<'a, P> {
    /// `128 * PANEL` elements, the order is the arithmetic's own; aligned to 64 bytes.
    pub(super) packed: &'a mut [P],
    /// `PANEL` factors.
    pub(super) factors: &'a mut [f32],
}

/// One K-block's work: all rows of a task times one panel.
pub(super) struct Tile<'a, P> {
    /// `[num_rows, 128]`, as packed by `pack_row`; aligned to 64 bytes.
    pub(super) a: &'a [P],
    /// `[num_rows]`.
    pub(super) a_factors: &'a [f32],
    /// As packed by `pack_panel`; aligned to 64 bytes.
    pub(super) b: &'a [P],
    /// `[PANEL]`.
    pub(super) b_factors: &'a [f32],
    /// `[num_rows, PANEL]`, added to.
    pub(super) acc: &'a mut [f32],
    /// Values of K in this block; a multiple of 16, at most 128.
    pub(super) k_len: usize,
}

impl<P> Tile<'_, P> {
    pub(super) fn num_rows(&self) -> usize {
        self.a_factors.len()
    }

    /// Panics unless the extents agree: the unsafe code of the arithmetics relies on them.
    pub(super) fn assert_extents(&self, panel: usize) {
        assert_eq!(self.a.len(), self.num_rows() * super::BLOCK_K, "packed rows");
        assert_eq!(self.b.len(), panel * super::BLOCK_K, "packed panel");
        assert_eq!(self.b_factors.len(), panel, "factors of the panel");
        assert_eq!(self.acc.len(), self.num_rows() * panel, "accumulators");
        assert!(self.k_len <= super::BLOCK_K, "values of K");
    }
}
