//! PTX text to tokens. A word keeps its `.suffixes` as separate tokens with byte positions, so that
//! the parser can see that `ld.global.v4.f32` is written without gaps.

use super::SyntaxError;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind<'a> {
    /// Identifier: register, label, symbol, opcode, `_`.
    Word(&'a str),
    /// `.suffix`, with its `::parts`, without the dot.
    Dotted(&'a str),
    /// Integer literal; a leading minus is a token of its own.
    Int(u64),
    /// `0fXXXXXXXX`: the bits of an FP32.
    F32(u32),
    /// `0dXXXXXXXXXXXXXXXX`, or a decimal number with a point or exponent: the bits of an FP64.
    F64(u64),
    /// String without its quotes; escapes are kept as written.
    Str(&'a str),
    /// One character of punctuation.
    Punct(u8),
    /// After the last token.
    End,
}

/// A token and where it stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token<'a> {
    pub kind: Kind<'a>,
    /// Byte offsets in the source.
    pub start: usize,
    pub end: usize,
    /// From 1.
    pub line: u32,
}

/// Splits `source` into tokens; the last one is [`Kind::End`].
pub(super) fn tokenize(source: &str) -> Result<Vec<Token<'_>>, SyntaxError> {
    let mut lexer = Lexer { source, bytes: source.as_bytes(), position: 0, line: 1 };
    let mut tokens = Vec::with_capacity(source.len() / 4);
    loop {
        let token = lexer.next_token()?;
        tokens.push(token);
        if token.kind == Kind::End {
            return Ok(tokens);
        }
    }
}

struct Lexer<'a> {
    source: &'a str,
    bytes: &'a [u8],
    position: usize,
    line: u32,
}

fn is_word_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || matches!(byte, b'_' | b'$' | b'%')
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$')
}

impl<'a> Lexer<'a> {
    fn next_token(&mut self) -> Result<Token<'a>, SyntaxError> {
        self.skip_blank()?;
        let (start, line) = (self.position, self.line);
        let kind = match self.peek(0) {
            None => Kind::End,
            Some(byte) if is_word_start(byte) => {
                self.position += 1;
                self.skip_while(is_word);
                Kind::Word(&self.source[start..self.position])
            }
            Some(b'.') if self.peek(1).is_some_and(is_word) => self.dotted(),
            Some(byte) if byte.is_ascii_digit() => self.number()?,
            Some(b'"') => self.string()?,
            Some(byte) if byte.is_ascii_graphic() => {
                self.position += 1;
                Kind::Punct(byte)
            }
            Some(_) => return Err(self.error("a character that PTX does not use")),
        };
        Ok(Token { kind, start, end: self.position, line })
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.bytes.get(self.position + ahead).copied()
    }

    fn skip_while(&mut self, accept: impl Fn(u8) -> bool) {
        while self.peek(0).is_some_and(&accept) {
            self.position += 1;
        }
    }

    fn error(&self, message: impl Into<String>) -> SyntaxError {
        SyntaxError { line: self.line, message: message.into() }
    }

    /// Skips spaces, line ends and comments.
    fn skip_blank(&mut self) -> Result<(), SyntaxError> {
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some(b'\n'), _) => {
                    self.line += 1;
                    self.position += 1;
                }
                (Some(b' ' | b'\t' | b'\r' | b'\0' | b'\x0b' | b'\x0c'), _) => self.position += 1,
                (Some(b'/'), Some(b'/')) => self.skip_while(|byte| byte != b'\n'),
                (Some(b'/'), Some(b'*')) => {
                    let Some(length) = self.source[self.position + 2..].find("*/") else {
                        return Err(self.error("a comment without its end"));
                    };
                    let end = self.position + 2 + length + 2;
                    let lines = self.bytes[self.position..end].iter();
                    self.line += lines.filter(|&&byte| byte == b'\n').count() as u32;
                    self.position = end;
                }
                _ => return Ok(()),
            }
        }
    }

    fn dotted(&mut self) -> Kind<'a> {
        let start = self.position + 1;
        self.position = start;
        self.skip_while(is_word);
        while self.peek(0) == Some(b':')
            && self.peek(1) == Some(b':')
            && self.peek(2).is_some_and(is_word)
        {
            self.position += 2;
            self.skip_while(is_word);
        }
        Kind::Dotted(&self.source[start..self.position])
    }

    fn number(&mut self) -> Result<Kind<'a>, SyntaxError> {
        match (self.peek(0), self.peek(1)) {
            (Some(b'0'), Some(b'x' | b'X')) => self.integer(2, 16),
            (Some(b'0'), Some(b'b' | b'B')) => self.integer(2, 2),
            (Some(b'0'), Some(b'f' | b'F')) => {
                let bits = self.digits(2, 16)?;
                u32::try_from(bits)
                    .map(Kind::F32)
                    .map_err(|_| self.error("an FP32 of over 8 digits"))
            }
            (Some(b'0'), Some(b'd' | b'D')) => self.digits(2, 16).map(Kind::F64),
            _ => self.decimal(),
        }
    }

    fn integer(&mut self, prefix: usize, radix: u32) -> Result<Kind<'a>, SyntaxError> {
        let value = self.digits(prefix, radix)?;
        if self.peek(0) == Some(b'U') {
            self.position += 1;
        }
        Ok(Kind::Int(value))
    }

    fn digits(&mut self, prefix: usize, radix: u32) -> Result<u64, SyntaxError> {
        let start = self.position + prefix;
        self.position = start;
        self.skip_while(|byte| (byte as char).is_digit(radix));
        u64::from_str_radix(&self.source[start..self.position], radix)
            .map_err(|error| self.error(format!("a number that cannot be read: {error}")))
    }

    /// Decimal or octal integer, or a decimal fraction.
    fn decimal(&mut self) -> Result<Kind<'a>, SyntaxError> {
        let start = self.position;
        self.skip_while(|byte| byte.is_ascii_digit());
        let has_point =
            self.peek(0) == Some(b'.') && self.peek(1).is_some_and(|b| b.is_ascii_digit());
        if has_point {
            self.position += 1;
            self.skip_while(|byte| byte.is_ascii_digit());
        }
        let exponent_digit = match self.peek(1) {
            Some(b'+' | b'-') => self.peek(2),
            other => other,
        };
        let has_exponent = matches!(self.peek(0), Some(b'e' | b'E'))
            && exponent_digit.is_some_and(|byte| byte.is_ascii_digit());
        if has_exponent {
            self.position += 2;
            self.skip_while(|byte| byte.is_ascii_digit());
        }
        let text = &self.source[start..self.position];
        if has_point || has_exponent {
            let value: f64 =
                text.parse().map_err(|_| self.error(format!("`{text}` is no decimal number")))?;
            return Ok(Kind::F64(value.to_bits()));
        }
        let is_octal = text.len() > 1 && text.starts_with('0');
        self.position = start;
        if is_octal { self.integer(1, 8) } else { self.integer(0, 10) }
    }

    fn string(&mut self) -> Result<Kind<'a>, SyntaxError> {
        let start = self.position + 1;
        let mut end = start;
        loop {
            match self.bytes.get(end) {
                None | Some(b'\n') => return Err(self.error("a string without its end")),
                Some(b'"') => break,
                Some(b'\\') => end += 2,
                Some(_) => end += 1,
            }
        }
        self.position = end + 1;
        match self.source.get(start..end) {
            Some(text) => Ok(Kind::Str(text)),
            None => Err(self.error("a string that is cut in a character")),
        }
    }
}
