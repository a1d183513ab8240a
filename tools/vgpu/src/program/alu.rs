//! Which lowering an instruction takes; comparisons, selections and all that is in the table.

use super::builder::{Builder, Gap};
use super::inst::Op;
use super::{LOCAL_WINDOW, PARAM_WINDOW, SHARED_WINDOW, WINDOW_BYTES};
use crate::ops::{self, Class};
use crate::ptx::ast::{Instruction, Operand};

impl<'p, 'a> Builder<'p, 'a> {
    /// Emits what one PTX instruction does.
    pub(super) fn lower(&mut self, it: &'p Instruction<'a>) -> Result<(), Gap> {
        let opcode: &str = &it.opcode;
        let (base, _) = opcode.split_once('.').unwrap_or((opcode, ""));
        match base {
            "st" if opcode.starts_with("st.async") => self.store_async(it),
            "ld" | "ldu" | "st" | "prefetch" | "prefetchu" | "applypriority" | "discard" => {
                self.memory(it)
            }
            "atom" | "red" => self.atomic(it),
            "setp" => self.setp(it),
            "set" => self.set(it),
            "mov" => self.mov(it),
            "cvt" => self.cvt(it),
            "cvta" => self.cvta(it),
            "isspacep" => self.isspacep(it),
            "bra" | "ret" | "exit" | "trap" | "brkpt" | "call" | "nanosleep" | "pmevent" => {
                self.control(it)
            }
            "shfl" | "vote" | "match" | "redux" | "elect" | "activemask" => self.warp(it),
            "bar" | "barrier" => self.barrier(it),
            "fence" | "membar" => self.fence(it),
            "mbarrier" => self.mbarrier(it),
            "cp" => self.copy(it),
            "wgmma" => self.wgmma(it),
            "mma" => self.mma(it),
            "ldmatrix" | "stmatrix" => self.matrix_move(it),
            "tensormap" => self.tensor_map(it),
            "multimem" => self.multimem(it),
            "griddepcontrol" | "setmaxnreg" => self.schedule(it),
            "createpolicy" => {
                let dest = self.dest(operand(it, 0)?, Class::R64, false)?;
                let policy = self.constant(Class::R64, 0);
                self.emit_row("mov.b64", dest.reg, &[policy])?;
                self.finish(dest)
            }
            _ => self.table(it),
        }
    }

    /// An instruction that is a row of the table, perhaps with `.sat`.
    fn table(&mut self, it: &'p Instruction<'a>) -> Result<(), Gap> {
        let (dest, sources) = it.operands.split_first().ok_or("no operands")?;
        let sources: Vec<&Operand<'a>> = sources.iter().collect();
        if ops::find(&it.opcode).is_none()
            && it.opcode.ends_with("f32")
            && it.opcode.contains(".sat")
        {
            let plain = it.opcode.replacen(".sat", "", 1);
            self.apply(&plain, dest, &sources)?;
            return self.apply("sat.f32", dest, &[dest]);
        }
        self.apply(&it.opcode, dest, &sources)
    }

    /// `setp.cmp{.bool}{.ftz}.type p{|q}, a, b{, c}`.
    fn setp(&mut self, it: &'p Instruction<'a>) -> Result<(), Gap> {
        let parts: Vec<&str> = it.opcode.split('.').skip(1).collect();
        let compared = self.compare(&parts, operand(it, 1)?, operand(it, 2)?)?;
        let combine = parts.iter().find(|part| matches!(**part, "and" | "or" | "xor"));
        let third = match combine {
            Some(_) => Some(self.source(operand(it, 3)?, Class::Pred, false)?),
            None => None,
        };
        let (first, second) = match operand(it, 0)? {
            Operand::Pair(first, second) => (&**first, Some(&**second)),
            single => (single, None),
        };
        // The second destination gets the opposite of the comparison, combined in the same way.
        let inverse = self.temp(Class::Pred);
        if second.is_some() {
            self.emit_row("not.pred", inverse, &[compared])?;
        }
        for (dest, value) in [(Some(first), compared), (second, inverse)] {
            let Some(dest) = dest else { continue };
            let dest = self.dest(dest, Class::Pred, false)?;
            match (combine, third) {
                (Some(name), Some(third)) => {
                    self.emit_row(&format!("{name}.pred"), dest.reg, &[value, third])?;
                }
                _ => self.emit_row("mov.pred", dest.reg, &[value])?,
            }
        }
        Ok(())
    }

    /// A comparison to a fresh predicate.
    fn compare(
        &mut self,
        parts: &[&str],
        a: &Operand<'a>,
        b: &Operand<'a>,
    ) -> Result<super::Reg, Gap> {
        let (name, swapped) = comparison(parts)?;
        let row = ops::find(&name).ok_or_else(|| format!("vgpu has no `{name}`"))?;
        let a = self.source(a, row.sources[0], row.signed[0])?;
        let b = self.source(b, row.sources[1], row.signed[1])?;
        let temp = self.temp(Class::Pred);
        let sources = if swapped { [b, a] } else { [a, b] };
        self.emit(Op::Map(row.run()), &[temp], &sources);
        Ok(temp)
    }

    /// `set.cmp{.bool}{.ftz}.dtype.stype d, a, b{, c}`: all ones or 1.0 where true.
    fn set(&mut self, it: &'p Instruction<'a>) -> Result<(), Gap> {
        let mut parts: Vec<&str> = it.opcode.split('.').skip(1).collect();
        if parts.len() < 3 {
            return Err("`set` without its types".into());
        }
        let dest_type = parts.remove(parts.len() - 2);
        let mut compared = self.compare(&parts, operand(it, 1)?, operand(it, 2)?)?;
        if let Some(name) = parts.iter().find(|part| matches!(**part, "and" | "or" | "xor")) {
            let third = self.source(operand(it, 3)?, Class::Pred, false)?;
            let both = self.temp(Class::Pred);
            self.emit_row(&format!("{name}.pred"), both, &[compared, third])?;
            compared = both;
        }
        let one = match dest_type {
            "f32" => u64::from(1.0f32.to_bits()),
            "u32" | "s32" | "b32" => u64::from(u32::MAX),
            "u16" | "s16" | "b16" => 0xffff,
            "f16" => 0x3c00,
            "bf16" => 0x3f80,
            _ => return Err(format!("`set` to .{dest_type}")),
        };
        let one = self.constant(Class::R32, one);
        let zero = self.constant(Class::R32, 0);
        let dest = self.dest(operand(it, 0)?, Class::R32, false)?;
        self.emit_row("selp.b32", dest.reg, &[one, zero, compared])?;
        self.finish(dest)
    }

    /// `cvta.space` and `cvta.to.space`: a window's base is added or taken away.
    fn cvta(&mut self, it: &'p Instruction<'a>) -> Result<(), Gap> {
        let parts: Vec<&str> = it.opcode.split('.').collect();
        let to_space = parts.contains(&"to");
        let base = window(&parts)?;
        let source = self.source(operand(it, 1)?, Class::R64, false)?;
        let dest = self.dest(operand(it, 0)?, Class::R64, false)?;
        let Some(base) = base else {
            self.emit_row("mov.b64", dest.reg, &[source])?;
            return self.finish(dest);
        };
        let base = self.constant(Class::R64, base);
        let row = if to_space { "sub.u64" } else { "add.u64" };
        self.emit_row(row, dest.reg, &[source, base])?;
        self.finish(dest)
    }

    fn isspacep(&mut self, it: &'p Instruction<'a>) -> Result<(), Gap> {
        let parts: Vec<&str> = it.opcode.split('.').collect();
        let source = self.source(operand(it, 1)?, Class::R64, false)?;
        let dest = self.dest(operand(it, 0)?, Class::Pred, false)?;
        // Global memory is what lies in none of the three windows.
        let (row, base, length) = match window(&parts)? {
            Some(base) => ("inside", base, WINDOW_BYTES),
            None => ("outside", SHARED_WINDOW, 3 * WINDOW_BYTES),
        };
        let base = self.constant(Class::R64, base);
        let length = self.constant(Class::R64, length);
        self.emit_row(row, dest.reg, &[source, base, length])
    }
}

/// Base of the window that an opcode names; `None` for global and constant memory.
fn window(parts: &[&str]) -> Result<Option<u64>, Gap> {
    for part in parts {
        match *part {
            "shared" | "shared::cta" | "shared::cluster" => return Ok(Some(SHARED_WINDOW)),
            "local" => return Ok(Some(LOCAL_WINDOW)),
            "param" | "param::entry" => return Ok(Some(PARAM_WINDOW)),
            "global" | "const" => return Ok(None),
            _ => {}
        }
    }
    Err("a state space that vgpu does not know".into())
}

/// Row of a comparison, and whether its operands are swapped.
fn comparison(parts: &[&str]) -> Result<(String, bool), Gap> {
    let name = *parts.first().ok_or("no comparison")?;
    let ty = *parts.last().ok_or("no type")?;
    let is_float = ty.contains('f');
    let ftz = if parts.contains(&"ftz") { ".ftz" } else { "" };
    let (name, swapped) = match name {
        "gt" | "hi" => ("lt", true),
        "ge" | "hs" => ("le", true),
        "lo" => ("lt", false),
        "ls" => ("le", false),
        "gtu" => ("ltu", true),
        "geu" => ("leu", true),
        other => (other, false),
    };
    let by_bits = !is_float && matches!(name, "eq" | "ne");
    let ty = if by_bits { format!("b{}", &ty[1..]) } else { ty.to_owned() };
    Ok((format!("setp.{name}{ftz}.{ty}"), swapped))
}

/// Operand `i` of an instruction.
pub(super) fn operand<'i, 'a>(it: &'i Instruction<'a>, i: usize) -> Result<&'i Operand<'a>, Gap> {
    it.operands.get(i).ok_or_else(|| format!("operand {} is missing", i + 1))
}
