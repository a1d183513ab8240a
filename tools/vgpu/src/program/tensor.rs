//! Tensor copies (`cp.async.bulk.tensor`) and changes of tensor maps.

use super::alu::operand;
use super::atomics::atomic_op;
use super::builder::{Builder, Gap};
use super::engine::{AsyncOp, MapField, TensorOp};
use super::inst::{Op, Reg, Space};
use crate::ops::Class;
use crate::ptx::ast::{Instruction, Operand};

impl<'p, 'a> Builder<'p, 'a> {
    /// `cp{.reduce}.async.bulk{.prefetch}.tensor.…`, tiled.
    pub(super) fn tensor_copy(
        &mut self,
        it: &'p Instruction<'a>,
        parts: &[&str],
    ) -> Result<(), Gap> {
        let rank = parts.iter().find_map(|part| match *part {
            "1d" => Some(1),
            "2d" => Some(2),
            "3d" => Some(3),
            "4d" => Some(4),
            "5d" => Some(5),
            _ => None,
        });
        let rank = rank.ok_or("a tensor copy without its dimensions")?;
        let has = |name: &str| parts.contains(&name);
        let other_mode = |part: &&str| part.starts_with("im2col") || part.starts_with("tile::");
        if parts.iter().any(other_mode) || has("cta_group::1") || has("cta_group::2") {
            return Err(format!("vgpu has no `{}`", it.opcode));
        }
        let after = parts.iter().skip_while(|part| !part.ends_with('d')).skip(1).copied();
        let spaces: Vec<&str> = after.take(2).collect();
        match spaces.as_slice() {
            _ if has("prefetch") => {
                self.tensor_operand(operand(it, 0)?, rank)?;
                self.emit(Op::Nop, &[], &[]);
                Ok(())
            }
            ["shared::cluster" | "shared::cta", "global"] if parts[1] == "async" => {
                let (map, coordinates) = self.tensor_operand(operand(it, 1)?, rank)?;
                let mut uses = vec![self.generic_address(operand(it, 0)?, Space::Shared)?, map];
                uses.push(self.generic_address(operand(it, 2)?, Space::Shared)?);
                uses.extend(coordinates);
                let multicast = has("multicast::cluster");
                if multicast {
                    uses.push(self.source(operand(it, 3)?, Class::R32, false)?);
                }
                let op = TensorOp::Load { rank, multicast };
                self.emit(Op::Async(AsyncOp::Tensor(op)), &[], &uses);
                Ok(())
            }
            ["global", "shared::cta"] => {
                let (map, coordinates) = self.tensor_operand(operand(it, 0)?, rank)?;
                let mut uses = vec![map, self.generic_address(operand(it, 1)?, Space::Shared)?];
                uses.extend(coordinates);
                let reduce = if parts[1] == "reduce" { Some(atomic_op(parts)?) } else { None };
                let op = TensorOp::Store { rank, reduce };
                self.emit(Op::Async(AsyncOp::Tensor(op)), &[], &uses);
                Ok(())
            }
            _ => Err(format!("vgpu has no `{}`", it.opcode)),
        }
    }

    /// `[map, {coordinates}]`.
    fn tensor_operand(&mut self, operand: &Operand<'a>, rank: u8) -> Result<(Reg, Vec<Reg>), Gap> {
        let map = self.generic_address(operand, Space::Generic)?;
        let Operand::Memory { more, .. } = operand else {
            return Err("a tensor copy without its coordinates".into());
        };
        let [Operand::Vector(coordinates)] = more.as_slice() else {
            return Err("a tensor copy without its coordinates".into());
        };
        if coordinates.len() != usize::from(rank) {
            return Err(format!("{} coordinates for {rank} dimensions", coordinates.len()));
        }
        let mut regs = Vec::with_capacity(5);
        for coordinate in coordinates {
            regs.push(self.source(coordinate, Class::R32, true)?);
        }
        Ok((map, regs))
    }

    /// `tensormap.replace` and `tensormap.cp_fenceproxy`.
    pub(super) fn tensor_map(&mut self, it: &'p Instruction<'a>) -> Result<(), Gap> {
        let parts: Vec<&str> = it.opcode.split('.').collect();
        if parts.get(1) == Some(&"cp_fenceproxy") {
            let to = self.generic_address(operand(it, 0)?, Space::Global)?;
            let from = self.generic_address(operand(it, 1)?, Space::Shared)?;
            if operand(it, 2)?.int() != Some(128) {
                return Err("a tensor map that is not 128 bytes long".into());
            }
            self.emit(Op::Async(AsyncOp::Tensor(TensorOp::CopyMap)), &[], &[to, from]);
            return Ok(());
        }
        let field = match parts.get(3) {
            Some(&"global_address") => MapField::Address,
            Some(&"rank") => MapField::Rank,
            Some(&"box_dim") => MapField::BoxDim,
            Some(&"global_dim") => MapField::Dim,
            Some(&"global_stride") => MapField::Stride,
            Some(&"element_stride") => MapField::ElementStride,
            Some(&"swizzle_mode") => MapField::Swizzle,
            Some(&"fill_mode") => MapField::Fill,
            _ => return Err(format!("vgpu has no `{}`", it.opcode)),
        };
        let space = if parts.contains(&"shared::cta") {
            Space::Shared
        } else if parts.contains(&"global") {
            Space::Global
        } else {
            Space::Generic
        };
        let address = self.generic_address(operand(it, 0)?, space)?;
        let ordinal = if it.operands.len() == 3 { operand(it, 1)?.int() } else { Some(0) };
        let ordinal = ordinal.filter(|n| *n < 5).ok_or("a dimension that is not 0 to 4")? as u8;
        let value = self.source(operand(it, it.operands.len() - 1)?, Class::R64, false)?;
        let op = TensorOp::Replace { field, ordinal };
        self.emit(Op::Async(AsyncOp::Tensor(op)), &[], &[address, value]);
        Ok(())
    }
}
