//! Names of registers, variables and labels, scope within scope.

use std::collections::HashMap;

use super::inst::Reg;
use super::layout::Pointer;
use crate::ops::Class;

/// What a name stands for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Symbol {
    /// One register.
    Register(Reg),
    /// `%r<10>`: registers with numbers from `first` on.
    Registers { class: Class, first: u32, count: u32 },
    /// A variable or parameter.
    Place(Pointer),
    /// Index of a label.
    Label(u32),
}

/// Names of one `{ … }`.
#[derive(Debug, Default)]
pub(super) struct Scope<'a> {
    names: HashMap<&'a str, Symbol>,
}

/// Scopes from the outermost to the innermost.
#[derive(Debug, Default)]
pub(super) struct Scopes<'a>(Vec<Scope<'a>>);

impl<'a> Scopes<'a> {
    pub(super) fn push(&mut self) {
        self.0.push(Scope::default());
    }

    pub(super) fn pop(&mut self) {
        self.0.pop();
    }

    /// Binds a name in the innermost scope.
    pub(super) fn bind(&mut self, name: &'a str, symbol: Symbol) {
        if let Some(scope) = self.0.last_mut() {
            scope.names.insert(name, symbol);
        }
    }

    /// Binds the name of a declaration; false if the innermost scope has another one of it.
    pub(super) fn declare(&mut self, name: &'a str, symbol: Symbol) -> bool {
        self.0.last_mut().is_none_or(|scope| scope.names.insert(name, symbol).is_none())
    }

    /// The innermost meaning of a name; `%r7` may be a member of `%r<10>`.
    pub(super) fn find(&self, name: &str) -> Option<Symbol> {
        let digits = name.len() - name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        let (prefix, number) = name.split_at(name.len() - digits);
        let number: Option<u32> = number.parse().ok();
        self.0.iter().rev().find_map(|scope| {
            if let Some(symbol) = scope.names.get(name) {
                return Some(*symbol);
            }
            match (number, scope.names.get(prefix)) {
                (Some(number), Some(Symbol::Registers { class, first, count }))
                    if number < *count =>
                {
                    Some(Symbol::Register(Reg::new(*class, first + number)))
                }
                _ => None,
            }
        })
    }
}
