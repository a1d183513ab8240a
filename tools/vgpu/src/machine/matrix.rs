//! Tensor-core instructions: which is which, and those of a single warp.

use super::engine::aligned;
use super::exec::Exec;
use super::multiply::{Lanes, ROWS, Source, Task};
use super::warp::{Split, Wait};
use super::{Flow, Trap};
use crate::ops::LANES;
use crate::program::Inst;
use crate::program::matrix::{MatrixOp, Product};

impl Exec<'_, '_> {
    pub(super) fn matrix(&mut self, inst: &Inst, op: MatrixOp, active: u32) -> Result<Flow, Trap> {
        if active != self.warp.alive {
            self.check_convergence(active)?;
            return Ok(Flow::Wait(Wait::Converge(self.warp.alive)));
        }
        match op {
            MatrixOp::Fence => self.warp.flight.fence(),
            MatrixOp::Commit => self.warp.flight.num_committed += 1,
            MatrixOp::Wait { keep } => return Ok(self.wait_products(keep)),
            MatrixOp::Wgmma(op) => self.wgmma(inst, op)?,
            MatrixOp::Mma(product) => self.mma(inst, product),
            MatrixOp::Load { count, transposed } => {
                self.move_matrices(inst, count, transposed, true)?
            }
            MatrixOp::Store { count, transposed } => {
                self.move_matrices(inst, count, transposed, false)?;
            }
        }
        Ok(Flow::Next)
    }

    /// Threads that wait at another `.aligned` instruction will never come to this one.
    fn check_convergence(&mut self, active: u32) -> Result<(), Trap> {
        let elsewhere =
            |split: &&Split| matches!(split.wait, Wait::Converge(_)) && split.pc != self.pc;
        let Some(other) = self.warp.splits.iter().find(elsewhere).copied() else { return Ok(()) };
        self.cluster.other = Some(self.site(other.pc, other.mask.trailing_zeros()));
        let message = "the threads of a warp are at different .aligned instructions";
        Err(Trap::misuse(message, active.trailing_zeros()))
    }

    /// Rows of A from registers `first` on: register `r` of a thread holds 4 bytes of row
    /// `lane / 4 + 8 * (r % 2)` from byte `4 * (lane % 4) + 16 * (r / 2)` on.
    pub(super) fn a_fragment(&self, inst: &Inst, first: usize, count: usize) -> Vec<u8> {
        let depth = 8 * count;
        let mut out = vec![0; ROWS * depth];
        for r in 0..count {
            let words = self.warp.registers.r32(self.used(inst, first + r));
            for (lane, word) in words.iter().enumerate() {
                let at = (lane / 4 + r % 2 * 8) * depth + lane % 4 * 4 + r / 2 * 16;
                out[at..at + 4].copy_from_slice(&word.to_le_bytes());
            }
        }
        out
    }

    fn mma(&mut self, inst: &Inst, product: Product) {
        let depth = usize::from(product.depth);
        let (a_count, b_count) = (depth / 8, depth / 16);
        let a = self.a_fragment(inst, 0, a_count);
        let mut b = vec![0; 8 * depth];
        for r in 0..b_count {
            let words = self.warp.registers.r32(self.used(inst, a_count + r));
            for (lane, word) in words.iter().enumerate() {
                let at = lane / 4 * depth + lane % 4 * 4 + r * 16;
                b[at..at + 4].copy_from_slice(&word.to_le_bytes());
            }
        }
        let first = a_count + b_count;
        let mut sum: Vec<Lanes> = (first..first + product.sum_registers())
            .map(|i| *self.warp.registers.r32(self.used(inst, i)))
            .collect();
        let (a, b) = (Source::Whole(&a), Source::Whole(&b));
        let task = Task { product, a, b, negate: [false; 2], adds: true };
        self.grid.multiplier.multiply_in_warp(&task, &mut sum);
        for (i, values) in sum.iter().enumerate() {
            let dest = self.def(inst, i);
            *self.warp.registers.r32_mut(dest) = *values;
        }
    }

    /// `ldmatrix` and `stmatrix`: thread `8i + r` has the address of row `r` of matrix `i`.
    fn move_matrices(
        &mut self,
        inst: &Inst,
        count: u8,
        transposed: bool,
        loads: bool,
    ) -> Result<(), Trap> {
        let addresses = *self.warp.registers.r64(self.used(inst, 0));
        for i in 0..usize::from(count) {
            let mut matrix = [[0u16; 8]; 8];
            let lanes = |lane: usize| (lane / 4, lane % 4 * 2);
            if !loads {
                let words = self.warp.registers.r32(self.used(inst, 1 + i));
                for (lane, word) in words.iter().enumerate() {
                    let (row, column) = lanes(lane);
                    for (j, half) in [*word as u16, (word >> 16) as u16].into_iter().enumerate() {
                        let (r, c) = if transposed { (column + j, row) } else { (row, column + j) };
                        matrix[r][c] = half;
                    }
                }
            }
            for (r, row) in matrix.iter_mut().enumerate() {
                let lane = 8 * i + r;
                aligned(addresses[lane], 16, "matrix row", lane)?;
                let mut bytes: Vec<u8> = row.iter().flat_map(|x| x.to_le_bytes()).collect();
                let view = &mut self.grid.view;
                let done = if loads {
                    bytes.clear();
                    self.cluster.append(view, addresses[lane], 16, &mut bytes)
                } else {
                    self.cluster.put(view, addresses[lane], &bytes, None)
                };
                done.map_err(|kind| Trap::new(kind, lane as u32))?;
                self.observe_plain(addresses[lane], 16, !loads, lane)?;
                for (x, pair) in row.iter_mut().zip(bytes.chunks_exact(2)) {
                    *x = u16::from_le_bytes([pair[0], pair[1]]);
                }
            }
            if loads {
                let dest = self.def(inst, i);
                let words: &mut [u32; LANES] = self.warp.registers.r32_mut(dest);
                for (lane, word) in words.iter_mut().enumerate() {
                    let (row, column) = lanes(lane);
                    let at = |j: usize| match transposed {
                        true => u32::from(matrix[column + j][row]),
                        false => u32::from(matrix[row][column + j]),
                    };
                    *word = at(0) | at(1) << 16;
                }
            }
        }
        Ok(())
    }
}
