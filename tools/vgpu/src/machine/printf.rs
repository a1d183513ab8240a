//! `printf` and failed assertions: text from device memory.

use super::exec::Exec;
use super::lanes::Cell;
use super::pointers::Kind;
use super::{Flow, Trap, lanes_of};
use crate::fault::FaultKind;
use crate::format::{Arguments, format};
use crate::program::Inst;
use crate::program::inst::Space;

/// A string longer than this is cut.
const MAX_TEXT: usize = 4096;

impl Exec<'_, '_> {
    pub(super) fn printf(&mut self, inst: &Inst, active: u32) -> Result<Flow, Trap> {
        let formats = *self.warp.registers.r64(self.used(inst, 0));
        let buffers = *self.warp.registers.r64(self.used(inst, 1));
        let count = self.def(inst, 0);
        for lane in lanes_of(active) {
            let text = self.text(formats[lane], lane)?;
            let mut reader = Reader { exec: self, at: buffers[lane], lane };
            let line = format(&text, &mut reader)?;
            self.warp.registers.r32_mut(count)[lane] = text.matches('%').count() as u32;
            self.grid.output.push_str(&line);
        }
        Ok(Flow::Next)
    }

    pub(super) fn assert_fail(&mut self, inst: &Inst, active: u32) -> Trap {
        let lane = active.trailing_zeros() as usize;
        let pointer = |i: usize| self.warp.registers.r64(self.used(inst, i))[lane];
        let (message, file, function) = (pointer(0), pointer(1), pointer(3));
        let line = self.warp.registers.r32(self.used(inst, 2))[lane];
        let mut read = |address: u64| self.text(address, lane).unwrap_or_default();
        let kind = FaultKind::Assert {
            message: read(message),
            file: read(file),
            line,
            function: read(function),
        };
        Trap::new(kind, lane as u32)
    }

    /// A string that ends with a zero.
    fn text(&mut self, address: u64, lane: usize) -> Result<String, Trap> {
        let mut bytes = Vec::new();
        while bytes.len() < MAX_TEXT {
            let at = address.wrapping_add(bytes.len() as u64);
            let pointer = self.pointer(Space::Generic, at, 1, Kind::Read, lane)?;
            // SAFETY: `pointer` checked the byte.
            match unsafe { u8::get(pointer) } {
                0 => break,
                byte => bytes.push(byte),
            }
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// Arguments as `vprintf` lays them out: each aligned to its own size.
struct Reader<'x, 'g, 'm> {
    exec: &'x mut Exec<'g, 'm>,
    at: u64,
    lane: usize,
}

impl Arguments for Reader<'_, '_, '_> {
    type Error = Trap;

    fn word(&mut self, bytes: u64) -> Result<u64, Trap> {
        let at = self.at.next_multiple_of(bytes);
        self.at = at + bytes;
        let pointer = self.exec.pointer(Space::Generic, at, bytes, Kind::Read, self.lane)?;
        // SAFETY: `pointer` checked the bytes, and their address is a multiple of their number.
        Ok(unsafe { if bytes == 8 { u64::get(pointer) } else { u32::get(pointer).into() } })
    }

    fn text(&mut self, address: u64) -> Result<String, Trap> {
        self.exec.text(address, self.lane)
    }
}
