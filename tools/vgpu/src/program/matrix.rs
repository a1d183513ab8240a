//! Tensor-core instructions: `wgmma`, `mma.sync`, `ldmatrix`, `stmatrix`.

use super::alu::operand;
use super::builder::{Builder, Gap};
use super::inst::{Op, Reg, Space};
use super::operands::Dest;
use crate::ops::Class;
use crate::ptx::ast::{Instruction, Operand};

/// Element of a factor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Element {
    F16,
    Bf16,
    Tf32,
    E4m3,
    E5m2,
    S8,
    U8,
}

impl Element {
    pub(crate) fn bytes(self) -> usize {
        match self {
            Element::F16 | Element::Bf16 => 2,
            Element::Tf32 => 4,
            _ => 1,
        }
    }

    pub(crate) fn is_fp8(self) -> bool {
        matches!(self, Element::E4m3 | Element::E5m2)
    }

    fn find(name: &str) -> Option<Self> {
        Some(match name {
            "f16" => Element::F16,
            "bf16" => Element::Bf16,
            "tf32" => Element::Tf32,
            "e4m3" => Element::E4m3,
            "e5m2" => Element::E5m2,
            "s8" => Element::S8,
            "u8" => Element::U8,
            _ => return None,
        })
    }
}

/// Element of the sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sum {
    F32,
    F16,
    S32,
}

/// Types and sizes of a product of 16 rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Product {
    pub a: Element,
    pub b: Element,
    pub sum: Sum,
    /// Columns.
    pub n: u16,
    /// Bytes of a row of A: 32 or 16.
    pub depth: u8,
    pub saturates: bool,
}

impl Product {
    /// Multiplications.
    pub(crate) fn macs(self) -> u64 {
        16 * u64::from(self.n) * (usize::from(self.depth) / self.a.bytes()) as u64
    }

    /// Registers of a thread that hold the sum.
    pub(crate) fn sum_registers(self) -> usize {
        usize::from(self.n) / if self.sum == Sum::F16 { 4 } else { 2 }
    }

    /// From the types of the sum and the factors.
    fn find(sum: &str, a: &str, b: &str, n: u16, depth: u8, saturates: bool) -> Option<Self> {
        let (a, b) = (Element::find(a)?, Element::find(b)?);
        let sum = match sum {
            "f32" => Sum::F32,
            "f16" => Sum::F16,
            "s32" => Sum::S32,
            _ => return None,
        };
        let integers = |it: Element| matches!(it, Element::S8 | Element::U8);
        let fits = match (a, b, sum) {
            (Element::F16, Element::F16, Sum::F16 | Sum::F32) => true,
            (Element::Bf16, Element::Bf16, Sum::F32) => true,
            (Element::Tf32, Element::Tf32, Sum::F32) => true,
            (_, _, Sum::F16 | Sum::F32) => a.is_fp8() && b.is_fp8(),
            (_, _, Sum::S32) => integers(a) && integers(b),
        };
        fits.then_some(Product { a, b, sum, n, depth, saturates })
    }
}

/// `wgmma.mma_async`. Pairs are those of A and B.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wgmma {
    pub product: Product,
    pub a_in_registers: bool,
    pub negate: [bool; 2],
    /// K is the slower dimension in shared memory.
    pub transposed: [bool; 2],
}

/// Instructions of the tensor cores; the whole warp executes them together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MatrixOp {
    /// `wgmma.fence`.
    Fence,
    /// `wgmma.commit_group`.
    Commit,
    /// `wgmma.wait_group`.
    Wait { keep: u32 },
    /// Defs: sum; uses: sum, A (descriptor or four registers), descriptor of B, whether the sum counts.
    Wgmma(Wgmma),
    /// Defs: sum; uses: A, B, sum before.
    Mma(Product),
    /// `ldmatrix`. Defs: registers; use: address.
    Load { count: u8, transposed: bool },
    /// `stmatrix`. Uses: address, registers.
    Store { count: u8, transposed: bool },
}

/// `m64n128k32` to its numbers.
fn sizes(text: &str) -> Option<[u16; 3]> {
    let (m, rest) = text.strip_prefix('m')?.split_once('n')?;
    let (n, k) = rest.split_once('k')?;
    Some([m.parse().ok()?, n.parse().ok()?, k.parse().ok()?])
}

impl<'p, 'a> Builder<'p, 'a> {
    pub(super) fn wgmma(&mut self, it: &'p Instruction<'a>) -> Result<(), Gap> {
        let parts: Vec<&str> = it.opcode.split('.').collect();
        let op = match parts.get(1) {
            Some(&"fence") => MatrixOp::Fence,
            Some(&"commit_group") => MatrixOp::Commit,
            Some(&"wait_group") => {
                let keep = operand(it, 0)?.int().and_then(|n| u32::try_from(n).ok());
                MatrixOp::Wait { keep: keep.ok_or("a number of groups that is no constant")? }
            }
            Some(&"mma_async") => return self.wgmma_product(it, &parts),
            _ => return Err(format!("vgpu has no `{}`", it.opcode)),
        };
        self.emit(Op::Matrix(op), &[], &[]);
        Ok(())
    }

    fn wgmma_product(&mut self, it: &'p Instruction<'a>, parts: &[&str]) -> Result<(), Gap> {
        let none = || format!("vgpu has no `{}`", it.opcode);
        let [.., sum, a, b] = parts else { return Err(none()) };
        let [m, n, k] = parts.get(4).and_then(|part| sizes(part)).ok_or_else(none)?;
        let saturates = parts.contains(&"satfinite");
        let product = Product::find(sum, a, b, n, 32, saturates).ok_or_else(none)?;
        let steps = if product.sum == Sum::S32 && n > 24 { 16 } else { 8 };
        let fits = m == 64
            && usize::from(k) * product.a.bytes() == 32
            && (8..=256).contains(&n)
            && n.is_multiple_of(steps);
        if !fits || parts.contains(&"sp") {
            return Err(none());
        }
        let (dests, mut uses) = self.sums(operand(it, 0)?, product)?;
        let a_in_registers = matches!(operand(it, 1)?, Operand::Vector(_));
        if a_in_registers {
            uses.extend(self.words(operand(it, 1)?, 4)?);
        } else {
            uses.push(self.source(operand(it, 1)?, Class::R64, false)?);
        }
        uses.push(self.source(operand(it, 2)?, Class::R64, false)?);
        uses.push(self.source(operand(it, 3)?, Class::Pred, false)?);
        let flags: Vec<i64> =
            it.operands[4..].iter().filter_map(|it| it.int()).map(|n| n as i64).collect();
        let short = product.a.bytes() == 2;
        let (negate, transposed) = match flags.as_slice() {
            [] if product.sum == Sum::S32 => ([false; 2], [false; 2]),
            [a, b] if !short => ([*a < 0, *b < 0], [false; 2]),
            [a, b, t] if short && a_in_registers => ([*a < 0, *b < 0], [false, *t == 1]),
            [a, b, s, t] if short && !a_in_registers => ([*a < 0, *b < 0], [*s == 1, *t == 1]),
            _ => return Err("the wrong number of scales and transposes".into()),
        };
        let op = MatrixOp::Wgmma(Wgmma { product, a_in_registers, negate, transposed });
        let regs: Vec<Reg> = dests.iter().map(|dest| dest.reg).collect();
        self.emit(Op::Matrix(op), &regs, &uses);
        dests.into_iter().try_for_each(|dest| self.finish(dest))
    }

    /// The registers of a sum, to write and to read.
    fn sums(
        &mut self,
        operand: &Operand<'a>,
        product: Product,
    ) -> Result<(Vec<Dest>, Vec<Reg>), Gap> {
        let regs = self.words(operand, product.sum_registers())?;
        let Operand::Vector(parts) = operand else { return Err("a sum that is no vector".into()) };
        let mut dests = Vec::with_capacity(parts.len());
        for part in parts {
            dests.push(self.dest(part, Class::R32, false)?);
        }
        Ok((dests, regs))
    }

    /// A vector of 32-bit sources.
    fn words(&mut self, operand: &Operand<'a>, count: usize) -> Result<Vec<Reg>, Gap> {
        let parts = super::atomics::elements(operand);
        if parts.len() != count {
            return Err(format!("{} registers, not {count}", parts.len()));
        }
        parts.iter().map(|part| self.source(part, Class::R32, false)).collect()
    }

    /// `mma.sync.aligned.m16n8kK.row.col{.satfinite}.sum.a.b.sum d, a, b, c`.
    pub(super) fn mma(&mut self, it: &'p Instruction<'a>) -> Result<(), Gap> {
        let none = || format!("vgpu has no `{}`", it.opcode);
        let parts: Vec<&str> = it.opcode.split('.').collect();
        let [.., sum, a, b, before] = parts.as_slice() else { return Err(none()) };
        let [m, n, k] = parts.get(3).and_then(|part| sizes(part)).ok_or_else(none)?;
        let saturates = parts.contains(&"satfinite");
        let product = Product::find(sum, a, b, n, 32, saturates).ok_or_else(none)?;
        let depth = usize::from(k) * product.a.bytes();
        let plain = parts.iter().any(|part| part.starts_with("kind") || *part == "sp");
        let fits = m == 16 && n == 8 && matches!(depth, 16 | 32) && sum == before && !plain;
        if !fits || parts.get(4..6) != Some(&["row", "col"]) {
            return Err(none());
        }
        let product = Product { depth: depth as u8, ..product };
        let (dests, _) = self.sums(operand(it, 0)?, product)?;
        let mut uses = self.words(operand(it, 1)?, depth / 8)?;
        uses.extend(self.words(operand(it, 2)?, depth / 16)?);
        uses.extend(self.words(operand(it, 3)?, product.sum_registers())?);
        let regs: Vec<Reg> = dests.iter().map(|dest| dest.reg).collect();
        self.emit(Op::Matrix(MatrixOp::Mma(product)), &regs, &uses);
        dests.into_iter().try_for_each(|dest| self.finish(dest))
    }

    /// `ldmatrix` and `stmatrix` of 8x8 matrices of 16 bits.
    pub(super) fn matrix_move(&mut self, it: &'p Instruction<'a>) -> Result<(), Gap> {
        let parts: Vec<&str> = it.opcode.split('.').collect();
        let has = |name: &str| parts.contains(&name);
        let count = [("x1", 1), ("x2", 2), ("x4", 4)].into_iter().find(|(name, _)| has(name));
        let (Some((_, count)), true, true) = (count, has("m8n8"), has("b16")) else {
            return Err(format!("vgpu has no `{}`", it.opcode));
        };
        let space = if parts.iter().any(|part| part.starts_with("shared")) {
            Space::Shared
        } else {
            Space::Generic
        };
        let transposed = has("trans");
        if parts[0] == "stmatrix" {
            let mut uses = vec![self.generic_address(operand(it, 0)?, space)?];
            uses.extend(self.words(operand(it, 1)?, count.into())?);
            self.emit(Op::Matrix(MatrixOp::Store { count, transposed }), &[], &uses);
            return Ok(());
        }
        let address = self.generic_address(operand(it, 1)?, space)?;
        let mut dests = Vec::with_capacity(4);
        for part in super::atomics::elements(operand(it, 0)?) {
            dests.push(self.dest(part, Class::R32, false)?);
        }
        if dests.len() != usize::from(count) {
            return Err(format!("{} registers, not {count}", dests.len()));
        }
        let regs: Vec<Reg> = dests.iter().map(|dest| dest.reg).collect();
        self.emit(Op::Matrix(MatrixOp::Load { count, transposed }), &regs, &[address]);
        dests.into_iter().try_for_each(|dest| self.finish(dest))
    }
}
