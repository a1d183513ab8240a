//! `mov`: plain, packing and unpacking.

use super::alu::operand;
use super::builder::{Builder, Gap};
use super::layout::{type_bytes, type_class};
use crate::ops::{Class, find};
use crate::ptx::ast::{Instruction, Operand};

impl<'p, 'a> Builder<'p, 'a> {
    pub(super) fn mov(&mut self, it: &'p Instruction<'a>) -> Result<(), Gap> {
        let ty = it.opcode.strip_prefix("mov.").ok_or("`mov` without its type")?;
        let (dest, source) = (operand(it, 0)?, operand(it, 1)?);
        match (dest, source) {
            (Operand::Vector(parts), _) => self.unpack(ty, parts, source),
            (_, Operand::Vector(parts)) => self.pack(ty, dest, parts),
            _ => {
                let class = type_class(ty).ok_or("a type that vgpu does not know")?;
                let row = match class {
                    Class::Pred => "mov.pred",
                    Class::R32 => "mov.b32",
                    Class::R64 => "mov.b64",
                    Class::R128 => "mov.b128",
                };
                self.apply(row, dest, &[source])
            }
        }
    }

    /// `mov.b64 d, {a, b}`.
    fn pack(&mut self, ty: &str, dest: &Operand<'a>, parts: &[Operand<'a>]) -> Result<(), Gap> {
        let name = format!("pack.b{}.b{}", bits(ty)?, bits(ty)? / parts.len().max(1) as u32);
        let parts: Vec<&Operand<'a>> = parts.iter().collect();
        self.apply(&name, dest, &parts)
    }

    /// `mov.b64 {a, b}, s`. The source may be one of the destinations.
    fn unpack(&mut self, ty: &str, parts: &[Operand<'a>], source: &Operand<'a>) -> Result<(), Gap> {
        let name = format!("part.b{}.b{}", bits(ty)?, bits(ty)? / parts.len().max(1) as u32);
        let row = find(&name).ok_or_else(|| format!("vgpu has no `{name}`"))?;
        let mut source = self.source(source, row.sources[0], false)?;
        if row.sources[0] == Class::R32 {
            let copy = self.temp(Class::R32);
            self.emit_row("mov.b32", copy, &[source])?;
            source = copy;
        }
        for (i, part) in parts.iter().enumerate() {
            if *part == Operand::Name("_") {
                continue;
            }
            let index = self.constant(Class::R32, i as u64);
            let dest = self.dest(part, row.dest, false)?;
            self.emit_row(&name, dest.reg, &[source, index])?;
            self.finish(dest)?;
        }
        Ok(())
    }
}

fn bits(ty: &str) -> Result<u32, Gap> {
    type_bytes(ty).map(|bytes| bytes * 8).ok_or_else(|| format!("the type .{ty}"))
}
