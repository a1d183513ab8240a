//! PTX as text: lexer, syntax tree, parser and printer. Printing a parsed module and parsing it again
//! gives the same tree.

pub mod ast;
mod lexer;
mod operands;
mod parser;
mod print;
mod statements;
mod variables;

pub use parser::parse;

/// The text is no PTX that this parser reads.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct SyntaxError {
    /// Line of the offending token, from 1.
    pub line: u32,
    /// What was expected and what came.
    pub message: String,
}
