//! Variables, registers and parameters with their initialisers.

use super::SyntaxError;
use super::ast::{Init, Space, Variable};
use super::lexer::Kind;
use super::parser::Parser;

impl<'a> Parser<'a> {
    /// One declaration without its linkage and its semicolon: `.shared .align 16 .b8 name[64]`.
    pub(super) fn variable(&mut self) -> Result<Variable<'a>, SyntaxError> {
        let space = match self.kind() {
            Kind::Dotted("reg") => Space::Reg,
            Kind::Dotted("global") => Space::Global,
            Kind::Dotted("const") => Space::Const,
            Kind::Dotted("shared") => Space::Shared,
            Kind::Dotted("local") => Space::Local,
            Kind::Dotted("param") => Space::Param,
            _ => return Err(self.unexpected("a state space")),
        };
        self.advance();
        let mut variable = Variable {
            linkage: None,
            space,
            align: None,
            vector: 1,
            ty: "",
            pointer: Vec::new(),
            name: "",
            count: None,
            dims: Vec::new(),
            init: None,
            line: 0,
        };
        self.attributes(&mut variable)?;
        if variable.ty.is_empty() {
            return Err(self.unexpected("a type"));
        }
        variable.line = self.line();
        variable.name = self.word()?;
        variable.count = self.register_count()?;
        while self.accept(b'[') {
            let dim = if self.kind() == Kind::Punct(b']') { None } else { Some(self.uint()?) };
            self.expect(b']')?;
            variable.dims.push(dim);
        }
        if self.accept(b'=') {
            variable.init = Some(self.init()?);
        }
        Ok(variable)
    }

    /// Alignment, vector, type, pointer attributes.
    fn attributes(&mut self, variable: &mut Variable<'a>) -> Result<(), SyntaxError> {
        while let Kind::Dotted(word) = self.kind() {
            self.advance();
            match word {
                "align" => {
                    let align = self.u32()?;
                    // The second alignment of a `.ptr` is that of what it points at.
                    if variable.pointer.is_empty() {
                        variable.align = Some(align);
                    }
                }
                "v2" => variable.vector = 2,
                "v4" => variable.vector = 4,
                "v8" => variable.vector = 8,
                "attribute" => {
                    self.expect(b'(')?;
                    while !self.accept(b')') {
                        if self.kind() == Kind::End {
                            return Err(self.unexpected("`)`"));
                        }
                        self.advance();
                    }
                }
                _ if variable.ty.is_empty() => variable.ty = word,
                _ => variable.pointer.push(word),
            }
        }
        Ok(())
    }

    /// `<10>` behind a register's name.
    pub(super) fn register_count(&mut self) -> Result<Option<u32>, SyntaxError> {
        if !self.accept(b'<') {
            return Ok(None);
        }
        let count = self.u32()?;
        self.expect(b'>')?;
        Ok(Some(count))
    }

    fn init(&mut self) -> Result<Init<'a>, SyntaxError> {
        self.enter()?;
        let init = match self.kind() {
            Kind::Punct(b'{') => {
                self.advance();
                let mut list = Vec::new();
                while !self.accept(b'}') {
                    if !list.is_empty() {
                        self.expect(b',')?;
                    }
                    list.push(self.init()?);
                }
                Init::List(list)
            }
            Kind::Word("generic") if self.kind_after() == Kind::Punct(b'(') => {
                self.advance();
                self.advance();
                let symbol = self.word()?;
                self.expect(b')')?;
                Init::Address { generic: true, symbol, offset: self.init_offset()? }
            }
            Kind::Word(symbol) => {
                self.advance();
                Init::Address { generic: false, symbol, offset: self.init_offset()? }
            }
            _ => Init::Value(self.literal()?),
        };
        self.depth -= 1;
        Ok(init)
    }

    fn init_offset(&mut self) -> Result<i64, SyntaxError> {
        if self.accept(b'+') {
            return Ok(self.uint()? as i64);
        }
        if self.accept(b'-') {
            return Ok((self.uint()? as i64).wrapping_neg());
        }
        Ok(0)
    }
}
