//! When two accesses to the same bytes are a mistake.

use crate::checks::Checks;

use super::clock::Seen;
use super::shadow::{Cell, EVERY_LANE, Mark, Nature, Part, Read, Sets, Shadow};

/// What is wrong with two accesses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// Nothing orders them.
    Unordered,
    /// They are ordered, but the async proxy may not see the earlier one.
    Unfenced,
    /// The earlier one made an mbarrier of the bytes.
    Mbarrier,
}

/// An access that another one does not get along with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Conflict {
    pub wrong: Wrong,
    pub earlier: Mark,
    pub earlier_writes: bool,
    /// The lowest lane that the earlier access is of, apart from the later one's.
    pub lane: u8,
}

/// An access, and what the thread that makes it knows.
#[derive(Clone, Copy)]
pub(crate) struct Access<'s> {
    pub seen: &'s Seen,
    /// How the access is remembered.
    pub mark: Mark,
    /// Threads of the warp that read the same at the same time.
    pub lanes: u32,
    /// The thread, if it is a single one: it knows what it did itself.
    pub own: u32,
    pub writes: bool,
    /// Blocks have this many warps.
    pub warps: u16,
    pub checks: Checks,
    /// All threads of the warp access what follows from an address on, `2^width` bytes each.
    pub stripes: Option<(u64, u8)>,
    /// The earlier writes that were found in order last: cluster, slot and clock.
    pub in_order: (u32, u16, u32),
}

impl Access<'_> {
    /// Compares an access with those that came before, and remembers it.
    #[inline(always)]
    pub(crate) fn apply(
        &mut self,
        shadow: &mut Shadow,
        address: u64,
        bytes: u64,
    ) -> Result<(), Conflict> {
        match (self.writes, self.stripes) {
            (true, None) => {
                shadow.visit(address, bytes, true, |cell, sets, part| self.write(cell, sets, part))
            }
            (false, None) => {
                shadow.visit(address, bytes, false, |cell, sets, part| self.read(cell, sets, part))
            }
            (true, Some(stripes)) => shadow.visit(address, bytes, true, |cell, sets, part| {
                self.take_stripe(stripes, part);
                self.write(cell, sets, part)
            }),
            (false, Some(stripes)) => shadow.visit(address, bytes, false, |cell, sets, part| {
                self.take_stripe(stripes, part);
                self.read(cell, sets, part)
            }),
        }
    }

    /// Becomes the access of the threads that a part of the stripes belongs to.
    #[inline(always)]
    fn take_stripe(&mut self, (start, width): (u64, u8), part: Part) {
        self.mark.lane = ((part.at - start) >> width) as u8;
        if part.bytes > 1 << width {
            self.mark.stripe = width + 1;
            self.lanes = self.mark.lanes(part.bytes);
            self.own = 0;
        } else {
            self.mark.stripe = 0;
            self.lanes = 1 << self.mark.lane;
            self.own = self.lanes;
        }
    }

    /// The threads of a mark, each of which accesses the same bytes now.
    #[inline(always)]
    fn is_same_stripe(&self, mark: &Mark) -> bool {
        mark.stripe != 0
            && mark.stripe == self.mark.stripe
            && mark.lane == self.mark.lane
            && self.is_mine(mark)
    }

    #[inline(always)]
    fn read(&mut self, cell: &mut Cell, sets: &mut Sets, part: Part) -> Result<(), Conflict> {
        self.after_write(&cell.write, part)?;
        let new = Read { mark: self.mark, lanes: self.lanes };
        let old = &mut cell.read;
        let is_same = old.mark.clock == self.mark.clock
            && old.mark.slot == self.mark.slot
            && old.mark.cluster == self.mark.cluster
            && old.mark.nature == self.mark.nature;
        if is_same && old.mark.stripe == self.mark.stripe {
            if self.mark.stripe == 0 {
                old.lanes |= self.lanes;
                return Ok(());
            }
            if old.mark.lane == self.mark.lane {
                return Ok(());
            }
        }
        let is_covered = match self.mark.stripe {
            0 => old.lanes & !self.lanes == 0 && self.is_mine(&old.mark),
            _ => self.is_same_stripe(&old.mark),
        };
        if old.mark.clock == 0 || is_covered {
            *old = new;
        } else if cell.reads(sets).all(|read| self.knows(&read.mark, read.lanes)) {
            cell.set_read(new, sets);
        } else {
            cell.add_read(new, sets);
        }
        Ok(())
    }

    #[inline(always)]
    fn write(&mut self, cell: &mut Cell, sets: &mut Sets, part: Part) -> Result<(), Conflict> {
        self.after_write(&cell.write, part)?;
        if cell.read.mark.clock != 0 && self.checks.contains(Checks::RACES) {
            self.after_reads(cell, sets)?;
        }
        cell.set_write(self.mark, sets);
        Ok(())
    }

    #[inline(always)]
    fn after_write(&mut self, earlier: &Mark, part: Part) -> Result<(), Conflict> {
        let key = (earlier.cluster, earlier.slot, earlier.clock);
        if earlier.clock == 0 || (key == self.in_order && earlier.nature == Nature::Weak) {
            return Ok(());
        }
        if earlier.nature == Nature::Weak
            && self.mark.nature == Nature::Weak
            && self.is_same_stripe(earlier)
        {
            return Ok(());
        }
        self.after_unknown_write(earlier, part)
    }

    fn after_unknown_write(&mut self, earlier: &Mark, part: Part) -> Result<(), Conflict> {
        let lanes = earlier.lanes(part.bytes);
        let conflict = |wrong| {
            let earlier = *earlier;
            Err(Conflict { wrong, earlier, earlier_writes: true, lane: earlier.lane })
        };
        let knows = self.knows(earlier, lanes);
        if self.checks.contains(Checks::RACES) && !knows && !self.may_meet(earlier) {
            return conflict(Wrong::Unordered);
        }
        let overwrites = earlier.nature == Nature::Mbarrier && self.mark.nature != Nature::Mbarrier;
        if overwrites && self.writes && self.checks.contains(Checks::BARRIERS) {
            return conflict(Wrong::Mbarrier);
        }
        let is_generic = !earlier.nature.is_async_proxy() && earlier.nature != Nature::Mbarrier;
        if self.mark.nature.is_async_proxy() && is_generic {
            if self.checks.contains(Checks::PROXIES) && knows && !self.is_fenced(earlier, lanes) {
                return conflict(Wrong::Unfenced);
            }
        } else if self.covers(earlier, u32::MAX) {
            self.in_order = (earlier.cluster, earlier.slot, earlier.clock);
        }
        Ok(())
    }

    fn after_reads(&self, cell: &Cell, sets: &Sets) -> Result<(), Conflict> {
        for read in cell.reads(sets) {
            if !self.knows(&read.mark, read.lanes) && !self.may_meet(&read.mark) {
                let is_unknown =
                    |lane: &u8| read.lanes >> lane & 1 == 1 && !self.knows(&read.mark, 1 << lane);
                let lane = (0..32).find(is_unknown).unwrap_or(read.mark.lane);
                return Err(Conflict {
                    wrong: Wrong::Unordered,
                    earlier: read.mark,
                    earlier_writes: false,
                    lane,
                });
            }
        }
        Ok(())
    }

    /// The mark is of the warp whose thread makes this access.
    fn is_mine(&self, mark: &Mark) -> bool {
        mark.cluster == self.mark.cluster && mark.slot == self.mark.warp
    }

    /// The thread knows what some threads of an agent did at a mark. Each thread knows all that it did
    /// itself, but for what it left to asynchronous operations.
    #[inline(always)]
    fn knows(&self, mark: &Mark, lanes: u32) -> bool {
        let is_mine = self.is_mine(mark);
        if self.is_same_stripe(mark) {
            return true;
        }
        let others = if is_mine { lanes & !self.own } else { lanes };
        // What all wrote together each of them may read, but not change alone.
        others == 0
            || (is_mine && mark.lane == EVERY_LANE && !self.writes)
            || self.covers(mark, others)
    }

    /// The thread has heard of what some threads of an agent did at a mark.
    #[inline(always)]
    fn covers(&self, mark: &Mark, lanes: u32) -> bool {
        let clock = &self.seen.generic;
        match mark.cluster == self.mark.cluster {
            true => clock.covers(mark.slot, lanes, mark.clock),
            false => clock.covers_remote(mark.cluster, mark.slot, lanes, mark.clock),
        }
    }

    fn is_fenced(&self, mark: &Mark, lanes: u32) -> bool {
        let clock = &self.seen.fenced;
        match mark.cluster == self.mark.cluster {
            true => clock.covers(mark.slot, lanes, mark.clock),
            false => clock.covers_remote(mark.cluster, mark.slot, lanes, mark.clock),
        }
    }

    /// Both are strong, and each is in the other's scope.
    fn may_meet(&self, earlier: &Mark) -> bool {
        let near = match earlier.cluster == self.mark.cluster {
            true if earlier.warp / self.warps == self.mark.warp / self.warps => Nature::Cta,
            true => Nature::Cluster,
            false => Nature::Gpu,
        };
        let reaches = |nature: Nature| nature.reach().is_some_and(|reach| reach >= near);
        reaches(self.mark.nature) && reaches(earlier.nature)
    }
}
