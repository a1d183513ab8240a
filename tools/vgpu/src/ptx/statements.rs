//! Bodies of functions: scopes, declarations, instructions.

use std::borrow::Cow;

use super::SyntaxError;
use super::ast::{Guard, Inlined, Instruction, Loc, Space, Statement, Variable};
use super::lexer::Kind;
use super::parser::Parser;

impl<'a> Parser<'a> {
    /// Statements up to and including the closing brace.
    pub(super) fn body(&mut self) -> Result<Vec<Statement<'a>>, SyntaxError> {
        self.enter()?;
        let mut statements = Vec::new();
        while !self.accept(b'}') {
            if self.accept(b';') {
                continue;
            }
            self.statement(&mut statements)?;
        }
        self.depth -= 1;
        Ok(statements)
    }

    fn statement(&mut self, out: &mut Vec<Statement<'a>>) -> Result<(), SyntaxError> {
        match self.kind() {
            Kind::Punct(b'{') => {
                self.advance();
                out.push(Statement::Block(self.body()?));
            }
            Kind::Dotted("loc") => {
                self.advance();
                out.push(Statement::Loc(self.loc()?));
            }
            Kind::Dotted("pragma") => {
                self.advance();
                out.push(Statement::Pragma(self.string()?));
                self.expect(b';')?;
            }
            Kind::Dotted(name @ ("callprototype" | "branchtargets" | "calltargets")) => {
                self.advance();
                let text = self.text_until(b';')?;
                self.expect(b';')?;
                out.push(Statement::Targets { name, text });
            }
            Kind::Dotted("reg" | "local" | "shared" | "param" | "global" | "const") => {
                self.declarations(out)?;
            }
            Kind::Word(name) if self.kind_after() == Kind::Punct(b':') => {
                let line = self.line();
                self.advance();
                self.advance();
                out.push(Statement::Label(name, line));
            }
            Kind::Word(_) | Kind::Punct(b'@') => {
                out.push(Statement::Instruction(self.instruction()?));
            }
            _ => return Err(self.unexpected("a statement or `}`")),
        }
        Ok(())
    }

    /// `.reg .b32 a, b;`: one declaration each.
    fn declarations(&mut self, out: &mut Vec<Statement<'a>>) -> Result<(), SyntaxError> {
        let first = self.variable()?;
        let shared_part = first.clone();
        out.push(Statement::Variable(first));
        while shared_part.space == Space::Reg && self.accept(b',') {
            let line = self.line();
            let name = self.word()?;
            let count = self.register_count()?;
            let next = Variable { name, count, line, ..shared_part.clone() };
            out.push(Statement::Variable(next));
        }
        self.expect(b';')
    }

    fn loc(&mut self) -> Result<Loc<'a>, SyntaxError> {
        let mut loc =
            Loc { file: self.u32()?, line: self.u32()?, column: self.u32()?, inlined: None };
        if !self.accept(b',') {
            return Ok(loc);
        }
        if self.word()? != "function_name" {
            return Err(self.unexpected("`function_name`"));
        }
        let function = self.word()?;
        let offset = if self.accept(b'+') { self.uint()? } else { 0 };
        self.expect(b',')?;
        if self.word()? != "inlined_at" {
            return Err(self.unexpected("`inlined_at`"));
        }
        let at = (self.u32()?, self.u32()?, self.u32()?);
        loc.inlined = Some(Inlined { function, offset, at });
        Ok(loc)
    }

    fn instruction(&mut self) -> Result<Instruction<'a>, SyntaxError> {
        let guard = if self.accept(b'@') {
            let negated = self.accept(b'!');
            Some(Guard { negated, predicate: self.word()? })
        } else {
            None
        };
        let line = self.line();
        let opcode = self.opcode()?;
        let mut operands = Vec::new();
        while !self.accept(b';') {
            if !operands.is_empty() {
                self.expect(b',')?;
            }
            operands.push(self.operand()?);
        }
        Ok(Instruction { guard, opcode, operands, line })
    }

    /// The opcode as one slice if it is written without gaps.
    fn opcode(&mut self) -> Result<Cow<'a, str>, SyntaxError> {
        let first = self.token();
        self.word()?;
        let mut end = first.end;
        let mut joined: Option<String> = None;
        while let Kind::Dotted(part) = self.kind() {
            let token = self.advance();
            if let Some(text) = &mut joined {
                text.push('.');
                text.push_str(part);
            } else if token.start == end {
                end = token.end;
            } else {
                joined = Some(format!("{}.{part}", &self.source[first.start..end]));
            }
        }
        Ok(joined.map_or(Cow::Borrowed(&self.source[first.start..end]), Cow::Owned))
    }
}
