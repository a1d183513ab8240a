//! `multimem`: accesses to the same place in several devices' memory.

use super::alu::operand;
use super::atomics::{atomic_op, elements, number, supported};
use super::builder::{Builder, Gap};
use super::inst::{AtomicOp, Multimem, MultimemKind, Number, Op, Reg, Space};
use super::memory::access;
use super::operands::Dest;
use crate::ptx::ast::{Instruction, Operand};

impl<'p, 'a> Builder<'p, 'a> {
    /// `multimem.ld_reduce d, [a]`, `multimem.st [a], b` and `multimem.red [a], b`.
    pub(super) fn multimem(&mut self, it: &'p Instruction<'a>) -> Result<(), Gap> {
        let parts: Vec<&str> = it.opcode.split('.').collect();
        let unknown = || format!("vgpu has no `{}`", it.opcode);
        let kind = match parts.get(1) {
            Some(&"ld_reduce") => MultimemKind::LoadReduce { in_f32: parts.contains(&"acc::f32") },
            Some(&"st") => MultimemKind::Store,
            Some(&"red") => MultimemKind::Reduce,
            _ => return Err(unknown()),
        };
        let loads = matches!(kind, MultimemKind::LoadReduce { .. });
        let (place, values) = if loads { (1, 0) } else { (0, 1) };
        let address = self.address(operand(it, place)?)?;
        let access = access(&parts[2..], &address)?;
        if !matches!(access.space, Space::Global | Space::Generic) {
            return Err("a multimem address outside of global memory".into());
        }
        let number = number(parts[parts.len() - 1]).ok_or_else(unknown)?;
        let op = match kind {
            MultimemKind::Store => AtomicOp::Exch,
            _ => atomic_op(&parts)?,
        };
        let bitwise = matches!(op, AtomicOp::And | AtomicOp::Or | AtomicOp::Xor);
        let sums = matches!(op, AtomicOp::Add | AtomicOp::Min | AtomicOp::Max);
        let stores = matches!(kind, MultimemKind::Store);
        let is_half =
            !matches!(number, Number::Unsigned | Number::Signed | Number::F32 | Number::F64);
        let accumulates = matches!(kind, MultimemKind::LoadReduce { in_f32: true });
        if !(bitwise || sums || stores)
            || !stores && !supported(op, number, access.bytes)
            || accumulates && !(is_half && op == AtomicOp::Add)
        {
            return Err(unknown());
        }
        let values: &[Operand<'a>] = elements(operand(it, values)?);
        if values.len() != usize::from(access.vector) {
            return Err(format!("{} values for {} elements", values.len(), access.vector));
        }
        let op = Op::Multimem(Multimem { kind, op, number, access });
        if loads {
            let mut dests: Vec<Dest> = Vec::with_capacity(values.len());
            for value in values {
                dests.push(self.dest(value, access.class, false)?);
            }
            let defs: Vec<Reg> = dests.iter().map(|dest| dest.reg).collect();
            self.emit(op, &defs, &[address.reg]);
            return dests.into_iter().try_for_each(|dest| self.finish(dest));
        }
        let mut uses = vec![address.reg];
        for value in values {
            uses.push(self.source(value, access.class, false)?);
        }
        self.emit(op, &[], &uses);
        Ok(())
    }
}
