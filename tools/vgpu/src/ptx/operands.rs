//! Operands of instructions.

use super::SyntaxError;
use super::ast::Operand;
use super::lexer::Kind;
use super::parser::Parser;

impl<'a> Parser<'a> {
    /// An operand, perhaps `a|b`.
    pub(super) fn operand(&mut self) -> Result<Operand<'a>, SyntaxError> {
        self.enter()?;
        let first = self.single_operand()?;
        let operand = if self.accept(b'|') {
            Operand::Pair(Box::new(first), Box::new(self.single_operand()?))
        } else {
            first
        };
        self.depth -= 1;
        Ok(operand)
    }

    fn single_operand(&mut self) -> Result<Operand<'a>, SyntaxError> {
        match self.kind() {
            Kind::Word(_) => self.named(),
            Kind::Int(_) | Kind::F32(_) | Kind::F64(_) | Kind::Punct(b'-') => self.literal(),
            Kind::Punct(b'!') => {
                self.advance();
                Ok(Operand::Not(Box::new(self.operand()?)))
            }
            Kind::Punct(b'{') => {
                self.advance();
                self.operand_list(b'}').map(Operand::Vector)
            }
            Kind::Punct(b'(') => {
                self.advance();
                self.operand_list(b')').map(Operand::List)
            }
            Kind::Punct(b'[') => {
                self.advance();
                self.memory()
            }
            _ => Err(self.unexpected("an operand")),
        }
    }

    /// A name, `name.part` or `name+offset`.
    fn named(&mut self) -> Result<Operand<'a>, SyntaxError> {
        let name = self.word()?;
        if let Kind::Dotted(part) = self.kind() {
            self.advance();
            return Ok(Operand::Member(name, part));
        }
        Ok(match self.offset()? {
            0 => Operand::Name(name),
            offset => Operand::Offset(name, offset),
        })
    }

    /// `+ 4`, `+-4` or `- 4`, if there is one; 0 otherwise.
    fn offset(&mut self) -> Result<i64, SyntaxError> {
        let mut negative = match self.kind() {
            Kind::Punct(b'+') => false,
            Kind::Punct(b'-') => true,
            _ => return Ok(0),
        };
        self.advance();
        if !negative && self.accept(b'-') {
            negative = true;
        }
        let value = self.uint()? as i64;
        Ok(if negative { value.wrapping_neg() } else { value })
    }

    pub(super) fn literal(&mut self) -> Result<Operand<'a>, SyntaxError> {
        let negative = self.accept(b'-');
        let operand = match self.kind() {
            Kind::Int(value) => Operand::Int { value, negative },
            Kind::F32(bits) => Operand::F32(bits ^ (u32::from(negative) << 31)),
            Kind::F64(bits) => Operand::F64(bits ^ (u64::from(negative) << 63)),
            _ => return Err(self.unexpected("a number")),
        };
        self.advance();
        Ok(operand)
    }

    fn operand_list(&mut self, end: u8) -> Result<Vec<Operand<'a>>, SyntaxError> {
        let mut operands = Vec::new();
        while !self.accept(end) {
            if !operands.is_empty() {
                self.expect(b',')?;
            }
            operands.push(self.operand()?);
        }
        Ok(operands)
    }

    /// What stands in brackets, up to and including the closing one.
    fn memory(&mut self) -> Result<Operand<'a>, SyntaxError> {
        let (base, offset) = match self.kind() {
            Kind::Word(name) => {
                self.advance();
                (Operand::Name(name), self.offset()?)
            }
            Kind::Int(_) | Kind::Punct(b'-') => (self.literal()?, self.offset()?),
            _ => return Err(self.unexpected("a register, symbol or address")),
        };
        let mut more = Vec::new();
        while self.accept(b',') {
            more.push(self.operand()?);
        }
        self.expect(b']')?;
        Ok(Operand::Memory { base: Box::new(base), offset, more })
    }
}
