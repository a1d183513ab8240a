//! Loads, stores and atomics, for the checkers.

use super::{Space as Where, same_address};
use crate::check::{Access, Conflict, Mark, Nature, Strong};
use crate::checks::Checks;
use crate::machine::exec::Exec;
use crate::machine::pointers::Kind;
use crate::machine::{Trap, lanes_of};
use crate::ops::LANES;
use crate::program::Inst;
use crate::program::inst::{self, Scope, Semantics};

/// A memory instruction that is looked at.
#[derive(Clone, Copy)]
pub(super) struct Looked<'i> {
    pub inst: &'i Inst,
    pub access: &'i inst::Access,
    pub kind: Kind,
    pub bytes: u64,
    pub nature: Nature,
    pub checks: Checks,
    pub active: u32,
}

impl Exec<'_, '_> {
    /// Checks the accesses of the active lanes, which are in bounds.
    #[inline(always)]
    pub(in crate::machine) fn observe_access(
        &mut self,
        inst: &Inst,
        access: &inst::Access,
        addresses: &[u64; LANES],
        active: u32,
        kind: Kind,
    ) -> Result<(), Trap> {
        match &self.grid.check {
            None => Ok(()),
            Some(check) => self.look(inst, access, addresses, active, kind, check.checks),
        }
    }

    #[inline(never)]
    fn look(
        &mut self,
        inst: &Inst,
        access: &inst::Access,
        addresses: &[u64; LANES],
        active: u32,
        kind: Kind,
        checks: Checks,
    ) -> Result<(), Trap> {
        let bytes = u64::from(access.bytes) * u64::from(access.vector);
        let nature = nature(access, kind);
        let looked = Looked { inst, access, kind, bytes, nature, checks, active };
        let is_one = match &self.cluster.check {
            Some(check) => check.threads[self.warp.number].is_one_group(),
            None => return Ok(()),
        };
        if nature == Nature::Weak && is_one && self.look_at_stripes(&looked, addresses) {
            return Ok(());
        }
        self.look_at_blocks(&looked, addresses)?;
        if checks.contains(Checks::INITIALISED) {
            for lane in lanes_of(active) {
                if let Some(place) = Where::of(access.space, addresses[lane]) {
                    self.look_at_values(place, bytes, kind, access.is_copied, lane)?;
                }
            }
        }
        if checks == Checks::INITIALISED {
            return Ok(());
        }
        if nature != Nature::Weak {
            return self.look_at_strong(&looked, addresses);
        }
        let first = active.trailing_zeros() as usize;
        let is_uniform = lanes_of(active).all(|lane| addresses[lane] == addresses[first]);
        let together = kind == Kind::Read && is_one && is_uniform;
        let mut left = active;
        while left != 0 {
            let done = match together {
                true => self.compare_at(&looked, addresses, first, active).map_err(|it| (31, it)),
                false => self.compare_lanes(&looked, addresses, left),
            };
            let Err((lane, conflict)) = done else { break };
            self.settle(&looked, addresses, if together { first } else { lane }, &conflict)?;
            left &= (u32::MAX << lane) << 1;
        }
        Ok(())
    }

    /// An access of the whole warp to bytes that follow each other, lane by lane, at once; false if it is
    /// none, or if something is wrong with it.
    #[inline(always)]
    fn look_at_stripes(&mut self, looked: &Looked<'_>, addresses: &[u64; LANES]) -> bool {
        let Looked { bytes, kind, checks, .. } = *looked;
        let start = addresses[0];
        let follows = |lane: usize| addresses[lane] == start.wrapping_add(lane as u64 * bytes);
        let is_whole = looked.active == u32::MAX && bytes.is_power_of_two();
        if !is_whole || !start.is_multiple_of(16) || !(1..LANES).all(follows) {
            return false;
        }
        let Some(place) = Where::of(looked.access.space, start) else { return true };
        if self.look_at_blocks(looked, addresses).is_err() {
            return false;
        }
        let all = bytes * LANES as u64;
        if checks.contains(Checks::INITIALISED)
            && self.look_at_values(place, all, kind, looked.access.is_copied, 0).is_err()
        {
            return false;
        }
        let Some(mark) = self.mark(0, Nature::Weak) else { return true };
        let (Some(grid), Some(check)) = (&mut self.grid.check, &mut self.cluster.check) else {
            return true;
        };
        let mut access = Access {
            seen: check.threads[self.warp.number].seen(0),
            mark,
            lanes: 1,
            own: 1,
            writes: kind != Kind::Read,
            warps: grid.warps,
            checks,
            stripes: Some((place.address(), bytes.trailing_zeros() as u8)),
            in_order: (0, 0, 0),
        };
        checks == Checks::INITIALISED
            || match place {
                Where::Shared(at) => access.apply(&mut check.shadow, at.into(), all),
                Where::Global(at) => access.apply(&mut grid.shadow, at, all),
            }
            .is_ok()
    }

    /// Shared memory of a block that has ended is gone.
    fn look_at_blocks(
        &mut self,
        looked: &Looked<'_>,
        addresses: &[u64; LANES],
    ) -> Result<(), Trap> {
        if self.cluster.ctas.len() == 1 {
            return Ok(());
        }
        for lane in lanes_of(looked.active) {
            if let Some(place @ Where::Shared(at)) = Where::of(looked.access.space, addresses[lane])
                && self.cluster.ctas[(at >> 24) as usize].alive == 0
            {
                let (access, hint) = (describe(place, looked.kind), self.hint(place));
                let message = format!("{access} at {at:#x} of a block that has ended{hint}");
                return Err(Trap::misuse(message, lane as u32));
            }
        }
        Ok(())
    }

    /// Compares weak accesses lane by lane, up to the first that something is wrong with.
    fn compare_lanes(
        &mut self,
        looked: &Looked<'_>,
        addresses: &[u64; LANES],
        lanes: u32,
    ) -> Result<(), (usize, Conflict)> {
        let Some(mark) = self.mark(0, Nature::Weak) else { return Ok(()) };
        let (Some(grid), Some(check)) = (&mut self.grid.check, &mut self.cluster.check) else {
            return Ok(());
        };
        let threads = &check.threads[self.warp.number];
        let mut access = Access {
            seen: threads.seen(lanes.trailing_zeros() as usize),
            mark,
            lanes: 0,
            own: 0,
            writes: looked.kind != Kind::Read,
            warps: grid.warps,
            checks: looked.checks,
            stripes: None,
            in_order: (0, 0, 0),
        };
        let is_one = threads.is_one_group();
        for lane in lanes_of(lanes) {
            let Some(place) = Where::of(looked.access.space, addresses[lane]) else { continue };
            if !is_one {
                access.seen = threads.seen(lane);
                access.in_order = (0, 0, 0);
            }
            (access.mark.lane, access.lanes, access.own) = (lane as u8, 1 << lane, 1 << lane);
            let done = match place {
                Where::Shared(at) => access.apply(&mut check.shadow, at.into(), looked.bytes),
                Where::Global(at) => access.apply(&mut grid.shadow, at, looked.bytes),
            };
            done.map_err(|conflict| (lane, conflict))?;
        }
        Ok(())
    }

    fn compare_at(
        &mut self,
        looked: &Looked<'_>,
        addresses: &[u64; LANES],
        lane: usize,
        lanes: u32,
    ) -> Result<(), Conflict> {
        let Looked { nature, bytes, kind, .. } = *looked;
        let Some(place) = Where::of(looked.access.space, addresses[lane]) else { return Ok(()) };
        self.compare(nature, kind != Kind::Read, place, bytes, lane, lanes)
    }

    /// Reports a conflict, unless it does no harm.
    fn settle(
        &mut self,
        looked: &Looked<'_>,
        addresses: &[u64; LANES],
        lane: usize,
        conflict: &Conflict,
    ) -> Result<(), Trap> {
        let Some(place) = Where::of(looked.access.space, addresses[lane]) else { return Ok(()) };
        let Some(writer) = self.writes_the_same(looked, addresses, lane, conflict) else {
            let access = describe(place, looked.kind);
            return Err(self.conflict(conflict, access, place, looked.bytes, lane));
        };
        self.overwrite(place, looked.bytes, lane, writer);
        Ok(())
    }

    /// Strong accesses, which synchronise.
    fn look_at_strong(
        &mut self,
        looked: &Looked<'_>,
        addresses: &[u64; LANES],
    ) -> Result<(), Trap> {
        let Looked { access, kind, active, .. } = *looked;
        if kind == Kind::Read {
            for (lane, lanes) in same_address(addresses, active) {
                if let Some(place) = Where::of(access.space, addresses[lane]) {
                    self.synchronise(looked, place, lanes, false);
                }
            }
        }
        for lane in lanes_of(active) {
            let Some(place) = Where::of(access.space, addresses[lane]) else { continue };
            if kind == Kind::Atomic {
                self.synchronise(looked, place, 1 << lane, false);
            }
            if let Err(conflict) = self.compare_at(looked, addresses, lane, 1 << lane) {
                self.settle(looked, addresses, lane, &conflict)?;
            }
            if kind != Kind::Read {
                self.synchronise(looked, place, 1 << lane, true);
            }
        }
        Ok(())
    }

    /// An access of one lane, in bounds, that is no load or store.
    pub(in crate::machine) fn observe_plain(
        &mut self,
        address: u64,
        bytes: u64,
        writes: bool,
        lane: usize,
    ) -> Result<(), Trap> {
        let (Some(checks), Some(place)) =
            (self.grid.check.as_ref().map(|it| it.checks), Where::of_generic(address))
        else {
            return Ok(());
        };
        let kind = if writes { Kind::Write } else { Kind::Read };
        if checks.contains(Checks::INITIALISED) {
            self.look_at_values(place, bytes, kind, false, lane)?;
        }
        if checks == Checks::INITIALISED {
            return Ok(());
        }
        let done = self.compare(Nature::Weak, writes, place, bytes, lane, 1 << lane);
        done.map_err(|conflict| self.conflict(&conflict, describe(place, kind), place, bytes, lane))
    }

    /// Compares an access with earlier ones, and remembers it.
    pub(super) fn compare(
        &mut self,
        nature: Nature,
        writes: bool,
        place: Where,
        bytes: u64,
        lane: usize,
        lanes: u32,
    ) -> Result<(), Conflict> {
        let (Some(mark), Some(grid)) = (self.mark(lane, nature), &self.grid.check) else {
            return Ok(());
        };
        self.apply(mark, grid.checks, writes, place, bytes, lanes)
    }

    /// The same for another agent's or a changed mark.
    pub(super) fn apply(
        &mut self,
        mark: Mark,
        checks: Checks,
        writes: bool,
        place: Where,
        bytes: u64,
        lanes: u32,
    ) -> Result<(), Conflict> {
        let done = self.apply_each(mark, (checks, writes), [place], bytes, lanes);
        done.map_err(|(_, conflict)| conflict)
    }

    /// The same at several places.
    pub(super) fn apply_each(
        &mut self,
        mark: Mark,
        (checks, writes): (Checks, bool),
        places: impl IntoIterator<Item = Where>,
        bytes: u64,
        lanes: u32,
    ) -> Result<(), (Where, Conflict)> {
        let (Some(grid), Some(check)) = (&mut self.grid.check, &mut self.cluster.check) else {
            return Ok(());
        };
        let mut access = Access {
            seen: check.threads[self.warp.number].seen(lanes.trailing_zeros() as usize),
            mark,
            lanes,
            own: if lanes.count_ones() == 1 { lanes } else { 0 },
            writes,
            warps: grid.warps,
            checks,
            stripes: None,
            in_order: (0, 0, 0),
        };
        places.into_iter().try_for_each(|place| {
            let done = match place {
                Where::Shared(at) => access.apply(&mut check.shadow, at.into(), bytes),
                Where::Global(at) => access.apply(&mut grid.shadow, at, bytes),
            };
            done.map_err(|conflict| (place, conflict))
        })
    }

    /// What a strong access passes on or takes over.
    fn synchronise(&mut self, looked: &Looked<'_>, place: Where, lanes: u32, writes: bool) {
        let (Some(grid), Some(check)) = (&mut self.grid.check, &mut self.cluster.check) else {
            return;
        };
        let is_both = looked.access.semantics == Semantics::AcquireRelease;
        let access = Strong {
            address: place.address(),
            scope: looked.nature,
            cluster: check.number,
            block: self.warp.cta as u16,
            acquires: is_both || looked.access.semantics == Semantics::Acquire,
            releases: is_both || looked.access.semantics == Semantics::Release,
        };
        let locations = match place {
            Where::Shared(_) => &mut check.locations,
            Where::Global(_) => &mut grid.locations,
        };
        let threads = &mut check.threads[self.warp.number];
        match writes {
            true => {
                let lane = lanes.trailing_zeros() as usize;
                locations.write(threads, lane, &access, looked.kind == Kind::Atomic);
            }
            false => locations.read(threads, lanes, &access),
        }
    }
}

/// How an access is remembered.
fn nature(access: &inst::Access, kind: Kind) -> Nature {
    match (access.semantics, access.scope) {
        (Semantics::Weak, _) if kind != Kind::Atomic => Nature::Weak,
        (_, Scope::Cta) => Nature::Cta,
        (_, Scope::Cluster) => Nature::Cluster,
        (_, Scope::Gpu | Scope::Sys) => Nature::Gpu,
    }
}

pub(super) fn describe(place: Where, kind: Kind) -> String {
    let space = match place {
        Where::Shared(_) => "shared",
        Where::Global(_) => "global",
    };
    let kind = match kind {
        Kind::Read => "read",
        Kind::Write => "write",
        Kind::Atomic => "atomic",
    };
    format!("{space} {kind}")
}
