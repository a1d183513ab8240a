//! A warp's registers that products in flight use. Until the wait for a product, its sum and its rows
//! of A may not be touched; a `mov` of the sum is fine, since the compiler makes one register of
//! both: its target takes the sum at the wait too.

use super::cluster::Site;
use super::exec::Exec;
use super::multiply::Lanes;
use super::{Trap, lanes_of};
use crate::ops::{self, LANES};
use crate::program::inst::Op;
use crate::program::matrix::MatrixOp;
use crate::program::{Inst, Kernel, Reg};

/// A product that the warp has issued and not waited for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Issued {
    pub number: u64,
    /// The warp's group of products that it belongs to.
    pub group: u32,
    pub pc: u32,
    /// Place of its sum among [`Flight::sums`].
    pub sum: usize,
}

/// Registers that products in flight add to.
#[derive(Clone, Debug)]
pub(super) struct Sum {
    /// Place in the warpgroup.
    pub chain: usize,
    /// The first product that adds to it.
    pub pc: u32,
    /// The warp's products in flight that add to it; 0 if the place is free.
    pub users: u32,
}

/// A copy of a register of a sum.
#[derive(Clone, Copy, Debug)]
struct Copied {
    to: Reg,
    sum: usize,
    register: usize,
    mask: u32,
}

/// What a warp has in flight.
#[derive(Default)]
pub(crate) struct Flight {
    pub issued: Vec<Issued>,
    /// Products issued, and groups of them ended.
    pub num_issued: u64,
    pub num_committed: u32,
    pub sums: Vec<Sum>,
    copies: Vec<Copied>,
    /// Of each row of the register file, whether it is in flight.
    rows: Vec<bool>,
    /// There was a `wgmma.fence`.
    pub is_fenced: bool,
    /// For each row, one more than the instruction that touched it since the last fence; empty if the
    /// loader saw a fence before every use.
    touched: Vec<u32>,
}

impl Flight {
    /// `traces`: fences must be looked for as the warp runs.
    pub(crate) fn new(traces: bool, num_rows: usize) -> Self {
        let touched = vec![0; if traces { num_rows } else { 0 }];
        Flight { rows: vec![false; num_rows], touched, ..Flight::default() }
    }

    /// Instructions must be looked at one by one.
    #[inline]
    pub(super) fn is_watched(&self) -> bool {
        !self.issued.is_empty() || !self.touched.is_empty()
    }

    pub(super) fn fence(&mut self) {
        self.is_fenced = true;
        self.touched.fill(0);
    }

    /// Uses of registers are remembered until the next fence.
    pub(super) fn traces(&self) -> bool {
        !self.touched.is_empty()
    }

    /// The instruction that touched a register since the last fence.
    pub(super) fn toucher(&self, reg: Reg) -> Option<u32> {
        self.touched.get(row(reg)).filter(|pc| **pc > 0).map(|pc| pc - 1)
    }

    pub(super) fn flies(&self, reg: Reg) -> bool {
        self.rows[row(reg)]
    }

    pub(super) fn mark(&mut self, regs: &[Reg]) {
        regs.iter().for_each(|reg| self.rows[row(*reg)] = true);
    }

    /// A place for a sum that product `pc` is the first to add to.
    pub(super) fn take_off(&mut self, chain: usize, pc: u32) -> usize {
        let new = Sum { chain, pc, users: 0 };
        match self.sums.iter().position(|sum| sum.users == 0) {
            Some(at) => {
                self.sums[at] = new;
                at
            }
            None => {
                self.sums.push(new);
                self.sums.len() - 1
            }
        }
    }
}

fn row(reg: Reg) -> usize {
    reg.0 as usize / LANES
}

/// What a register in flight belongs to.
enum Role {
    Sum { sum: usize, register: usize, pc: u32 },
    A { pc: u32 },
    Copy { at: usize },
}

impl Exec<'_, '_> {
    /// Looks at an instruction before it is executed.
    pub(super) fn watch(&mut self, inst: &Inst, active: u32) -> Result<(), Trap> {
        if matches!(inst.op, Op::Matrix(MatrixOp::Wgmma(_))) {
            return Ok(());
        }
        let first = inst.operands as usize;
        let num_defs = usize::from(inst.num_defs);
        let kernel = self.kernel;
        let operands = &kernel.operands[first..first + num_defs + usize::from(inst.num_uses)];
        if let Some(reg) = operands.iter().find(|reg| self.warp.flight.flies(**reg)) {
            let is_copy = match inst.op {
                Op::Map(run) => {
                    ops::find("mov.b32").is_some_and(|mov| std::ptr::fn_addr_eq(mov.run(), run))
                }
                _ => false,
            };
            match operands {
                [to, from] if is_copy => self.copy_in_flight(*to, *from, active)?,
                _ => self.refuse_use(*reg, operands, num_defs, active)?,
            }
        }
        if !self.warp.flight.touched.is_empty() {
            for reg in operands {
                self.warp.flight.touched[row(*reg)] = self.pc + 1;
            }
        }
        Ok(())
    }

    fn role(&self, reg: Reg) -> Option<Role> {
        let flight = &self.warp.flight;
        if let Some(at) = flight.copies.iter().position(|copy| copy.to == reg) {
            return Some(Role::Copy { at });
        }
        for issued in &flight.issued {
            let (sum, a) = product_registers(self.kernel, issued.pc);
            if let Some(register) = sum.iter().position(|it| *it == reg) {
                return Some(Role::Sum { sum: issued.sum, register, pc: issued.pc });
            }
            if a.contains(&reg) {
                return Some(Role::A { pc: issued.pc });
            }
        }
        None
    }

    /// A `mov` of which at least one side is in flight.
    fn copy_in_flight(&mut self, to: Reg, from: Reg, active: u32) -> Result<(), Trap> {
        if self.warp.flight.flies(to) {
            self.refuse_use(to, &[to], 1, active)?;
        }
        let (sum, register, mask) = match self.role(from) {
            Some(Role::Sum { sum, register, .. }) => (sum, register, u32::MAX),
            Some(Role::Copy { at }) => {
                let Copied { sum, register, mask, .. } = self.warp.flight.copies[at];
                (sum, register, mask)
            }
            Some(Role::A { .. }) | None => return Ok(()),
        };
        let flight = &mut self.warp.flight;
        flight.copies.push(Copied { to, sum, register, mask: mask & active });
        flight.mark(&[to]);
        Ok(())
    }

    /// Any other use, unless it overwrites what was only a copy.
    fn refuse_use(
        &mut self,
        reg: Reg,
        operands: &[Reg],
        num_defs: usize,
        active: u32,
    ) -> Result<(), Trap> {
        let is_read = operands[num_defs..].contains(&reg);
        let (what, pc) = match self.role(reg) {
            None => return Ok(()),
            Some(Role::Copy { at }) if !is_read => {
                self.warp.flight.copies[at].mask &= !active;
                return Ok(());
            }
            Some(Role::Copy { at }) => {
                let sum = self.warp.flight.copies[at].sum;
                ("a copy of the sum", self.warp.flight.sums[sum].pc)
            }
            Some(Role::Sum { pc, .. }) => ("the sum", pc),
            Some(Role::A { pc }) => ("A", pc),
        };
        let verb = if is_read { "read" } else { "written" };
        let lane = active.trailing_zeros();
        self.cluster.other = Some(self.site(pc, lane));
        let message = format!("a register of {what} of a product is {verb} before the wait for it");
        Err(Trap::misuse(message, lane))
    }

    /// An instruction of this warp.
    pub(super) fn site(&self, pc: u32, lane: u32) -> Site {
        Site { pc, cta: self.warp.cta, warp: self.warp.index, lane }
    }

    /// A sum that no product in flight adds to any more is the warp's again; its copies take it.
    pub(super) fn land(&mut self, sum: usize) {
        let Sum { chain, pc, .. } = self.warp.flight.sums[sum];
        let (registers, _) = product_registers(self.kernel, pc);
        let flight = &mut self.warp.flight;
        for copy in flight.copies.iter().filter(|copy| copy.sum == sum) {
            let values: Lanes = *self.warp.registers.r32(registers[copy.register]);
            let row = self.warp.registers.r32_mut(copy.to);
            lanes_of(copy.mask).for_each(|lane| row[lane] = values[lane]);
        }
        flight.copies.retain(|copy| copy.sum != sum);
        let (group, part) = (self.warp.index as usize / 4, self.warp.index as usize % 4);
        self.cluster.ctas[self.warp.cta].warpgroups[group].leave_chain(chain, part);
    }

    /// Marks what is still in flight.
    pub(super) fn mark_flight(&mut self) {
        self.warp.flight.rows.fill(false);
        for i in 0..self.warp.flight.issued.len() {
            self.mark_product(self.warp.flight.issued[i].pc, true);
        }
        let copies: Vec<Reg> = self.warp.flight.copies.iter().map(|copy| copy.to).collect();
        self.warp.flight.mark(&copies);
    }

    /// Marks the registers of a product; those of its sum only if they are `new`.
    pub(super) fn mark_product(&mut self, pc: u32, new: bool) {
        let (sum, a) = product_registers(self.kernel, pc);
        if new {
            self.warp.flight.mark(sum);
        }
        self.warp.flight.mark(a);
    }
}

/// Registers of a product: sum and, if they are registers, A.
pub(super) fn product_registers(kernel: &Kernel, pc: u32) -> (&[Reg], &[Reg]) {
    let inst = &kernel.code[pc as usize];
    let Op::Matrix(MatrixOp::Wgmma(op)) = inst.op else { return (&[], &[]) };
    let first = inst.operands as usize;
    let count = usize::from(inst.num_defs);
    let num_a = if op.a_in_registers { 4 } else { 0 };
    let operands = &kernel.operands;
    (&operands[first..first + count], &operands[first + 2 * count..][..num_a])
}
