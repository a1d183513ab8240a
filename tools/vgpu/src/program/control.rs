//! Jumps, ends, traps and calls.

use super::alu::operand;
use super::builder::{Builder, Gap};
use super::inst::Op;
use super::scope::Symbol;
use crate::ops::Class;
use crate::ptx::ast::{Instruction, Operand};

impl<'p, 'a> Builder<'p, 'a> {
    pub(super) fn control(&mut self, it: &'p Instruction<'a>) -> Result<(), Gap> {
        let base = it.opcode.split('.').next().unwrap_or("");
        match base {
            "bra" => {
                let Operand::Name(name) = operand(it, 0)? else {
                    return Err("a jump to something that is no label".into());
                };
                let Some(Symbol::Label(label)) = self.scopes.find(name) else {
                    return Err(format!("no label `{name}`"));
                };
                self.emit(Op::Bra(label), &[], &[]);
            }
            "ret" => match self.inlined.last() {
                Some((_, end)) => self.emit(Op::Bra(*end), &[], &[]),
                None => self.emit(Op::Exit, &[], &[]),
            },
            "exit" => self.emit(Op::Exit, &[], &[]),
            "trap" | "brkpt" => self.emit(Op::Trap, &[], &[]),
            "nanosleep" => {
                let time = self.source(operand(it, 0)?, Class::R32, false)?;
                self.emit(Op::Nanosleep, &[], &[time]);
            }
            "call" => return self.call(it),
            _ => self.emit(Op::Nop, &[], &[]),
        }
        Ok(())
    }
}
