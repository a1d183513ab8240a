//! `atom` and `red`.

use super::alu::operand;
use super::builder::{Builder, Gap};
use super::inst::{Atom, AtomicOp, Number, Op, Reg};
use super::memory::access;
use super::operands::Dest;
use crate::ops::Class;
use crate::ptx::ast::{Instruction, Operand};

impl<'p, 'a> Builder<'p, 'a> {
    pub(super) fn atomic(&mut self, it: &'p Instruction<'a>) -> Result<(), Gap> {
        let parts: Vec<&str> = it.opcode.split('.').collect();
        if parts.contains(&"async") {
            return self.store_async(it);
        }
        let returns = parts[0] == "atom";
        let skip = usize::from(returns);
        let address = self.address(operand(it, skip)?)?;
        let access = access(&parts[1..], &address)?;
        let op = atomic_op(&parts)?;
        let ty = parts[parts.len() - 1];
        let number = number(ty).ok_or_else(|| format!("atomics on .{ty}"))?;
        if !supported(op, number, access.bytes) {
            return Err(format!("vgpu has no `{}`", it.opcode));
        }
        let mut dests: Vec<Dest> = Vec::new();
        if returns {
            for value in elements(operand(it, 0)?) {
                dests.push(self.dest(value, access.class, false)?);
            }
        }
        let mut uses = vec![address.reg];
        let num_values = if op == AtomicOp::Cas { 2 } else { 1 };
        for i in 0..num_values {
            for value in elements(operand(it, skip + 1 + i)?) {
                uses.push(self.source(value, access.class, false)?);
            }
        }
        if uses.len() != 1 + num_values * usize::from(access.vector)
            || (returns && dests.len() != usize::from(access.vector))
        {
            return Err("a vector of the wrong length".into());
        }
        let defs: Vec<Reg> = dests.iter().map(|dest| dest.reg).collect();
        self.emit(Op::Atom(Atom { op, number, access }), &defs, &uses);
        dests.into_iter().try_for_each(|dest| self.finish(dest))
    }
}

pub(super) fn elements<'o, 'a>(operand: &'o Operand<'a>) -> &'o [Operand<'a>] {
    match operand {
        Operand::Vector(parts) => parts,
        single => std::slice::from_ref(single),
    }
}

pub(super) fn atomic_op(parts: &[&str]) -> Result<AtomicOp, Gap> {
    parts
        .iter()
        .find_map(|part| {
            Some(match *part {
                "add" => AtomicOp::Add,
                "min" => AtomicOp::Min,
                "max" => AtomicOp::Max,
                "and" => AtomicOp::And,
                "or" => AtomicOp::Or,
                "xor" => AtomicOp::Xor,
                "exch" => AtomicOp::Exch,
                "cas" => AtomicOp::Cas,
                "inc" => AtomicOp::Inc,
                "dec" => AtomicOp::Dec,
                _ => return None,
            })
        })
        .ok_or_else(|| "no atomic operation".into())
}

pub(super) fn number(ty: &str) -> Option<Number> {
    Some(match ty {
        "u32" | "b32" | "u64" | "b64" | "b16" | "b128" | "u16" => Number::Unsigned,
        "s32" | "s64" => Number::Signed,
        "f16" => Number::F16,
        "bf16" => Number::Bf16,
        "f16x2" => Number::F16x2,
        "bf16x2" => Number::Bf16x2,
        "f32" => Number::F32,
        "f64" => Number::F64,
        _ => return None,
    })
}

/// Integers take every operation, floats are added and compared, 128 bits exchanged.
pub(super) fn supported(op: AtomicOp, number: Number, bytes: u8) -> bool {
    match (op, number) {
        (AtomicOp::Exch | AtomicOp::Cas, _) => true,
        (AtomicOp::Inc | AtomicOp::Dec, Number::Unsigned) => bytes == 4,
        (_, Number::Unsigned | Number::Signed) => matches!(bytes, 4 | 8),
        (AtomicOp::Add, _) => true,
        (AtomicOp::Min | AtomicOp::Max, Number::F32 | Number::F64) => false,
        (AtomicOp::Min | AtomicOp::Max, _) => true,
        _ => false,
    }
}

/// Class of a register of `bytes`.
pub(super) fn class_of(bytes: u8) -> Class {
    match bytes {
        16 => Class::R128,
        8 => Class::R64,
        _ => Class::R32,
    }
}
