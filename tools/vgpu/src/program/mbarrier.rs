//! `mbarrier`, and generic addresses for the asynchronous engines.

use super::alu::operand;
use super::builder::{Builder, Gap};
use super::engine::MbarrierOp;
use super::inst::{Op, Reg, Space};
use super::{LOCAL_WINDOW, PARAM_WINDOW, SHARED_WINDOW};
use crate::ops::Class;
use crate::ptx::ast::{Instruction, Operand};

/// Bits of a state that hold the arrivals that a phase still waits for.
pub(crate) const PENDING_MASK: u64 = (1 << 20) - 1;

impl<'p, 'a> Builder<'p, 'a> {
    /// A 64-bit register with the generic address of `[base+offset]` in a space.
    pub(super) fn generic_address(
        &mut self,
        operand: &Operand<'a>,
        space: Space,
    ) -> Result<Reg, Gap> {
        let address = self.address(operand)?;
        let space = match space {
            Space::Generic => address.space.unwrap_or(Space::Generic),
            named => named,
        };
        let window = match space {
            Space::Shared => SHARED_WINDOW,
            Space::Local => LOCAL_WINDOW,
            Space::Param => PARAM_WINDOW,
            Space::Generic | Space::Global => 0,
        };
        let mut reg = address.reg;
        if !address.wide {
            let wide = self.temp(Class::R64);
            self.prelude_row("cvt.u64.u32", wide, &[reg])?;
            reg = wide;
        }
        let added = window.wrapping_add_signed(address.offset.into());
        if added == 0 {
            return Ok(reg);
        }
        let (sum, added) = (self.temp(Class::R64), self.constant(Class::R64, added));
        self.prelude_row("add.u64", sum, &[reg, added])?;
        Ok(sum)
    }

    pub(super) fn mbarrier(&mut self, it: &'p Instruction<'a>) -> Result<(), Gap> {
        let parts: Vec<&str> = it.opcode.split('.').collect();
        let has = |name: &str| parts.contains(&name);
        if has("pending_count") {
            return self.pending_count(it);
        }
        let space = if has("shared") || has("shared::cta") || has("shared::cluster") {
            Space::Shared
        } else {
            Space::Generic
        };
        // Without a result the address comes first.
        let skip = usize::from(!matches!(operand(it, 0)?, Operand::Memory { .. }));
        let address = self.generic_address(operand(it, skip)?, space)?;
        let mut uses = vec![address];
        let op = match parts.get(1).copied() {
            Some("init") => MbarrierOp::Init,
            Some("inval") => MbarrierOp::Inval,
            Some("expect_tx") => MbarrierOp::ExpectTx,
            Some("complete_tx") => MbarrierOp::CompleteTx,
            Some(name @ ("arrive" | "arrive_drop")) => MbarrierOp::Arrive {
                expects: has("expect_tx"),
                drops: name == "arrive_drop",
                no_complete: has("noComplete"),
            },
            Some(name @ ("test_wait" | "try_wait")) => {
                MbarrierOp::Wait { parity: has("parity"), sleeps: name == "try_wait" }
            }
            _ => return Err(format!("vgpu has no `{}`", it.opcode)),
        };
        match op {
            MbarrierOp::Inval => {}
            MbarrierOp::Arrive { expects, .. } => {
                let one = self.constant(Class::R32, 1);
                let value = match it.operands.get(skip + 1) {
                    Some(value) => self.source(value, Class::R32, false)?,
                    None if expects => return Err("no bytes to expect".into()),
                    None => one,
                };
                uses.extend(if expects { vec![one, value] } else { vec![value] });
            }
            MbarrierOp::Wait { parity, .. } => {
                let class = if parity { Class::R32 } else { Class::R64 };
                uses.push(self.source(operand(it, skip + 1)?, class, false)?);
            }
            _ => uses.push(self.source(operand(it, skip + 1)?, Class::R32, false)?),
        }
        match op {
            MbarrierOp::Arrive { .. } if skip == 1 => {
                let dest = self.dest(operand(it, 0)?, Class::R64, false)?;
                self.emit(Op::Mbarrier(op), &[dest.reg], &uses);
                self.finish(dest)
            }
            MbarrierOp::Wait { .. } if skip == 1 => {
                let dest = self.dest(operand(it, 0)?, Class::Pred, false)?;
                self.emit(Op::Mbarrier(op), &[dest.reg], &uses);
                Ok(())
            }
            _ if skip == 0 && !matches!(op, MbarrierOp::Wait { .. }) => {
                self.emit(Op::Mbarrier(op), &[], &uses);
                Ok(())
            }
            _ => Err("the wrong operands".into()),
        }
    }

    fn pending_count(&mut self, it: &'p Instruction<'a>) -> Result<(), Gap> {
        let state = self.source(operand(it, 1)?, Class::R64, false)?;
        let mask = self.constant(Class::R64, PENDING_MASK);
        let (pending, narrow) =
            (self.temp(Class::R64), self.dest(operand(it, 0)?, Class::R32, false)?);
        self.emit_row("and.b64", pending, &[state, mask])?;
        self.emit_row("cvt.u32.u64", narrow.reg, &[pending])?;
        self.finish(narrow)
    }
}
