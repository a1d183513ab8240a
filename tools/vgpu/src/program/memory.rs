//! Loads, stores and prefetches.

use super::Fixed;
use super::alu::operand;
use super::builder::{Builder, Gap};
use super::inst::{Access, Op, Reg, Scope, Semantics, Space};
use super::layout::{Pointer, type_bytes, type_class};
use super::operands::Dest;
use super::scope::Symbol;
use crate::ops::Class;
use crate::ptx::ast::{Instruction, Operand};

/// An address: its register, what is added, the space that its symbol tells.
pub(super) struct Address {
    pub reg: Reg,
    pub wide: bool,
    pub offset: i32,
    pub space: Option<Space>,
}

impl<'p, 'a> Builder<'p, 'a> {
    /// Resolves `[base+offset]`.
    pub(super) fn address(&mut self, operand: &Operand<'a>) -> Result<Address, Gap> {
        let Operand::Memory { base, offset, .. } = operand else {
            return Err(format!("`{operand}` is no address"));
        };
        let short = i32::try_from(*offset).map_err(|_| "an offset of over 31 bits".to_owned());
        match &**base {
            Operand::Name(name) => match self.scopes.find(name) {
                Some(Symbol::Register(reg)) => match reg.class() {
                    Class::R64 => Ok(Address { reg, wide: true, offset: short?, space: None }),
                    Class::R32 => Ok(Address { reg, wide: false, offset: short?, space: None }),
                    _ => Err(format!("`{name}` cannot hold an address")),
                },
                Some(Symbol::Place(place)) => {
                    let space = match place {
                        Pointer::Global { .. } => Space::Global,
                        Pointer::Shared(_) | Pointer::DynamicShared(_) => Space::Shared,
                        Pointer::Local(_) => Space::Local,
                        Pointer::Param(_) | Pointer::InlinedParam(_) => Space::Param,
                    };
                    let reg = self.fixed(Class::R64, Fixed::Address(place.plus(*offset)));
                    Ok(Address { reg, wide: true, offset: 0, space: Some(space) })
                }
                _ => Err(format!("`{name}` is not declared")),
            },
            Operand::Int { .. } => {
                let value = base.int().unwrap_or(0).wrapping_add(*offset as u64);
                let reg = self.constant(Class::R64, value);
                Ok(Address { reg, wide: true, offset: 0, space: None })
            }
            other => Err(format!("`{other}` is no address")),
        }
    }

    /// `ld`, `st` and the prefetches, which do nothing here.
    pub(super) fn memory(&mut self, it: &'p Instruction<'a>) -> Result<(), Gap> {
        let parts: Vec<&str> = it.opcode.split('.').collect();
        if !matches!(parts[0], "ld" | "ldu" | "st") {
            self.emit(Op::Nop, &[], &[]);
            return Ok(());
        }
        let is_load = parts[0] != "st";
        let (place, values) = if is_load {
            (operand(it, 1)?, operand(it, 0)?)
        } else {
            (operand(it, 0)?, operand(it, 1)?)
        };
        let address = self.address(place)?;
        let mut access = access(&parts[1..], &address)?;
        let values = match values {
            Operand::Vector(parts) => parts.as_slice(),
            single => std::slice::from_ref(single),
        };
        if values.len() != usize::from(access.vector) {
            return Err(format!("{} values for {} elements", values.len(), access.vector));
        }
        access.class = self.values_class(values, access.class);
        if is_load {
            self.load(access, &address, values)
        } else {
            self.store(access, &address, values)
        }
    }

    /// A narrow element goes to and comes from 64-bit registers too.
    fn values_class(&self, values: &[Operand<'a>], class: Class) -> Class {
        let any_wide = values.iter().any(|value| match value {
            Operand::Name(name) => {
                matches!(self.scopes.find(name), Some(Symbol::Register(r)) if r.class() == Class::R64)
            }
            _ => false,
        });
        if any_wide && class == Class::R32 { Class::R64 } else { class }
    }

    fn load(
        &mut self,
        access: Access,
        address: &Address,
        values: &[Operand<'a>],
    ) -> Result<(), Gap> {
        let mut dests: Vec<Dest> = Vec::with_capacity(values.len());
        for value in values {
            dests.push(self.dest(value, access.class, access.signed)?);
        }
        let regs: Vec<Reg> = dests.iter().map(|dest| dest.reg).collect();
        self.emit(Op::Load(access), &regs, &[address.reg]);
        dests.into_iter().try_for_each(|dest| self.finish(dest))
    }

    fn store(
        &mut self,
        access: Access,
        address: &Address,
        values: &[Operand<'a>],
    ) -> Result<(), Gap> {
        let mut regs = vec![address.reg];
        for value in values {
            regs.push(self.source(value, access.class, false)?);
        }
        self.emit(Op::Store(access), &[], &regs);
        Ok(())
    }
}

/// Reads the modifiers of a memory instruction. Cache hints and levels change nothing here.
pub(super) fn access(parts: &[&str], address: &Address) -> Result<Access, Gap> {
    let ty = *parts.last().ok_or("no type")?;
    let mut access = Access {
        space: Space::Generic,
        semantics: Semantics::Weak,
        scope: Scope::Sys,
        bytes: type_bytes(ty).ok_or_else(|| format!("the type .{ty}"))? as u8,
        vector: 1,
        signed: ty.starts_with('s'),
        wide_address: address.wide,
        class: type_class(ty).ok_or_else(|| format!("the type .{ty}"))?,
        offset: address.offset,
        is_copied: false,
    };
    for part in &parts[..parts.len() - 1] {
        match *part {
            "v2" => access.vector = 2,
            "v4" => access.vector = 4,
            "v8" => access.vector = 8,
            "global" | "const" => access.space = Space::Global,
            "shared" | "shared::cta" | "shared::cluster" => access.space = Space::Shared,
            "local" => access.space = Space::Local,
            "param" | "param::entry" | "param::func" => access.space = Space::Param,
            "volatile" => access.semantics = Semantics::Volatile,
            "relaxed" | "mmio" => access.semantics = Semantics::Relaxed,
            "acquire" => access.semantics = Semantics::Acquire,
            "release" => access.semantics = Semantics::Release,
            "acq_rel" => access.semantics = Semantics::AcquireRelease,
            "cta" => access.scope = Scope::Cta,
            "cluster" => access.scope = Scope::Cluster,
            "gpu" => access.scope = Scope::Gpu,
            "sys" => access.scope = Scope::Sys,
            _ => {}
        }
    }
    // `ld.u32 [symbol]` without a space is an access to the symbol's own space.
    if access.space == Space::Generic
        && let Some(space) = address.space
    {
        access.space = space;
    }
    Ok(access)
}
