//! Tensor-core instructions. A warp's quarter of a `wgmma` is computed when it is issued; its
//! operands in shared memory must stay as they are until the wait, which compares them.

use super::engine::aligned;
use super::exec::Exec;
use super::multiply::{ROWS, decode, multiply};
use super::warp::Wait;
use super::{Flow, Trap};
use crate::fault::FaultKind;
use crate::ops::LANES;
use crate::program::matrix::{MatrixOp, Product, Sum};
use crate::program::{Inst, SHARED_WINDOW};
use crate::tensor_map::Swizzle;

/// Bytes of K of one `wgmma`.
const DEPTH: usize = 32;

/// Rows of a factor in shared memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Factor {
    descriptor: u64,
    first: usize,
    count: usize,
    /// K is the slower dimension; elements of 16 bits only.
    transposed: bool,
}

/// A `wgmma` that nobody has waited for.
#[derive(Clone, Debug)]
pub(crate) struct InFlight {
    group: u32,
    pc: u32,
    factors: Vec<(Factor, u64)>,
}

impl Factor {
    /// Offsets of its 16-byte chunks in the CTA's shared memory: for each row and half of K, or, if
    /// transposed, for each eight rows and step of K. PTX ISA, "Strides" and "Matrix descriptor".
    fn chunks(&self) -> Result<Vec<u32>, String> {
        let field = |low: u32| ((self.descriptor >> low & 0x3fff) << 4) as u32;
        let (start, leading, stride) = (field(0), field(16), field(32));
        if self.descriptor >> 49 & 7 != 0 {
            return Err("a matrix descriptor with a base offset".into());
        }
        let swizzle = match self.descriptor >> 62 {
            0 => Swizzle::None,
            1 => Swizzle::Bytes128,
            2 => Swizzle::Bytes64,
            _ => Swizzle::Bytes32,
        };
        let mut out = Vec::with_capacity(2 * self.count);
        let (outer, inner) = if self.transposed { (8, 16) } else { (1, 2) };
        for i in (self.first / outer..(self.first + self.count) / outer).map(|i| i as u32) {
            for j in 0..inner {
                let offset = match (self.transposed, swizzle.span()) {
                    (false, None) => i % 8 * 16 + i / 8 * stride + j * leading,
                    (false, Some(span)) => i % 8 * span + i / 8 * stride + j * 16,
                    (true, None) => i * stride + j % 8 * 16 + j / 8 * leading,
                    (true, Some(span)) => {
                        let wide = span / 16;
                        i % wide * 16 + i / wide * leading + j % 8 * span + j / 8 * stride
                    }
                };
                out.push(swizzle.apply(start + offset));
            }
        }
        Ok(out)
    }

    /// Rows of 32 bytes from the bytes of the chunks.
    fn rows(&self, chunks: &[u8]) -> Vec<u8> {
        if !self.transposed {
            return chunks.to_vec();
        }
        let mut out = vec![0; self.count * DEPTH];
        for (i, pair) in chunks.chunks_exact(2).enumerate() {
            // Chunk `i / 8` holds eight rows of one step of K.
            let (chunk, within) = (i / 8, i % 8);
            let (row, k) = (chunk / 16 * 8 + within, chunk % 16);
            out[row * DEPTH + 2 * k..][..2].copy_from_slice(pair);
        }
        out
    }
}

impl Exec<'_, '_> {
    pub(super) fn matrix(&mut self, inst: &Inst, op: MatrixOp, active: u32) -> Result<Flow, Trap> {
        if active != self.warp.alive {
            return Ok(Flow::Wait(Wait::Converge(self.warp.alive)));
        }
        match op {
            MatrixOp::Fence => {}
            MatrixOp::Commit => self.warp.products_committed += 1,
            MatrixOp::Wait { keep } => self.wait_products(keep)?,
            MatrixOp::Wgmma { .. } => self.wgmma(inst, op)?,
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

    /// Bytes of a factor's chunks, and their hash.
    fn factor(&mut self, factor: &Factor) -> Result<(Vec<u8>, u64), Trap> {
        let chunks = factor.chunks().map_err(|message| Trap::misuse(message, 0))?;
        let rank = (self.warp.cta as u32) << 24;
        let mut bytes = Vec::with_capacity(16 * chunks.len());
        for chunk in chunks {
            let address = SHARED_WINDOW + u64::from(rank | chunk);
            self.cluster
                .append(&mut self.grid.view, address, 16, &mut bytes)
                .map_err(|kind| Trap::new(kind, 0))?;
        }
        let mut hash = 0xcbf2_9ce4_8422_2325u64;
        for word in bytes.chunks_exact(8) {
            let mut eight = [0; 8];
            eight.copy_from_slice(word);
            hash = (hash ^ u64::from_le_bytes(eight)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            hash ^= hash >> 29;
        }
        Ok((bytes, hash))
    }

    fn wgmma(&mut self, inst: &Inst, op: MatrixOp) -> Result<(), Trap> {
        let MatrixOp::Wgmma {
            product,
            a_in_registers,
            negate_a,
            negate_b,
            transpose_a,
            transpose_b,
        } = op
        else {
            return Ok(());
        };
        let sums = product.sum_registers();
        let mut factors = Vec::with_capacity(2);
        let (a, b_at) = if a_in_registers {
            (self.a_fragment(inst, sums, 4), sums + 4)
        } else {
            let descriptor = self.operand(inst, sums, 0);
            let first = self.warp.index as usize % 4 * ROWS;
            let factor = Factor { descriptor, first, count: ROWS, transposed: transpose_a };
            let (bytes, hash) = self.factor(&factor)?;
            self.observe_factor(&factor.chunks().unwrap_or_default())?;
            factors.push((factor, hash));
            (factor.rows(&bytes), sums + 1)
        };
        let descriptor = self.operand(inst, b_at, 0);
        let count = usize::from(product.n);
        let factor = Factor { descriptor, first: 0, count, transposed: transpose_b };
        let (bytes, hash) = self.factor(&factor)?;
        self.observe_factor(&factor.chunks().unwrap_or_default())?;
        factors.push((factor, hash));
        let a = decode(product.a, &a, negate_a);
        let b = decode(product.b, &factor.rows(&bytes), negate_b);
        let counts = self.warp.registers.pred(self.used(inst, b_at + 1)) & 1 == 1;
        let mut sum = if counts {
            self.sum_fragment(inst, 0, product)
        } else {
            vec![0; ROWS * usize::from(product.n)]
        };
        multiply(product, &a, &b, &mut sum, self.grid.shape.truncates_fp8);
        self.set_sum(inst, product, &sum);
        let group = self.warp.products_committed;
        self.warp.products.push(InFlight { group, pc: self.pc, factors });
        Ok(())
    }

    /// Operands of products that are waited for must not have changed.
    fn wait_products(&mut self, keep: u32) -> Result<(), Trap> {
        let limit = self.warp.products_committed.saturating_sub(keep);
        self.observe_products_wait(limit);
        let all = std::mem::take(&mut self.warp.products);
        let (due, rest) = all.into_iter().partition(|it| it.group < limit);
        self.warp.products = rest;
        let due: Vec<InFlight> = due;
        for product in due {
            for (factor, before) in &product.factors {
                let (_, after) = self.factor(factor)?;
                if after != *before {
                    self.pc = product.pc;
                    let message = "operands in shared memory were overwritten before the wait";
                    return Err(Trap::new(FaultKind::Misuse(message.to_owned()), 0));
                }
            }
        }
        Ok(())
    }

    /// Rows of A from registers `first` on: register `r` of a thread holds 4 bytes of row
    /// `lane / 4 + 8 * (r % 2)` from byte `4 * (lane % 4) + 16 * (r / 2)` on.
    fn a_fragment(&self, inst: &Inst, first: usize, count: usize) -> Vec<u8> {
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

    /// The sum's bits, row by row, from registers `first` on.
    fn sum_fragment(&self, inst: &Inst, first: usize, product: Product) -> Vec<u32> {
        let n = usize::from(product.n);
        let mut out = vec![0; ROWS * n];
        for r in 0..product.sum_registers() {
            let words = self.warp.registers.r32(self.used(inst, first + r));
            for (lane, word) in words.iter().enumerate() {
                if product.sum == Sum::F16 {
                    let at = (lane / 4 + r % 2 * 8) * n + r / 2 * 8 + lane % 4 * 2;
                    (out[at], out[at + 1]) = (word & 0xffff, word >> 16);
                } else {
                    out[place(r, lane, n)] = *word;
                }
            }
        }
        out
    }

    fn set_sum(&mut self, inst: &Inst, product: Product, sum: &[u32]) {
        let n = usize::from(product.n);
        for r in 0..product.sum_registers() {
            let dest = self.def(inst, r);
            for (lane, word) in self.warp.registers.r32_mut(dest).iter_mut().enumerate() {
                *word = if product.sum == Sum::F16 {
                    let at = (lane / 4 + r % 2 * 8) * n + r / 2 * 8 + lane % 4 * 2;
                    sum[at] | sum[at + 1] << 16
                } else {
                    sum[place(r, lane, n)]
                };
            }
        }
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
        let (a, b) = (decode(product.a, &a, false), decode(product.b, &b, false));
        let mut sum = self.sum_fragment(inst, a_count + b_count, product);
        multiply(product, &a, &b, &mut sum, self.grid.shape.truncates_fp8);
        self.set_sum(inst, product, &sum);
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

/// Where a 32-bit element of the sum lies.
fn place(r: usize, lane: usize, n: usize) -> usize {
    (lane / 4 + r / 2 % 2 * 8) * n + r / 4 * 8 + lane % 4 * 2 + r % 2
}
