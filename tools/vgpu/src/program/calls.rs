//! Calls are inlined: the callee's parameters are the caller's variables, its registers are fresh.

use super::builder::{Builder, Gap, MAX_INLINE_DEPTH};
use super::functions::Intrinsic;
use super::inst::Op;
use super::layout::type_class;
use super::scope::Symbol;
use crate::ptx::ast::{Function, Instruction, Operand, Space, Statement, Variable};

impl<'p, 'a> Builder<'p, 'a> {
    /// `call{.uni} (returns), function, (arguments);`
    pub(super) fn call(&mut self, it: &'p Instruction<'a>) -> Result<(), Gap> {
        let mut operands = it.operands.iter().peekable();
        let returns = match operands.peek() {
            Some(Operand::List(list)) => {
                operands.next();
                list.as_slice()
            }
            _ => &[],
        };
        let Some(Operand::Name(name)) = operands.next() else {
            return Err("a call without a function's name".into());
        };
        let arguments = match operands.next() {
            Some(Operand::List(list)) => list.as_slice(),
            _ => &[],
        };
        if let Some(Symbol::Register(_)) = self.scopes.find(name) {
            return Err("an indirect call".into());
        }
        let function = self.module.functions.get(name).copied();
        match (function.and_then(|function| function.body.as_deref()), function) {
            (Some(body), Some(function)) => self.inline(function, body, returns, arguments),
            _ => match Intrinsic::find(name) {
                Some(intrinsic) => self.intrinsic(intrinsic, returns, arguments),
                None => Err(format!("the function `{name}` has no body")),
            },
        }
    }

    fn inline(
        &mut self,
        function: &'p Function<'a>,
        body: &'p [Statement<'a>],
        returns: &[Operand<'a>],
        arguments: &[Operand<'a>],
    ) -> Result<(), Gap> {
        let recursive = self.inlined.iter().any(|(name, _)| *name == function.name);
        if recursive || self.inlined.len() >= MAX_INLINE_DEPTH {
            return Err(format!("`{}` calls itself", function.name));
        }
        if returns.len() != function.returns.len() || arguments.len() != function.params.len() {
            return Err(format!("`{}` takes other parameters", function.name));
        }
        let guard_label = self.new_label();
        let has_guard = self.skip_if_guard_fails(guard_label);
        let mut bound = Vec::new();
        for (formal, actual) in function.params.iter().zip(arguments) {
            bound.push((formal.name, self.bind_argument(formal, actual)?));
        }
        let mut results = Vec::new();
        for (formal, actual) in function.returns.iter().zip(returns) {
            bound.push((formal.name, self.bind_result(formal, actual, &mut results)?));
        }
        let line = self.line;
        let outer = std::mem::take(&mut self.scopes);
        self.push_module_scope();
        for (name, symbol) in bound {
            self.scopes.bind(name, symbol);
        }
        let end = self.new_label();
        self.inlined.push((function.name, end));
        self.unguarded(|b| b.body(body));
        self.inlined.pop();
        self.scopes = outer;
        self.line = line;
        self.place_label(end);
        for (operand, reg) in results {
            let dest = self.dest(&operand, reg.class(), false)?;
            self.unguarded(|b| b.emit_row(move_row(reg), dest.reg, &[reg]))?;
        }
        if has_guard {
            self.place_label(guard_label);
        }
        Ok(())
    }

    /// Jumps over a guarded call where the guard fails.
    fn skip_if_guard_fails(&mut self, label: u32) -> bool {
        let Some(guard) = self.take_guard() else { return false };
        self.set_guard(super::inst::Guard { negated: !guard.negated, ..guard });
        self.emit(Op::Bra(label), &[], &[]);
        self.take_guard();
        true
    }

    fn bind_argument(
        &mut self,
        formal: &Variable<'a>,
        actual: &Operand<'a>,
    ) -> Result<Symbol, Gap> {
        if formal.space == Space::Param
            && let Operand::Name(name) = actual
            && let Some(symbol @ Symbol::Place(_)) = self.scopes.find(name)
        {
            return Ok(symbol);
        }
        if formal.space != Space::Reg {
            return Err(format!("`{actual}` passed as a .param"));
        }
        let class = type_class(formal.ty).ok_or("a parameter of unknown type")?;
        let source = self.source(actual, class, false)?;
        let copy = self.temp(class);
        self.emit_row(move_row(copy), copy, &[source])?;
        Ok(Symbol::Register(copy))
    }

    fn bind_result(
        &mut self,
        formal: &Variable<'a>,
        actual: &Operand<'a>,
        results: &mut Vec<(Operand<'a>, super::Reg)>,
    ) -> Result<Symbol, Gap> {
        if let Operand::Name(name) = actual
            && formal.space == Space::Param
            && let Some(symbol @ Symbol::Place(_)) = self.scopes.find(name)
        {
            return Ok(symbol);
        }
        let class = type_class(formal.ty).ok_or("a result of unknown type")?;
        let reg = self.temp(class);
        results.push((actual.clone(), reg));
        Ok(Symbol::Register(reg))
    }
}

fn move_row(reg: super::Reg) -> &'static str {
    match reg.class() {
        crate::ops::Class::Pred => "mov.pred",
        crate::ops::Class::R32 => "mov.b32",
        crate::ops::Class::R64 => "mov.b64",
        crate::ops::Class::R128 => "mov.b128",
    }
}
