//! Functions that the machine itself provides.

use super::builder::{Builder, Gap};
use super::inst::{Access, Op, Reg, Scope, Semantics, Space};
use super::scope::Symbol;
use super::{Fixed, atomics::class_of};
use crate::ops::Class;
use crate::ptx::ast::Operand;

/// A function without a body that kernels call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Intrinsic {
    Printf,
    AssertFail,
}

impl Intrinsic {
    pub(super) fn find(name: &str) -> Option<Self> {
        match name {
            "vprintf" => Some(Intrinsic::Printf),
            "__assertfail" => Some(Intrinsic::AssertFail),
            _ => None,
        }
    }

    /// Bytes of each parameter.
    fn params(self) -> &'static [u8] {
        match self {
            Intrinsic::Printf => &[8, 8],
            Intrinsic::AssertFail => &[8, 8, 4, 8, 8],
        }
    }
}

impl<'a> Builder<'_, 'a> {
    /// Loads the parameters and calls the machine.
    pub(super) fn intrinsic(
        &mut self,
        intrinsic: Intrinsic,
        returns: &[Operand<'a>],
        arguments: &[Operand<'a>],
    ) -> Result<(), Gap> {
        let params = intrinsic.params();
        if params.len() != arguments.len() {
            return Err(format!("{} parameters instead of {}", arguments.len(), params.len()));
        }
        let mut uses = Vec::with_capacity(params.len());
        for (argument, bytes) in arguments.iter().zip(params) {
            let address = self.param_address(argument)?;
            let value = self.temp(class_of(*bytes));
            self.emit(Op::Load(param_access(*bytes)), &[value], &[address]);
            uses.push(value);
        }
        match intrinsic {
            Intrinsic::Printf => {
                let count = self.temp(Class::R32);
                self.emit(Op::Printf, &[count], &uses);
                if let Some(result) = returns.first() {
                    let address = self.param_address(result)?;
                    self.emit(Op::Store(param_access(4)), &[], &[address, count]);
                }
            }
            Intrinsic::AssertFail => self.emit(Op::AssertFail, &[], &uses),
        }
        Ok(())
    }

    fn param_address(&mut self, operand: &Operand<'a>) -> Result<Reg, Gap> {
        match operand {
            Operand::Name(name) => match self.scopes.find(name) {
                Some(Symbol::Place(place)) => Ok(self.fixed(Class::R64, Fixed::Address(place))),
                _ => Err(format!("`{name}` is no .param variable")),
            },
            _ => Err(format!("`{operand}` is no .param variable")),
        }
    }
}

fn param_access(bytes: u8) -> Access {
    Access {
        space: Space::Param,
        semantics: Semantics::Weak,
        scope: Scope::Cta,
        bytes,
        vector: 1,
        signed: false,
        wide_address: true,
        class: class_of(bytes),
        offset: 0,
        is_copied: false,
    }
}
