//! `wgmma`: issue, fence, commit and wait, with the rules that the hardware does not check.

use super::cluster::Site;
use super::exec::Exec;
use super::flight::{Issued, product_registers};
use super::multiply::ROWS;
use super::operand::DEPTH;
use super::products::{WARPS, files};
use super::warp::Wait;
use super::{Flow, Trap};
use crate::asynchrony::Asynchrony;
use crate::program::inst::Op;
use crate::program::matrix::{self, MatrixOp, Wgmma};
use crate::program::{Inst, Reg};

impl Exec<'_, '_> {
    /// Issues a warp's part of a product.
    pub(super) fn wgmma(&mut self, inst: &Inst, op: Wgmma) -> Result<(), Trap> {
        let (group, part) = (self.warp.index as usize / WARPS, self.warp.index as usize % WARPS);
        let num_sums = op.product.sum_registers();
        let a_at = num_sums;
        let b_at = a_at + if op.a_in_registers { 4 } else { 1 };
        self.check_whole()?;
        let descriptors = [
            if op.a_in_registers { None } else { Some(self.uniform(inst, a_at, "A")?) },
            Some(self.uniform(inst, b_at, "B")?),
        ];
        let predicate = self.warp.registers.pred(self.used(inst, b_at + 1));
        if predicate != 0 && predicate != u32::MAX {
            let message = "a warp's threads differ in whether the sum before counts";
            return Err(Trap::misuse(message, predicate.trailing_ones() % 32));
        }
        let adds = predicate != 0;
        let continued = self.continued(op)?;
        self.check_fence(continued.is_some())?;
        let number = self.warp.flight.num_issued;
        let warpgroup = &mut self.cluster.ctas[self.warp.cta].warpgroups[group];
        let before = warpgroup.product(number).map(|it| {
            let same = it.pc == self.pc && it.descriptors == descriptors && it.adds == adds;
            (same, it.pc, it.first_warp, it.chain)
        });
        let open_chain = continued.map(|sum| self.warp.flight.sums[sum].chain);
        let chain = match before {
            Some((true, _, _, chain)) if open_chain.is_none_or(|open| open == chain) => chain,
            Some((_, pc, first_warp, _)) => return Err(self.differing(pc, group, first_warp)),
            None => {
                let chain = open_chain.unwrap_or_else(|| warpgroup.open_chain());
                let cta = &mut self.cluster.ctas[self.warp.cta];
                let added = cta.add_product(group, op, (self.pc, part), descriptors, (adds, chain));
                added.map_err(|kind| Trap::new(kind, 0))?;
                chain
            }
        };
        let sum = continued.unwrap_or_else(|| self.warp.flight.take_off(chain, self.pc));
        self.warp.flight.sums[sum].users += 1;
        let a = if op.a_in_registers { self.a_fragment(inst, a_at, 4) } else { Vec::new() };
        debug_assert!(a.is_empty() || a.len() == ROWS * DEPTH);
        let cta = &mut self.cluster.ctas[self.warp.cta];
        cta.issue_product(group, number, part, &a);
        self.observe_product(group, number, part)?;
        let flight = &mut self.warp.flight;
        let group_number = flight.num_committed;
        flight.issued.push(Issued { number, group: group_number, pc: self.pc, sum });
        flight.num_issued += 1;
        self.mark_product(self.pc, continued.is_none());
        self.cluster.progress = true;
        if self.grid.shape.asynchrony == Asynchrony::Earliest {
            self.form_product(number);
        }
        Ok(())
    }

    /// The warp and its warpgroup have all their threads.
    fn check_whole(&self) -> Result<(), Trap> {
        let threads = self.grid.shape.block.iter().product::<u32>();
        if self.warp.index / 4 * 128 + 128 > threads {
            let message = format!("a warpgroup that a block of {threads} threads does not fill");
            return Err(Trap::misuse(message, 0));
        }
        if self.warp.alive != u32::MAX {
            let message = format!(
                "only the threads {:#010x} of a warp execute an .aligned instruction",
                self.warp.alive
            );
            return Err(Trap::misuse(message, self.warp.alive.trailing_zeros()));
        }
        Ok(())
    }

    /// A descriptor, which all threads must agree on.
    fn uniform(&self, inst: &Inst, i: usize, name: &str) -> Result<u64, Trap> {
        let all = self.warp.registers.r64(self.used(inst, i));
        // Without an end in between, so that it is one of vectors.
        if all.iter().fold(0, |bits, it| bits | it ^ all[0]) == 0 {
            return Ok(all[0]);
        }
        let lane = all.iter().position(|it| *it != all[0]).unwrap_or_default();
        let message = format!(
            "the descriptor of {name} is {:#x}, but {:#x} in the warp's first thread",
            all[lane], all[0]
        );
        Err(Trap::misuse(message, lane as u32))
    }

    /// The sum in flight that a product goes on with: its registers must be the same.
    fn continued(&mut self, op: Wgmma) -> Result<Option<usize>, Trap> {
        let kernel = self.kernel;
        let (sum, a) = product_registers(kernel, self.pc);
        let issued = &self.warp.flight.issued;
        let is_same = |it: &&Issued| are_same(product_registers(kernel, it.pc).0, sum);
        let before = issued.iter().find(is_same).copied();
        let sums = issued.iter().flat_map(|it| product_registers(kernel, it.pc).0);
        if a.iter().any(|reg| sums.clone().any(|it| it == reg)) {
            return Err(self.taken(a, "rows of A"));
        }
        match before {
            Some(Issued { pc, sum, .. }) => {
                if shape(&kernel.code[pc as usize]) == Some((op.product.n, op.product.sum)) {
                    return Ok(Some(sum));
                }
                self.cluster.other = Some(self.site(pc, 0));
                let message = "a product of another shape uses a sum before the wait for it";
                Err(Trap::misuse(message, 0))
            }
            None if sum.iter().any(|reg| self.warp.flight.flies(*reg)) => {
                Err(self.taken(sum, "sum"))
            }
            None => Ok(None),
        }
    }

    /// Registers that belong to another product in flight.
    fn taken(&mut self, regs: &[Reg], what: &str) -> Trap {
        let uses = |pc: u32| {
            let (sum, a) = product_registers(self.kernel, pc);
            regs.iter().any(|reg| sum.contains(reg) || a.contains(reg))
        };
        let other = self.warp.flight.issued.iter().find(|it| uses(it.pc)).map(|it| it.pc);
        self.cluster.other = other.map(|pc| self.site(pc, 0));
        let message =
            format!("registers of the {what} belong to a product that was not waited for");
        Trap::misuse(message, 0)
    }

    /// A `wgmma.fence` must lie between other uses of the registers and the product.
    fn check_fence(&mut self, continues: bool) -> Result<(), Trap> {
        if !self.warp.flight.is_fenced {
            return Err(Trap::misuse("a product before the warp's first wgmma.fence", 0));
        }
        if !self.warp.flight.traces() {
            return Ok(());
        }
        let (sum, a) = product_registers(self.kernel, self.pc);
        let sum = if continues { &[] } else { sum };
        let touched = sum.iter().chain(a).find_map(|reg| self.warp.flight.toucher(*reg));
        if let Some(pc) = touched {
            self.cluster.other = Some(self.site(pc, 0));
            let message = "no wgmma.fence between a use of a product's registers and the product";
            return Err(Trap::misuse(message, 0));
        }
        Ok(())
    }

    fn differing(&mut self, pc: u32, group: usize, first_warp: usize) -> Trap {
        let warp = (group * WARPS + first_warp) as u32;
        self.cluster.other = Some(Site { pc, cta: self.warp.cta, warp, lane: 0 });
        let message = "the warps of a warpgroup differ in a product: its instruction, descriptors, \
                       sum or whether that counts";
        Trap::misuse(message, 0)
    }

    fn form_product(&mut self, number: u64) {
        let group = self.warp.index as usize / WARPS;
        let cta = &mut self.cluster.ctas[self.warp.cta];
        let mut files = files(self.warp, &mut self.others);
        cta.form_product(group, number, self.kernel, &mut self.grid.multiplier, &mut files);
    }

    /// `wgmma.wait_group`: all but the last `keep` groups.
    pub(super) fn wait_products(&mut self, keep: u32) -> Flow {
        let (group, part) = (self.warp.index as usize / WARPS, self.warp.index as usize % WARPS);
        let limit = self.warp.flight.num_committed.saturating_sub(keep);
        let is_due = |it: &Issued| it.group < limit;
        let Some(last) = self.warp.flight.issued.iter().rfind(|it| is_due(it)).copied() else {
            self.observe_products_wait(limit);
            return Flow::Next;
        };
        let warpgroup = &self.cluster.ctas[self.warp.cta].warpgroups[group];
        if !warpgroup.missing(last.number).is_empty() {
            return Flow::Wait(Wait::Product { number: last.number });
        }
        self.form_product(last.number);
        let all = std::mem::take(&mut self.warp.flight.issued);
        let (due, rest): (Vec<Issued>, Vec<Issued>) = all.into_iter().partition(is_due);
        self.warp.flight.issued = rest;
        for product in due {
            let cta = &mut self.cluster.ctas[self.warp.cta];
            cta.unpin_product(group, product.number);
            cta.warpgroups[group].retire(product.number, part);
            self.warp.flight.sums[product.sum].users -= 1;
            if self.warp.flight.sums[product.sum].users == 0 {
                self.land(product.sum);
            }
        }
        self.mark_flight();
        self.observe_products_wait(limit);
        self.cluster.progress = true;
        Flow::Next
    }

    /// A warp ends: nobody can wait for what it has in flight.
    pub(super) fn check_landed(&mut self, lane: u32) -> Result<(), Trap> {
        let Some(product) = self.warp.flight.issued.first() else { return Ok(()) };
        let pc = product.pc;
        self.cluster.other = Some(self.site(pc, lane));
        Err(Trap::misuse("a warp ends without a wait for its product", lane))
    }
}

/// Without an end in between, so that vectors are compared.
fn are_same(these: &[Reg], those: &[Reg]) -> bool {
    let differing = these.iter().zip(those).fold(0, |bits, (x, y)| bits | x.0 ^ y.0);
    these.len() == those.len() && differing == 0
}

/// Columns and type of a product's sum.
fn shape(inst: &Inst) -> Option<(u16, matrix::Sum)> {
    match inst.op {
        Op::Matrix(MatrixOp::Wgmma(op)) => Some((op.product.n, op.product.sum)),
        _ => None,
    }
}
