//! The control bits of an instruction: how the compiler scheduled it.

use std::fmt;

/// Control bits of SM 7 to 9; they lie in bits 105 to 125 of the 128.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Control {
    /// Cycles until the warp's next instruction may issue.
    pub stall: u8,
    /// Whether the scheduler may prefer another warp.
    pub yields: bool,
    /// Barrier that the result sets, 0 to 5.
    pub write_barrier: Option<u8>,
    /// Barrier that is set once the operands are read, 0 to 5.
    pub read_barrier: Option<u8>,
    /// Barriers that the instruction waits for, one bit each.
    pub wait_mask: u8,
    /// Operands kept for the next instruction, one bit each.
    pub reuse: u8,
}

impl Control {
    /// From the upper 64 bits of an instruction.
    pub fn from_upper(upper: u64) -> Self {
        let field = |shift: u32, bits: u32| ((upper >> shift) & ((1 << bits) - 1)) as u8;
        // 7 stands for no barrier.
        let barrier = |shift| Some(field(shift, 3)).filter(|&barrier| barrier != 7);
        Self {
            stall: field(105 - 64, 4),
            yields: field(109 - 64, 1) == 0,
            write_barrier: barrier(110 - 64),
            read_barrier: barrier(113 - 64),
            wait_mask: field(116 - 64, 6),
            reuse: field(122 - 64, 4),
        }
    }
}

/// Barriers waited for, read and write barrier, yield, stall, reuse: `01---- r- w2 y 13 1000`.
impl fmt::Display for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for barrier in 0..6u8 {
            match self.wait_mask >> barrier & 1 {
                0 => f.write_str("-")?,
                _ => write!(f, "{barrier}")?,
            }
        }
        let name = |barrier: Option<u8>| barrier.map_or("-".to_owned(), |it| it.to_string());
        let (read, write) = (name(self.read_barrier), name(self.write_barrier));
        let yields = if self.yields { 'y' } else { '-' };
        write!(f, " r{read} w{write} {yields} {:2} {:04b}", self.stall, self.reuse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_lie_where_the_hardware_has_them() {
        // S2R R6, SR_TID.X: sets barrier 0 for its result, stalls 1.
        let control = Control::from_upper(0x000e_2200_0000_2100);
        assert_eq!(control.write_barrier, Some(0));
        assert_eq!((control.stall, control.read_barrier, control.wait_mask), (1, None, 0));
        // MUFU.RCP R5, R5: waits for barrier 3, sets barrier 1 for its result.
        let control = Control::from_upper(0x008f_e200_0000_1000);
        assert_eq!((control.wait_mask, control.stall), (0b1000, 1));
        assert_eq!(control.to_string(), "---3-- r- w- -  1 0000");
    }
}
