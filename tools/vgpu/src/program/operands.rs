//! Operands to registers: names, immediates, special registers and addresses.

use super::builder::{Builder, Gap};
use super::inst::{Op, Reg};
use super::scope::Symbol;
use super::{Fixed, Special};
use crate::ops::{self, Class};
use crate::ptx::ast::Operand;

/// A destination and, if the instruction's result is narrower than the register, what widens it.
pub(super) struct Dest {
    pub reg: Reg,
    widen: Option<(Reg, &'static str)>,
}

impl<'a> Builder<'_, 'a> {
    /// The register of a name, which must have the class.
    pub(super) fn register(&mut self, name: &str, class: Class) -> Result<Reg, Gap> {
        match self.scopes.find(name) {
            Some(Symbol::Register(reg)) if reg.class() == class => Ok(reg),
            Some(Symbol::Register(_)) => Err(format!("`{name}` has the wrong width")),
            _ => Err(format!("no register `{name}`")),
        }
    }

    /// A source of a class; narrower and wider registers are converted, with their sign if `signed`.
    pub(super) fn source(
        &mut self,
        operand: &Operand<'a>,
        class: Class,
        signed: bool,
    ) -> Result<Reg, Gap> {
        match operand {
            Operand::Name(name) => self.named_source(name, None, class, signed),
            Operand::Member(name, part) => self.named_source(name, Some(part), class, signed),
            Operand::Offset(name, offset) => match self.scopes.find(name) {
                Some(Symbol::Place(place)) => {
                    Ok(self.fixed(class, Fixed::Address(place.plus(*offset))))
                }
                _ => Err(format!("no variable `{name}`")),
            },
            Operand::Int { .. } => {
                let value = operand.int().unwrap_or(0);
                let is_true = if class == Class::Pred { u64::from(value != 0) } else { value };
                Ok(self.constant(class, is_true))
            }
            Operand::F32(bits) if class == Class::R64 => {
                Ok(self.constant(class, f64::from(f32::from_bits(*bits)).to_bits()))
            }
            Operand::F32(bits) => Ok(self.constant(class, u64::from(*bits))),
            Operand::F64(bits) if class == Class::R64 => Ok(self.constant(class, *bits)),
            Operand::F64(bits) => {
                let single = (f64::from_bits(*bits) as f32).to_bits();
                Ok(self.constant(class, u64::from(single)))
            }
            Operand::Not(inner) => {
                let source = self.source(inner, Class::Pred, false)?;
                let temp = self.temp(Class::Pred);
                self.unguarded(|b| b.emit_row("not.pred", temp, &[source]))?;
                Ok(temp)
            }
            _ => Err(format!("`{operand}` cannot be read here")),
        }
    }

    fn named_source(
        &mut self,
        name: &str,
        part: Option<&str>,
        class: Class,
        signed: bool,
    ) -> Result<Reg, Gap> {
        match (self.scopes.find(name), part) {
            (Some(Symbol::Register(reg)), None) => self.resized(reg, class, signed),
            (Some(Symbol::Place(place)), None) => Ok(self.fixed(class, Fixed::Address(place))),
            (None, _) => self.special_source(name, part, class),
            (Some(_), Some(part)) => Err(format!(
                "`{name}` is declared here, which hides a special register, and has no `.{part}`"
            )),
            _ => Err(format!("`{name}` cannot be read here")),
        }
    }

    fn special_source(&mut self, name: &str, part: Option<&str>, class: Class) -> Result<Reg, Gap> {
        if name == "WARP_SZ" {
            return Ok(self.constant(class, 32));
        }
        let plain = name.strip_prefix('%').ok_or_else(|| format!("`{name}` is not declared"))?;
        let clock = match plain {
            "clock" | "clock_hi" => Some((false, Class::R32)),
            "clock64" => Some((false, Class::R64)),
            "globaltimer" => Some((true, Class::R64)),
            "globaltimer_lo" | "globaltimer_hi" => Some((true, Class::R32)),
            _ => None,
        };
        if let Some((nanoseconds, width)) = clock {
            let temp = self.temp(width);
            self.emit(Op::Clock { nanoseconds, wide: width == Class::R64 }, &[temp], &[]);
            return self.resized(temp, class, false);
        }
        let special =
            Special::find(plain, part).ok_or_else(|| format!("`{name}` is not declared"))?;
        if special.is_predicate() != (class == Class::Pred) {
            return Err(format!("`{name}` has the wrong width"));
        }
        Ok(self.fixed(class, Fixed::Special(special)))
    }

    /// The register itself, or a copy of another width.
    fn resized(&mut self, reg: Reg, class: Class, signed: bool) -> Result<Reg, Gap> {
        let row = match (reg.class(), class) {
            (from, to) if from == to => return Ok(reg),
            (Class::R64, Class::R32) => "cvt.u32.u64",
            (Class::R32, Class::R64) if signed => "cvt.u64.s32",
            (Class::R32, Class::R64) => "cvt.u64.u32",
            _ => return Err("a register of the wrong width".into()),
        };
        let temp = self.temp(class);
        self.unguarded(|b| b.emit_row(row, temp, &[reg]))?;
        Ok(temp)
    }

    /// A destination for a result of a class.
    pub(super) fn dest(
        &mut self,
        operand: &Operand<'a>,
        class: Class,
        signed: bool,
    ) -> Result<Dest, Gap> {
        let name = match operand {
            Operand::Name("_") => return Ok(Dest { reg: self.temp(class), widen: None }),
            Operand::Name(name) => *name,
            _ => return Err(format!("`{operand}` cannot be written")),
        };
        let Some(Symbol::Register(reg)) = self.scopes.find(name) else {
            return Err(format!("no register `{name}`"));
        };
        let row = match (class, reg.class()) {
            (from, to) if from == to => return Ok(Dest { reg, widen: None }),
            (Class::R32, Class::R64) if signed => "cvt.u64.s32",
            (Class::R32, Class::R64) => "cvt.u64.u32",
            (Class::R64, Class::R32) => "cvt.u32.u64",
            _ => return Err(format!("`{name}` has the wrong width")),
        };
        Ok(Dest { reg: self.temp(class), widen: Some((reg, row)) })
    }

    /// Ends an instruction that wrote `dest`.
    pub(super) fn finish(&mut self, dest: Dest) -> Result<(), Gap> {
        match dest.widen {
            Some((reg, row)) => self.emit_row(row, reg, &[dest.reg]),
            None => Ok(()),
        }
    }

    /// Reads sources by a row of the table, writes its destination.
    pub(super) fn apply(
        &mut self,
        name: &str,
        dest: &Operand<'a>,
        sources: &[&Operand<'a>],
    ) -> Result<(), Gap> {
        let row = ops::find(name).ok_or_else(|| format!("vgpu has no `{name}`"))?;
        if row.sources.len() != sources.len() {
            return Err(format!("`{name}` takes {} sources", row.sources.len()));
        }
        let mut regs = Vec::with_capacity(sources.len());
        for (i, source) in sources.iter().enumerate() {
            regs.push(self.source(source, row.sources[i], row.signed[i])?);
        }
        let dest = self.dest(dest, row.dest, row.dest_signed)?;
        self.emit(Op::Map(row.run()), &[dest.reg], &regs);
        self.finish(dest)
    }
}
