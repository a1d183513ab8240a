//! The syntax tree of a PTX module. Names and opcodes are slices of the source.

use std::borrow::Cow;

/// A parsed module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Module<'a> {
    /// `.version`, major and minor.
    pub version: (u32, u32),
    /// `.target`, such as `["sm_90a"]`.
    pub targets: Vec<&'a str>,
    /// `.address_size`, in bits.
    pub address_bits: u32,
    /// Everything after the header, in order.
    pub items: Vec<Item<'a>>,
}

/// A top-level part of a module.
#[derive(Clone, Debug, PartialEq)]
pub enum Item<'a> {
    /// `.file index "path"`: a source file that `.loc` names.
    File {
        /// Index that `.loc` uses.
        index: u32,
        /// Path of the source file.
        path: &'a str,
    },
    /// A `.global`, `.const` or `.shared` variable.
    Variable(Variable<'a>),
    /// An `.entry` or `.func`.
    Function(Function<'a>),
    /// `.section name { … }`: debug data, kept as its text.
    Section {
        /// Name with its dot.
        name: &'a str,
        /// Text between the braces.
        text: &'a str,
    },
    /// `.alias new, old;`
    Alias {
        /// The new name.
        name: &'a str,
        /// The function it stands for.
        target: &'a str,
    },
}

/// `.extern`, `.visible`, `.weak` or `.common`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Linkage {
    /// Defined elsewhere.
    Extern,
    /// Seen by other modules.
    Visible,
    /// May be defined again elsewhere.
    Weak,
    /// Merged with other definitions.
    Common,
}

/// State space of a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Space {
    /// Registers.
    Reg,
    /// Device memory.
    Global,
    /// Read-only device memory.
    Const,
    /// Memory of a CTA.
    Shared,
    /// Memory of a thread.
    Local,
    /// Parameters of a kernel or function.
    Param,
}

/// A variable or parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct Variable<'a> {
    /// Linkage, if given.
    pub linkage: Option<Linkage>,
    /// State space.
    pub space: Space,
    /// Alignment in bytes, if given.
    pub align: Option<u32>,
    /// `.v2` or `.v4`: elements per vector; 1 otherwise.
    pub vector: u32,
    /// Type, such as `b8` or `pred`.
    pub ty: &'a str,
    /// `.ptr` attributes of a parameter, as written, without the leading dot.
    pub pointer: Vec<&'a str>,
    /// Name.
    pub name: &'a str,
    /// `%r<10>`: number of registers named `%r0` to `%r9`.
    pub count: Option<u32>,
    /// Array extents; `None` for `[]`.
    pub dims: Vec<Option<u64>>,
    /// Initial values, nested lists flattened in order with their nesting.
    pub init: Option<Init<'a>>,
    /// Line of the name.
    pub line: u32,
}

/// An initialiser.
#[derive(Clone, Debug, PartialEq)]
pub enum Init<'a> {
    /// `{ a, b, … }`
    List(Vec<Init<'a>>),
    /// A number.
    Value(Operand<'a>),
    /// `generic(symbol)` or `symbol`, plus an offset: an address.
    Address {
        /// `generic(…)` was written.
        generic: bool,
        /// Symbol whose address is taken.
        symbol: &'a str,
        /// Bytes added.
        offset: i64,
    },
}

/// An `.entry` or `.func`.
#[derive(Clone, Debug, PartialEq)]
pub struct Function<'a> {
    /// Linkage, if given.
    pub linkage: Option<Linkage>,
    /// `.entry`, else `.func`.
    pub is_entry: bool,
    /// Return parameters of a `.func`.
    pub returns: Vec<Variable<'a>>,
    /// Name.
    pub name: &'a str,
    /// Parameters.
    pub params: Vec<Variable<'a>>,
    /// `.maxntid 128, 1, 1` and the like, in order.
    pub directives: Vec<Directive<'a>>,
    /// Body; `None` for a prototype.
    pub body: Option<Vec<Statement<'a>>>,
    /// Line of the name.
    pub line: u32,
}

/// A directive with numbers or a string.
#[derive(Clone, Debug, PartialEq)]
pub struct Directive<'a> {
    /// Name without the dot.
    pub name: &'a str,
    /// Numbers behind it.
    pub values: Vec<u64>,
    /// String behind it (`.pragma`).
    pub text: Option<&'a str>,
}

/// `.loc file line column`, perhaps inlined from elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loc<'a> {
    /// Index of the `.file`.
    pub file: u32,
    /// Line in it.
    pub line: u32,
    /// Column in it.
    pub column: u32,
    /// `function_name label+offset, inlined_at file line column`.
    pub inlined: Option<Inlined<'a>>,
}

/// Where the code of a [`Loc`] was inlined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inlined<'a> {
    /// Label of the function's name in the debug strings.
    pub function: &'a str,
    /// Bytes added to the label.
    pub offset: u64,
    /// File, line and column of the call.
    pub at: (u32, u32, u32),
}

/// A statement of a body.
#[derive(Clone, Debug, PartialEq)]
pub enum Statement<'a> {
    /// An instruction.
    Instruction(Instruction<'a>),
    /// `name:`
    Label(&'a str, u32),
    /// A register, local, shared or param declaration.
    Variable(Variable<'a>),
    /// `{ … }`: a scope of names.
    Block(Vec<Statement<'a>>),
    /// `.loc`
    Loc(Loc<'a>),
    /// `.pragma "…";`
    Pragma(&'a str),
    /// `label: .callprototype …;`, `.branchtargets …;` or `.calltargets …;`, kept as text.
    Targets {
        /// Directive without the dot.
        name: &'a str,
        /// Text up to the semicolon.
        text: &'a str,
    },
}

/// An instruction.
#[derive(Clone, Debug, PartialEq)]
pub struct Instruction<'a> {
    /// `@p` or `@!p`.
    pub guard: Option<Guard<'a>>,
    /// Opcode with its modifiers, `ld.global.v4.f32`.
    pub opcode: Cow<'a, str>,
    /// Operands in order.
    pub operands: Vec<Operand<'a>>,
    /// Line of the opcode.
    pub line: u32,
}

/// `@p` or `@!p`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guard<'a> {
    /// Predicate register.
    pub predicate: &'a str,
    /// The instruction runs where the predicate is false.
    pub negated: bool,
}

/// An operand.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand<'a> {
    /// Register, symbol, label, function or `_`.
    Name(&'a str),
    /// `name.part`: `%tid.x`.
    Member(&'a str, &'a str),
    /// `symbol+offset`.
    Offset(&'a str, i64),
    /// Integer; `negative` if a minus was written.
    Int {
        /// Magnitude.
        value: u64,
        /// A minus was written.
        negative: bool,
    },
    /// Bits of an FP32.
    F32(u32),
    /// Bits of an FP64.
    F64(u64),
    /// `!p`
    Not(Box<Operand<'a>>),
    /// `a|b`: two destinations.
    Pair(Box<Operand<'a>>, Box<Operand<'a>>),
    /// `{a, b, …}`
    Vector(Vec<Operand<'a>>),
    /// `[base+offset]`, `[base, {…}]`, …: a base with an offset, then further parts.
    Memory {
        /// Register, symbol or number.
        base: Box<Operand<'a>>,
        /// Bytes added to the base.
        offset: i64,
        /// What stands behind commas in the brackets.
        more: Vec<Operand<'a>>,
    },
    /// `(a, b)`: results or arguments of a call.
    List(Vec<Operand<'a>>),
}

impl Operand<'_> {
    /// The 64 bits of an integer operand, sign applied.
    #[must_use]
    pub fn int(&self) -> Option<u64> {
        match *self {
            Operand::Int { value, negative } => {
                Some(if negative { value.wrapping_neg() } else { value })
            }
            _ => None,
        }
    }
}
