//! Loops, by their branches back.

use std::ops::Range;

use crate::{Class, Instruction};

/// A loop: the instructions from its head to the branch back.
pub type Loop = Range<usize>;

/// Every loop, as positions in `instructions`; nested ones are listed by themselves.
pub fn find_loops(instructions: &[Instruction]) -> Vec<Loop> {
    let mut loops = Vec::new();
    for (idx, instruction) in instructions.iter().enumerate() {
        let Some(target) = instruction.branch_target() else { continue };
        let head = instructions.partition_point(|it| it.address < target);
        // A branch to itself is the trap behind a kernel's end.
        if head < idx && instructions[head].address == target {
            loops.push(head..idx + 1);
        }
    }
    loops
}

/// The shortest loop that multiplies matrices: what is longer goes around it, or comes back into it from a wait out of
/// line. If none does, the longest without a loop inside it.
pub fn main_loop(instructions: &[Instruction]) -> Option<Loop> {
    let loops = find_loops(instructions);
    let multiplies =
        |it: &Loop| instructions[it.clone()].iter().any(|it| it.class() == Class::Tensor);
    let is_innermost = |it: &Loop| {
        !loops.iter().any(|other| other != it && other.start >= it.start && other.end <= it.end)
    };
    let key = |it: &Loop| {
        let (multiplies, len) = (multiplies(it), it.len() as isize);
        (multiplies, multiplies || is_innermost(it), if multiplies { -len } else { len })
    };
    loops.iter().max_by_key(|it| key(it)).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Control;

    fn program(texts: &[&str]) -> Vec<Instruction> {
        let instruction = |(idx, text): (usize, &&str)| Instruction {
            address: 16 * idx as u64,
            text: (*text).to_owned(),
            control: Control::from_upper(0),
        };
        texts.iter().enumerate().map(instruction).collect()
    }

    #[test]
    fn a_branch_back_makes_a_loop_and_one_to_itself_none() {
        let program = program(&["NOP", "FADD R0, R0, R1", "@P0 BRA 0x10", "EXIT", "BRA 0x40"]);
        let loops = find_loops(&program);
        assert_eq!((loops.len(), &loops[0]), (1, &(1..3)));
    }

    #[test]
    fn the_main_loop_is_the_inner_one_unless_the_outer_multiplies() {
        let inner = program(&["NOP", "NOP", "BRA 0x10", "BRA 0x0"]);
        assert_eq!(main_loop(&inner), Some(1..3));
        let outer = program(&["QGMMA R0, gdesc[UR4]", "NOP", "BRA 0x10", "BRA 0x0"]);
        assert_eq!(main_loop(&outer), Some(0..4));
        // What is multiplied in front of the inner loop is not what it repeats.
        let prologue = program(&["QGMMA", "QGMMA", "BRA 0x10", "BRA 0x0"]);
        assert_eq!(main_loop(&prologue), Some(1..3));
        // 1..4 is the loop, 2..6 comes back into it from a wait.
        let wait = program(&["NOP", "NOP", "QGMMA R0, gdesc[UR4]", "BRA 0x10", "EXIT", "BRA 0x20"]);
        assert_eq!(main_loop(&wait), Some(1..4));
        assert_eq!(main_loop(&program(&["EXIT"])), None);
    }
}
