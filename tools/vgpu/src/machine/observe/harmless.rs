//! Stores that nothing orders and that do no harm, for the checkers.

use super::Space as Where;
use super::memory::Looked;
use crate::check::{Conflict, EVERY_LANE, Mark, Nature, Wrong};
use crate::checks::Checks;
use crate::machine::exec::Exec;
use crate::machine::lanes_of;
use crate::machine::pointers::Kind;
use crate::ops::LANES;
use crate::program::inst;

impl Exec<'_, '_> {
    /// Remembers a write that was found to do no harm.
    pub(super) fn overwrite(&mut self, place: Where, bytes: u64, lane: usize, writer: u8) {
        let Some(mark) = self.mark(lane, Nature::Weak) else { return };
        let mark = Mark { lane: writer, ..mark };
        let _ = self.apply(mark, Checks::NONE, true, place, bytes, 1 << lane);
    }

    /// A store that changes nothing does no harm: the bytes are there already, or another thread of the
    /// same instruction stores the same. Returns who is to be remembered for it.
    pub(super) fn writes_the_same(
        &mut self,
        looked: &Looked<'_>,
        addresses: &[u64; LANES],
        lane: usize,
        conflict: &Conflict,
    ) -> Option<u8> {
        let Conflict { wrong, earlier, earlier_writes, .. } = *conflict;
        let both_write = earlier_writes && looked.kind == Kind::Write;
        if wrong != Wrong::Unordered || !both_write || earlier.nature != Nature::Weak {
            return None;
        }
        let check = self.cluster.check.as_ref();
        let is_this_instruction = check.is_some_and(|check| {
            earlier.cluster == check.number
                && usize::from(earlier.slot) == self.warp.number
                && earlier.clock == check.threads[self.warp.number].clock()
                && earlier.pc == self.pc
        });
        // A lane before this one that stored to the same address.
        let before = looked.active & earlier.lanes(looked.bytes) & !(u32::MAX << lane);
        let other = lanes_of(before).find(|other| addresses[*other] == addresses[lane]);
        let value = |lane: usize, element: usize| {
            let source = self.used(looked.inst, 1 + element);
            let value = self.warp.registers.get(looked.access.class, source, lane).to_le_bytes();
            let mut kept = [0; 16];
            let width = usize::from(looked.access.bytes);
            kept[..width].copy_from_slice(&value[..width]);
            kept
        };
        let elements = 0..usize::from(looked.access.vector);
        if let Some(other) = other.filter(|_| is_this_instruction) {
            let mut all = elements.into_iter();
            return all.all(|i| value(lane, i) == value(other, i)).then_some(EVERY_LANE);
        }
        let width = usize::from(looked.access.bytes);
        let new: Vec<u8> = elements.flat_map(|i| value(lane, i)[..width].to_vec()).collect();
        let old = self.bytes_at(looked.access.space, addresses[lane], looked.bytes, lane)?;
        (old == new).then_some(lane as u8)
    }

    /// Bytes in memory.
    fn bytes_at(
        &mut self,
        space: inst::Space,
        address: u64,
        bytes: u64,
        lane: usize,
    ) -> Option<Vec<u8>> {
        let at = self.pointer(space, address, bytes, Kind::Read, lane).ok()?;
        // SAFETY: `pointer` checked the bounds.
        Some(unsafe { std::slice::from_raw_parts(at, bytes as usize) }.to_vec())
    }
}
