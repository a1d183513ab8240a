//! `cvt`: a row of the table, or several.

use super::alu::operand;
use super::builder::{Builder, Gap};
use super::inst::Reg;
use super::layout::{type_bytes, type_class};
use crate::ops::{Class, find};
use crate::ptx::ast::{Instruction, Operand};

impl<'p, 'a> Builder<'p, 'a> {
    /// `cvt{.mode}{.ftz}{.sat}.dtype.stype d, a`.
    pub(super) fn cvt(&mut self, it: &'p Instruction<'a>) -> Result<(), Gap> {
        let (dest, sources) = it.operands.split_first().ok_or("no operands")?;
        let sources: Vec<&Operand<'a>> = sources.iter().collect();
        let parts: Vec<&str> = it.opcode.split('.').skip(1).collect();
        let [modifiers @ .., to, from] = parts.as_slice() else {
            return Err("`cvt` without its types".into());
        };
        let bare: Vec<&str> = modifiers.iter().copied().filter(|m| *m != "ftz").collect();
        let direct = [bare.as_slice(), &[to, from]].concat();
        let name = format!("cvt.{}", direct.join("."));
        let needs_steps = modifiers.contains(&"ftz") || modifiers.contains(&"sat");
        if !needs_steps && let Some(name) = known(&name) {
            return self.apply(&name, dest, &sources);
        }
        let source = operand(it, 1)?;
        if is_integer(to) && is_integer(from) {
            if modifiers.contains(&"sat") {
                return self.saturate(to, from, dest, source);
            }
            let name = format!("cvt.{}.{}", unsigned_if_same(to), widened(from, to));
            return self.apply(&name, dest, &[source]);
        }
        self.by_steps(modifiers, to, from, dest, source)
    }

    /// Through FP32 or FP64: widen the source, round it, narrow it.
    fn by_steps(
        &mut self,
        modifiers: &[&str],
        to: &str,
        from: &str,
        dest: &Operand<'a>,
        source: &Operand<'a>,
    ) -> Result<(), Gap> {
        let has = |name: &str| modifiers.contains(&name);
        let mode = modifiers.iter().copied().find(|m| m.starts_with('r') && *m != "relu");
        let class = type_class(from).ok_or_else(|| format!("the type .{from}"))?;
        let mut value = self.source(source, class, from.starts_with('s'))?;
        let middle = if from == "f64" || to == "f64" { "f64" } else { "f32" };
        let middle_class = if middle == "f64" { Class::R64 } else { Class::R32 };
        let flush = has("ftz") && from == "f32";
        if flush {
            value = self.step("flush.f32", Class::R32, value)?;
        }
        if is_integer(from) {
            value = self.integer_to_float(mode, middle, from, value)?;
        } else if from != middle {
            value = self.step(&format!("cvt.{middle}.{from}"), middle_class, value)?;
        }
        if let Some(mode) = mode.filter(|mode| mode.ends_with('i')) {
            value = self.step(&format!("cvt.{mode}.{middle}.{middle}"), middle_class, value)?;
        }
        if has("sat") && !is_integer(to) {
            value = self.step("sat.f32", Class::R32, value)?;
        }
        let last = if is_integer(to) {
            format!("trunc.{to}.{middle}")
        } else if to == middle {
            let name = if middle == "f64" { "mov.b64" } else { "mov.b32" };
            let name = if has("ftz") && to == "f32" { "flush.f32" } else { name };
            name.to_owned()
        } else {
            let relu = if has("relu") { ".relu" } else { "" };
            let mode = mode.filter(|mode| !mode.ends_with('i')).unwrap_or("rn");
            format!("cvt.{mode}{relu}.{to}.{middle}")
        };
        let row = find(&last).ok_or_else(|| format!("vgpu has no `{last}`"))?;
        let dest = self.dest(dest, row.dest, row.dest_signed)?;
        self.emit_row(&last, dest.reg, &[value])?;
        self.finish(dest)
    }

    fn integer_to_float(
        &mut self,
        mode: Option<&str>,
        middle: &str,
        from: &str,
        value: Reg,
    ) -> Result<Reg, Gap> {
        let wide = if type_bytes(from) == Some(8) { "64" } else { "32" };
        let sign = &from[..1];
        let value = match type_bytes(from) {
            Some(1 | 2) => self.step(&format!("cvt.u32.{from}"), Class::R32, value)?,
            _ => value,
        };
        let class = if middle == "f64" { Class::R64 } else { Class::R32 };
        let mode = mode.unwrap_or("rn");
        self.step(&format!("cvt.{mode}.{middle}.{sign}{wide}"), class, value)
    }

    fn step(&mut self, name: &str, class: Class, value: Reg) -> Result<Reg, Gap> {
        let temp = self.temp(class);
        self.emit_row(name, temp, &[value])?;
        Ok(temp)
    }

    /// `cvt.sat` between integers: clamps in 64 bits.
    fn saturate(
        &mut self,
        to: &str,
        from: &str,
        dest: &Operand<'a>,
        source: &Operand<'a>,
    ) -> Result<(), Gap> {
        let bits = type_bytes(to).ok_or("a type")? * 8;
        if from == "u64" || bits == 64 {
            return Err("saturation to or from 64 unsigned bits".into());
        }
        let class = type_class(from).ok_or("a type")?;
        let value = self.source(source, class, from.starts_with('s'))?;
        let wide = format!("cvt.u64.{}", widened(from, "u64"));
        let mut value = self.step(&wide, Class::R64, value)?;
        let signed = to.starts_with('s');
        let high = if signed { (1i64 << (bits - 1)) - 1 } else { (1i64 << bits) - 1 };
        let low = if signed { -(1i64 << (bits - 1)) } else { 0 };
        for (name, bound) in [("min.s64", high), ("max.s64", low)] {
            let bound = self.constant(Class::R64, bound as u64);
            let temp = self.temp(Class::R64);
            self.emit_row(name, temp, &[value, bound])?;
            value = temp;
        }
        let narrow = format!("cvt.{}.u64", unsigned_if_same(to));
        let row = find(&narrow).ok_or_else(|| format!("vgpu has no `{narrow}`"))?;
        let dest = self.dest(dest, row.dest, row.dest_signed)?;
        self.emit_row(&narrow, dest.reg, &[value])?;
        self.finish(dest)
    }
}

/// The name if the table has it.
fn known(name: &str) -> Option<String> {
    find(name).map(|row| row.name.to_owned())
}

fn is_integer(ty: &str) -> bool {
    matches!(ty.as_bytes().first(), Some(b'u' | b's' | b'b')) && !ty.starts_with("bf")
}

/// 32 and 64 bits have the same conversions with and without sign.
fn unsigned_if_same(to: &str) -> &str {
    match to {
        "s32" => "u32",
        "s64" => "u64",
        other => other,
    }
}

/// The source's sign matters only when it is widened.
fn widened<'t>(from: &'t str, to: &str) -> &'t str {
    let widens = type_bytes(from) < type_bytes(to);
    match from {
        "s16" if !widens => "u16",
        "s32" if !widens => "u32",
        "s64" => "u64",
        other => other,
    }
}
