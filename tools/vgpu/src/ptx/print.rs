//! The syntax tree as PTX text.

use std::fmt::{self, Display, Formatter};

use super::ast::{
    Directive, Function, Init, Instruction, Item, Linkage, Loc, Module, Operand, Space, Statement,
    Variable,
};

impl Display for Module<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, ".version {}.{}", self.version.0, self.version.1)?;
        if !self.targets.is_empty() {
            writeln!(f, ".target {}", self.targets.join(", "))?;
        }
        writeln!(f, ".address_size {}\n", self.address_bits)?;
        self.items.iter().try_for_each(|item| writeln!(f, "{item}"))
    }
}

impl Display for Item<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Item::File { index, path } => write!(f, ".file {index} \"{path}\""),
            Item::Variable(variable) => write!(f, "{variable};"),
            Item::Function(function) => write!(f, "{function}"),
            Item::Section { name, text } => write!(f, ".section {name} {{\n{text}\n}}"),
            Item::Alias { name, target } => write!(f, ".alias {name}, {target};"),
        }
    }
}

impl Display for Linkage {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Linkage::Extern => ".extern ",
            Linkage::Visible => ".visible ",
            Linkage::Weak => ".weak ",
            Linkage::Common => ".common ",
        })
    }
}

impl Display for Space {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Space::Reg => "reg",
            Space::Global => "global",
            Space::Const => "const",
            Space::Shared => "shared",
            Space::Local => "local",
            Space::Param => "param",
        })
    }
}

impl Display for Variable<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(linkage) = self.linkage {
            write!(f, "{linkage}")?;
        }
        write!(f, ".{} ", self.space)?;
        if let Some(align) = self.align {
            write!(f, ".align {align} ")?;
        }
        if self.vector > 1 {
            write!(f, ".v{} ", self.vector)?;
        }
        write!(f, ".{} ", self.ty)?;
        for word in &self.pointer {
            write!(f, ".{word} ")?;
        }
        f.write_str(self.name)?;
        if let Some(count) = self.count {
            write!(f, "<{count}>")?;
        }
        for dim in &self.dims {
            match dim {
                Some(extent) => write!(f, "[{extent}]")?,
                None => f.write_str("[]")?,
            }
        }
        self.init.as_ref().map_or(Ok(()), |init| write!(f, " = {init}"))
    }
}

impl Display for Init<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Init::List(list) => {
                f.write_str("{")?;
                separated(f, list)?;
                f.write_str("}")
            }
            Init::Value(value) => write!(f, "{value}"),
            Init::Address { generic, symbol, offset } => {
                if *generic {
                    write!(f, "generic({symbol})")?;
                } else {
                    f.write_str(symbol)?;
                }
                write_offset(f, *offset)
            }
        }
    }
}

impl Display for Function<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(linkage) = self.linkage {
            write!(f, "{linkage}")?;
        }
        f.write_str(if self.is_entry { ".entry " } else { ".func " })?;
        if !self.returns.is_empty() {
            f.write_str("(")?;
            separated(f, &self.returns)?;
            f.write_str(") ")?;
        }
        write!(f, "{}(", self.name)?;
        separated(f, &self.params)?;
        f.write_str(")")?;
        for directive in &self.directives {
            write!(f, "\n{directive}")?;
        }
        match &self.body {
            None => f.write_str("\n;"),
            Some(body) => {
                f.write_str("\n{\n")?;
                write_body(f, body)?;
                f.write_str("}")
            }
        }
    }
}

impl Display for Directive<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, ".{} ", self.name)?;
        match self.text {
            Some(text) => write!(f, "\"{text}\";"),
            None => separated(f, &self.values),
        }
    }
}

fn write_body(f: &mut Formatter<'_>, body: &[Statement<'_>]) -> fmt::Result {
    body.iter().try_for_each(|statement| writeln!(f, "{statement}"))
}

impl Display for Statement<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Statement::Instruction(instruction) => write!(f, "\t{instruction}"),
            Statement::Label(name, _) => write!(f, "{name}:"),
            Statement::Variable(variable) => write!(f, "\t{variable};"),
            Statement::Block(body) => {
                f.write_str("\t{\n")?;
                write_body(f, body)?;
                f.write_str("\t}")
            }
            Statement::Loc(loc) => write!(f, "\t{loc}"),
            Statement::Pragma(text) => write!(f, "\t.pragma \"{text}\";"),
            Statement::Targets { name, text } => write!(f, "\t.{name} {text};"),
        }
    }
}

impl Display for Loc<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, ".loc {} {} {}", self.file, self.line, self.column)?;
        if let Some(inlined) = &self.inlined {
            write!(f, ", function_name {}", inlined.function)?;
            write_offset(f, inlined.offset as i64)?;
            write!(f, ", inlined_at {} {} {}", inlined.at.0, inlined.at.1, inlined.at.2)?;
        }
        Ok(())
    }
}

impl Display for Instruction<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(guard) = &self.guard {
            write!(f, "@{}{} ", if guard.negated { "!" } else { "" }, guard.predicate)?;
        }
        f.write_str(&self.opcode)?;
        if !self.operands.is_empty() {
            f.write_str(" ")?;
            separated(f, &self.operands)?;
        }
        f.write_str(";")
    }
}

impl Display for Operand<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Operand::Name(name) => f.write_str(name),
            Operand::Member(name, part) => write!(f, "{name}.{part}"),
            Operand::Offset(name, offset) => {
                f.write_str(name)?;
                write_offset(f, *offset)
            }
            Operand::Int { value, negative } => {
                write!(f, "{}{value}", if *negative { "-" } else { "" })
            }
            Operand::F32(bits) => write!(f, "0f{bits:08X}"),
            Operand::F64(bits) => write!(f, "0d{bits:016X}"),
            Operand::Not(inner) => write!(f, "!{inner}"),
            Operand::Pair(first, second) => write!(f, "{first}|{second}"),
            Operand::Vector(parts) => {
                f.write_str("{")?;
                separated(f, parts)?;
                f.write_str("}")
            }
            Operand::Memory { base, offset, more } => {
                write!(f, "[{base}")?;
                write_offset(f, *offset)?;
                for part in more {
                    write!(f, ", {part}")?;
                }
                f.write_str("]")
            }
            Operand::List(parts) => {
                f.write_str("(")?;
                separated(f, parts)?;
                f.write_str(")")
            }
        }
    }
}

fn separated(f: &mut Formatter<'_>, parts: &[impl Display]) -> fmt::Result {
    for (position, part) in parts.iter().enumerate() {
        write!(f, "{}{part}", if position == 0 { "" } else { ", " })?;
    }
    Ok(())
}

fn write_offset(f: &mut Formatter<'_>, offset: i64) -> fmt::Result {
    match offset {
        0 => Ok(()),
        1.. => write!(f, "+{offset}"),
        _ => write!(f, "+-{}", offset.unsigned_abs()),
    }
}
