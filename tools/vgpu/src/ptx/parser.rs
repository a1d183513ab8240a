//! Tokens, modules and functions.

use super::SyntaxError;
use super::ast::{Directive, Function, Item, Linkage, Module, Variable};
use super::lexer::{Kind, Token, tokenize};

/// Scopes, lists and operands nested deeper than this are refused.
pub(super) const MAX_DEPTH: usize = 64;

/// Parses a whole module.
///
/// # Errors
///
/// [`SyntaxError`] with the line of the first token that does not fit.
pub fn parse(source: &str) -> Result<Module<'_>, SyntaxError> {
    let tokens = tokenize(source)?;
    Parser { source, tokens, next: 0, depth: 0 }.module()
}

pub(super) struct Parser<'a> {
    pub(super) source: &'a str,
    tokens: Vec<Token<'a>>,
    next: usize,
    pub(super) depth: usize,
}

/// Tokens.
impl<'a> Parser<'a> {
    pub(super) fn token(&self) -> Token<'a> {
        self.tokens[self.next]
    }

    pub(super) fn kind(&self) -> Kind<'a> {
        self.token().kind
    }

    pub(super) fn kind_after(&self) -> Kind<'a> {
        self.tokens.get(self.next + 1).map_or(Kind::End, |token| token.kind)
    }

    pub(super) fn line(&self) -> u32 {
        self.token().line
    }

    pub(super) fn advance(&mut self) -> Token<'a> {
        let token = self.token();
        if token.kind != Kind::End {
            self.next += 1;
        }
        token
    }

    pub(super) fn accept(&mut self, punct: u8) -> bool {
        let found = self.kind() == Kind::Punct(punct);
        if found {
            self.next += 1;
        }
        found
    }

    pub(super) fn expect(&mut self, punct: u8) -> Result<(), SyntaxError> {
        if self.accept(punct) {
            Ok(())
        } else {
            Err(self.unexpected(&format!("`{}`", punct as char)))
        }
    }

    pub(super) fn unexpected(&self, wanted: &str) -> SyntaxError {
        let token = self.token();
        let got = match token.kind {
            Kind::End => "the end of the text".to_owned(),
            _ => format!("`{}`", &self.source[token.start..token.end]),
        };
        SyntaxError { line: token.line, message: format!("expected {wanted}, got {got}") }
    }

    pub(super) fn word(&mut self) -> Result<&'a str, SyntaxError> {
        match self.kind() {
            Kind::Word(word) => {
                self.next += 1;
                Ok(word)
            }
            _ => Err(self.unexpected("a name")),
        }
    }

    pub(super) fn dotted(&mut self) -> Result<&'a str, SyntaxError> {
        match self.kind() {
            Kind::Dotted(word) => {
                self.next += 1;
                Ok(word)
            }
            _ => Err(self.unexpected("a word with a dot before it")),
        }
    }

    pub(super) fn uint(&mut self) -> Result<u64, SyntaxError> {
        match self.kind() {
            Kind::Int(value) => {
                self.next += 1;
                Ok(value)
            }
            _ => Err(self.unexpected("an unsigned integer")),
        }
    }

    pub(super) fn u32(&mut self) -> Result<u32, SyntaxError> {
        let before = self.unexpected("an integer of 32 bits");
        u32::try_from(self.uint()?).map_err(|_| before)
    }

    pub(super) fn string(&mut self) -> Result<&'a str, SyntaxError> {
        match self.kind() {
            Kind::Str(text) => {
                self.next += 1;
                Ok(text)
            }
            _ => Err(self.unexpected("a string")),
        }
    }

    pub(super) fn enter(&mut self) -> Result<(), SyntaxError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.unexpected(&format!("no more than {MAX_DEPTH} levels of nesting")));
        }
        Ok(())
    }

    /// The text from here up to a token, which is not consumed.
    pub(super) fn text_until(&mut self, end: u8) -> Result<&'a str, SyntaxError> {
        let start = self.token().start;
        while self.kind() != Kind::Punct(end) {
            if self.kind() == Kind::End {
                return Err(self.unexpected(&format!("`{}`", end as char)));
            }
            self.advance();
        }
        Ok(self.source[start..self.token().start].trim_end())
    }
}

/// Module level.
impl<'a> Parser<'a> {
    fn module(mut self) -> Result<Module<'a>, SyntaxError> {
        let mut module = Module { address_bits: 64, ..Module::default() };
        while self.kind() != Kind::End {
            if self.accept(b';') {
                continue;
            }
            match self.kind() {
                Kind::Dotted("version") => {
                    self.advance();
                    module.version = self.version()?;
                }
                Kind::Dotted("target") => {
                    self.advance();
                    module.targets = vec![self.word()?];
                    while self.accept(b',') {
                        module.targets.push(self.word()?);
                    }
                }
                Kind::Dotted("address_size") => {
                    self.advance();
                    module.address_bits = self.u32()?;
                }
                _ => {
                    let item = self.item()?;
                    module.items.push(item);
                }
            }
        }
        Ok(module)
    }

    fn version(&mut self) -> Result<(u32, u32), SyntaxError> {
        let error = self.unexpected("a version such as 8.0");
        let token = self.advance();
        let text = &self.source[token.start..token.end];
        let (major, minor) = text.split_once('.').ok_or_else(|| error.clone())?;
        match (major.parse(), minor.parse()) {
            (Ok(major), Ok(minor)) => Ok((major, minor)),
            _ => Err(error),
        }
    }

    fn item(&mut self) -> Result<Item<'a>, SyntaxError> {
        match self.kind() {
            Kind::Dotted("file") => self.file(),
            Kind::Dotted("section") => {
                self.advance();
                let start = self.token().start;
                self.dotted()?;
                let name = &self.source[start..self.token().start].trim_end();
                self.expect(b'{')?;
                let text = self.text_until(b'}')?;
                self.expect(b'}')?;
                Ok(Item::Section { name, text })
            }
            Kind::Dotted("alias") => {
                self.advance();
                let name = self.word()?;
                self.expect(b',')?;
                let target = self.word()?;
                self.expect(b';')?;
                Ok(Item::Alias { name, target })
            }
            _ => {
                let linkage = self.linkage();
                match self.kind() {
                    Kind::Dotted("entry" | "func") => self.function(linkage).map(Item::Function),
                    Kind::Dotted("global" | "const" | "shared") => {
                        let mut variable = self.variable()?;
                        variable.linkage = linkage;
                        self.expect(b';')?;
                        Ok(Item::Variable(variable))
                    }
                    _ => Err(self.unexpected("a directive of a module")),
                }
            }
        }
    }

    fn file(&mut self) -> Result<Item<'a>, SyntaxError> {
        self.advance();
        let index = self.u32()?;
        let path = self.string()?;
        // Time stamp and size, if written.
        while self.accept(b',') {
            self.uint()?;
        }
        Ok(Item::File { index, path })
    }

    fn linkage(&mut self) -> Option<Linkage> {
        let linkage = match self.kind() {
            Kind::Dotted("extern") => Linkage::Extern,
            Kind::Dotted("visible") => Linkage::Visible,
            Kind::Dotted("weak") => Linkage::Weak,
            Kind::Dotted("common") => Linkage::Common,
            _ => return None,
        };
        self.advance();
        Some(linkage)
    }

    fn function(&mut self, linkage: Option<Linkage>) -> Result<Function<'a>, SyntaxError> {
        let is_entry = self.dotted()? == "entry";
        let returns = if self.accept(b'(') { self.parameters()? } else { Vec::new() };
        let line = self.line();
        let name = self.word()?;
        let params = if self.accept(b'(') { self.parameters()? } else { Vec::new() };
        let mut directives = Vec::new();
        while let Kind::Dotted(name) = self.kind() {
            self.advance();
            directives.push(self.directive(name)?);
        }
        let body = if self.accept(b';') {
            None
        } else {
            self.expect(b'{')?;
            Some(self.body()?)
        };
        Ok(Function { linkage, is_entry, returns, name, params, directives, body, line })
    }

    fn parameters(&mut self) -> Result<Vec<Variable<'a>>, SyntaxError> {
        let mut params = Vec::new();
        while !self.accept(b')') {
            if !params.is_empty() {
                self.expect(b',')?;
            }
            params.push(self.variable()?);
        }
        Ok(params)
    }

    fn directive(&mut self, name: &'a str) -> Result<Directive<'a>, SyntaxError> {
        let mut directive = Directive { name, values: Vec::new(), text: None };
        if let Kind::Str(text) = self.kind() {
            self.advance();
            directive.text = Some(text);
            self.accept(b';');
        } else if let Kind::Int(value) = self.kind() {
            self.advance();
            directive.values.push(value);
            while self.accept(b',') {
                directive.values.push(self.uint()?);
            }
        }
        Ok(directive)
    }
}
