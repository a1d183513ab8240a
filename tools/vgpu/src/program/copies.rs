//! `cp.async`, `cp.async.bulk`, `cp.reduce.async.bulk`, `st.async`, `red.async`.

use super::alu::operand;
use super::atomics::{atomic_op, elements, number, supported};
use super::builder::{Builder, Gap};
use super::engine::{AsyncOp, Combine, GroupKind};
use super::inst::{Op, Reg, Space};
use super::layout::{type_bytes, type_class};
use super::scope::Symbol;
use crate::ops::Class;
use crate::ptx::ast::{Instruction, Operand};

impl<'p, 'a> Builder<'p, 'a> {
    /// All that begins with `cp.`.
    pub(super) fn copy(&mut self, it: &'p Instruction<'a>) -> Result<(), Gap> {
        let parts: Vec<&str> = it.opcode.split('.').collect();
        match parts.as_slice() {
            ["cp", "async", "commit_group"] => self.commit(GroupKind::Copies),
            ["cp", "async", "bulk", "commit_group"] => self.commit(GroupKind::Bulk),
            ["cp", "async", "wait_all"] => {
                let op = AsyncOp::WaitGroup { kind: GroupKind::Copies, keep: None, read: false };
                self.emit(Op::Async(op), &[], &[]);
                Ok(())
            }
            ["cp", "async", "wait_group"] => self.wait_group(it, GroupKind::Copies, false),
            ["cp", "async", "bulk", "wait_group", rest @ ..] => {
                self.wait_group(it, GroupKind::Bulk, rest.contains(&"read"))
            }
            ["cp", "async", "mbarrier", "arrive", rest @ ..] => {
                let space = if rest.iter().any(|part| part.starts_with("shared")) {
                    Space::Shared
                } else {
                    Space::Generic
                };
                let barrier = self.generic_address(operand(it, 0)?, space)?;
                let counted = rest.contains(&"noinc");
                self.emit(Op::Async(AsyncOp::ArriveAfterCopies { counted }), &[], &[barrier]);
                Ok(())
            }
            ["cp", "async", "bulk", "tensor", ..]
            | ["cp", "async", "bulk", "prefetch", "tensor", ..]
            | ["cp", "reduce", "async", "bulk", "tensor", ..] => self.tensor_copy(it, &parts),
            ["cp", "async", "bulk", "prefetch", ..] => {
                self.emit(Op::Nop, &[], &[]);
                Ok(())
            }
            ["cp", "async", "ca" | "cg", ..] => self.cp_async(it, &parts),
            ["cp", "async", "bulk", space, ..] | ["cp", "reduce", "async", "bulk", space, ..]
                if matches!(*space, "global" | "shared::cta" | "shared::cluster") =>
            {
                self.bulk(it, &parts)
            }
            _ => Err(format!("vgpu has no `{}`", it.opcode)),
        }
    }

    fn commit(&mut self, kind: GroupKind) -> Result<(), Gap> {
        self.emit(Op::Async(AsyncOp::Commit(kind)), &[], &[]);
        Ok(())
    }

    fn wait_group(
        &mut self,
        it: &'p Instruction<'a>,
        kind: GroupKind,
        read: bool,
    ) -> Result<(), Gap> {
        let keep = operand(it, 0)?.int().and_then(|n| u32::try_from(n).ok());
        let keep = Some(keep.ok_or("a number of groups that is no constant")?);
        self.emit(Op::Async(AsyncOp::WaitGroup { kind, keep, read }), &[], &[]);
        Ok(())
    }

    /// `cp.async.{ca,cg}.shared.global [to], [from], bytes{, source bytes | ignore}{, policy}`.
    fn cp_async(&mut self, it: &'p Instruction<'a>, parts: &[&str]) -> Result<(), Gap> {
        let to = self.generic_address(operand(it, 0)?, Space::Shared)?;
        let from = self.generic_address(operand(it, 1)?, Space::Global)?;
        let bytes = operand(it, 2)?.int().ok_or("a size that is no constant")?;
        let allowed: &[u64] = if parts[2] == "cg" { &[16] } else { &[4, 8, 16] };
        if !allowed.contains(&bytes) {
            return Err(format!("a copy of {bytes} bytes"));
        }
        let hinted = usize::from(parts.contains(&"L2::cache_hint"));
        let all = self.constant(Class::R32, bytes);
        let source = match it.operands.get(3).filter(|_| it.operands.len() > 3 + hinted) {
            Some(ignore) if self.is_predicate(ignore) => {
                let ignore = self.source(ignore, Class::Pred, false)?;
                let (none, source) = (self.constant(Class::R32, 0), self.temp(Class::R32));
                self.prelude_row("selp.b32", source, &[none, all, ignore])?;
                source
            }
            Some(count) => self.source(count, Class::R32, false)?,
            None => all,
        };
        self.emit(Op::Async(AsyncOp::Copy { bytes: bytes as u8 }), &[], &[to, from, source]);
        Ok(())
    }

    fn is_predicate(&self, operand: &Operand<'a>) -> bool {
        match operand {
            Operand::Name(name) => {
                matches!(self.scopes.find(name), Some(Symbol::Register(r)) if r.class() == Class::Pred)
            }
            Operand::Not(_) => true,
            _ => false,
        }
    }

    /// `cp{.reduce}.async.bulk.to.from.… [to], [from], bytes{, [mbarrier]}{, CTAs}{, policy}`.
    fn bulk(&mut self, it: &'p Instruction<'a>, parts: &[&str]) -> Result<(), Gap> {
        let first = if parts[1] == "reduce" { 4 } else { 3 };
        let spaces = [parts.get(first), parts.get(first + 1)].map(|part| match part {
            Some(&("shared::cluster" | "shared::cta")) => Some(Space::Shared),
            Some(&"global") => Some(Space::Global),
            _ => None,
        });
        let [Some(to), Some(from)] = spaces else {
            return Err(format!("vgpu has no `{}`", it.opcode));
        };
        let signals = parts.contains(&"mbarrier::complete_tx::bytes");
        let multicast = parts.contains(&"multicast::cluster");
        let fits = matches!(
            (to, from, signals),
            (Space::Shared, Space::Global | Space::Shared, true)
                | (Space::Global, Space::Shared, false)
        );
        if !fits || parts.contains(&"cp_mask") {
            return Err(format!("vgpu has no `{}`", it.opcode));
        }
        let mut uses = vec![
            self.generic_address(operand(it, 0)?, to)?,
            self.generic_address(operand(it, 1)?, from)?,
            self.source(operand(it, 2)?, Class::R32, false)?,
        ];
        if signals {
            uses.push(self.generic_address(operand(it, 3)?, Space::Shared)?);
        }
        if multicast {
            uses.push(self.source(operand(it, 4)?, Class::R32, false)?);
        }
        let combine = if parts[1] == "reduce" { Some(self.combine(it, parts)?) } else { None };
        self.emit(Op::Async(AsyncOp::Bulk { signals, multicast, combine }), &[], &uses);
        Ok(())
    }

    /// The reduction that an opcode names, on elements of its last part's type.
    pub(super) fn combine(&self, it: &'p Instruction<'a>, parts: &[&str]) -> Result<Combine, Gap> {
        let ty = parts[parts.len() - 1];
        let bytes = type_bytes(ty).ok_or_else(|| format!("the type .{ty}"))? as u8;
        let number = number(ty).ok_or_else(|| format!("reductions on .{ty}"))?;
        let op = atomic_op(parts)?;
        if !supported(op, number, bytes) {
            return Err(format!("vgpu has no `{}`", it.opcode));
        }
        Ok(Combine { op, number, bytes })
    }

    /// `st.async…[to], values, [mbarrier]` and `red.async…`.
    pub(super) fn store_async(&mut self, it: &'p Instruction<'a>) -> Result<(), Gap> {
        let parts: Vec<&str> = it.opcode.split('.').collect();
        if !parts.contains(&"mbarrier::complete_tx::bytes") {
            return Err(format!("vgpu has no `{}`", it.opcode));
        }
        let ty = parts[parts.len() - 1];
        let class = type_class(ty).ok_or_else(|| format!("the type .{ty}"))?;
        let bytes = type_bytes(ty).ok_or_else(|| format!("the type .{ty}"))? as u8;
        let values = elements(operand(it, 1)?);
        let vector = values.len() as u8;
        let expected = if parts.contains(&"v4") { 4 } else { 1 + u8::from(parts.contains(&"v2")) };
        if vector != expected || !matches!(bytes, 4 | 8) {
            return Err(format!("{vector} values of .{ty}"));
        }
        let mut uses: Vec<Reg> = vec![
            self.generic_address(operand(it, 0)?, Space::Shared)?,
            self.generic_address(operand(it, 2)?, Space::Shared)?,
        ];
        for value in values {
            uses.push(self.source(value, class, false)?);
        }
        let combine = if parts[0] == "red" { Some(self.combine(it, &parts)?) } else { None };
        self.emit(Op::Async(AsyncOp::Store { class, bytes, vector, combine }), &[], &uses);
        Ok(())
    }
}
