//! The listing of `cuobjdump -sass`.

use crate::{Class, Control};

/// One instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    /// Offset from the kernel's start, in bytes.
    pub address: u64,
    /// The instruction as listed, predicate and all, without the semicolon.
    pub text: String,
    /// How it is scheduled.
    pub control: Control,
}

impl Instruction {
    /// The operation with its modifiers, such as "LDG.E.128.CONSTANT".
    pub fn operation(&self) -> &str {
        let mut words = self.text.split_whitespace();
        let first = words.next().unwrap_or_default();
        if first.starts_with('@') { words.next().unwrap_or_default() } else { first }
    }

    /// The operation alone, such as "LDG".
    pub fn opcode(&self) -> &str {
        self.operation().split('.').next().unwrap_or_default()
    }

    /// What kind of work it is.
    pub fn class(&self) -> Class {
        Class::of(self.opcode())
    }

    /// Where a branch goes.
    pub fn branch_target(&self) -> Option<u64> {
        if !matches!(self.opcode(), "BRA" | "BRX" | "JMP") {
            return None;
        }
        let target = self.text.split_whitespace().next_back()?.strip_prefix("0x")?;
        u64::from_str_radix(target, 16).ok()
    }
}

/// Reads the instructions of a listing; each is two lines, the second with the upper 64 bits.
///
/// # Errors
///
/// The first line that looks like an instruction and is none.
pub fn parse_listing(text: &str) -> Result<Vec<Instruction>, String> {
    let mut instructions = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some((address, rest)) = address(line) else { continue };
        let instruction = rest.split_once(';').map(|(instruction, _)| instruction.trim());
        let upper = lines.next().and_then(encoding);
        let (Some(instruction), Some(upper)) = (instruction, upper) else {
            return Err(format!("not an instruction: {line}"));
        };
        instructions.push(Instruction {
            address,
            text: instruction.to_owned(),
            control: Control::from_upper(upper),
        });
    }
    Ok(instructions)
}

/// `        /*0010*/                   S2R R6, SR_TID.X ;   /* 0x... */`
fn address(line: &str) -> Option<(u64, &str)> {
    let (address, rest) = line.trim_start().strip_prefix("/*")?.split_once("*/")?;
    Some((u64::from_str_radix(address, 16).ok()?, rest))
}

/// `   /* 0x000e220000002100 */`
fn encoding(line: &str) -> Option<u64> {
    let (number, _) = line.trim_start().strip_prefix("/* 0x")?.split_once(" */")?;
    u64::from_str_radix(number, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: &str = "\tcode for sm_90a\n\t\tFunction : probe\n\
        \t.headerflags\t@\"EF_CUDA_SM90\"\n\
        \x20       /*0020*/                   S2R R6, SR_TID.X ;   /* 0x0000000000067919 */\n\
        \x20                                                       /* 0x000e220000002100 */\n\
        \x20       /*0030*/               @P0 BRA 0x20 ;           /* 0x0000000000067919 */\n\
        \x20                                                       /* 0x000fea0003800000 */\n\
        \t\t..........\n";

    #[test]
    fn each_instruction_comes_with_its_control_bits() {
        let listed = parse_listing(LISTING).expect("a listing");
        assert_eq!(listed.len(), 2);
        assert_eq!((listed[0].address, listed[0].opcode()), (0x20, "S2R"));
        assert_eq!(listed[0].control.write_barrier, Some(0));
        assert_eq!(listed[1].operation(), "BRA");
        assert_eq!(listed[1].branch_target(), Some(0x20));
        assert_eq!(listed[1].control.stall, 5);
    }

    #[test]
    fn a_line_that_breaks_off_is_named() {
        let error = parse_listing("   /*0020*/   S2R R6, SR_TID.X ;").expect_err("no encoding");
        assert!(error.contains("S2R R6"), "{error}");
    }
}
