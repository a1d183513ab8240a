//! Loads, stores and atomics, for the checkers.

use super::Space as Where;
use crate::check::{Access, Conflict, EVERY_LANE, Mark, Nature, Strong, Wrong};
use crate::checks::Checks;
use crate::fault::FaultKind;
use crate::machine::exec::Exec;
use crate::machine::pointers::Kind;
use crate::machine::{Trap, lanes_of};
use crate::ops::LANES;
use crate::program::Inst;
use crate::program::inst::{self, Scope, Semantics};

/// A memory instruction that is looked at.
#[derive(Clone, Copy)]
struct Looked<'i> {
    inst: &'i Inst,
    access: &'i inst::Access,
    kind: Kind,
    bytes: u64,
    nature: Nature,
    checks: Checks,
    active: u32,
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
        let first = addresses[active.trailing_zeros() as usize];
        if nature == Nature::Weak && kind == Kind::Read && active.count_ones() > 1 {
            let same = lanes_of(active).all(|lane| addresses[lane] == first);
            let warp = &self.cluster.check.as_ref().map(|it| &it.threads[self.warp.number]);
            if same && warp.is_some_and(|warp| warp.is_one_group()) {
                return self.look_at(&looked, addresses, active.trailing_zeros() as usize, active);
            }
        }
        if nature != Nature::Weak && kind == Kind::Read {
            for (lane, lanes) in same_address(addresses, active) {
                if let Some(place) = Where::of(access.space, addresses[lane]) {
                    self.synchronise(&looked, place, lanes, false);
                }
            }
        }
        lanes_of(active).try_for_each(|lane| self.look_at(&looked, addresses, lane, 1 << lane))
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

    /// One thread's access, or the same read of several.
    fn look_at(
        &mut self,
        looked: &Looked<'_>,
        addresses: &[u64; LANES],
        lane: usize,
        lanes: u32,
    ) -> Result<(), Trap> {
        let address = addresses[lane];
        let Some(place) = Where::of(looked.access.space, address) else { return Ok(()) };
        if let Where::Shared(at) = place
            && self.cluster.ctas[(at >> 24) as usize].alive == 0
        {
            let (access, hint) = (describe(place, looked.kind), self.hint(place));
            let message = format!("{access} at {at:#x} of a block that has ended{hint}");
            return Err(Trap::misuse(message, lane as u32));
        }
        if looked.checks.contains(Checks::INITIALISED) {
            let is_copied = looked.access.is_copied;
            self.look_at_values(place, looked.bytes, looked.kind, is_copied, lane)?;
        }
        if looked.checks == Checks::INITIALISED {
            return Ok(());
        }
        let is_strong = looked.nature != Nature::Weak;
        if is_strong && looked.kind == Kind::Atomic {
            self.synchronise(looked, place, 1 << lane, false);
        }
        let writes = looked.kind != Kind::Read;
        let Looked { nature, bytes, .. } = *looked;
        let Err(conflict) = self.compare(nature, writes, place, bytes, lane, lanes) else {
            if is_strong && writes {
                self.synchronise(looked, place, 1 << lane, true);
            }
            return Ok(());
        };
        let Some(writer) = self.writes_the_same(looked, addresses, lane, &conflict) else {
            let access = describe(place, looked.kind);
            return Err(self.conflict(&conflict, access, place, bytes, lane));
        };
        self.overwrite(place, bytes, lane, writer);
        Ok(())
    }

    /// Remembers a write that was found to do no harm.
    pub(super) fn overwrite(&mut self, place: Where, bytes: u64, lane: usize, writer: u8) {
        let Some(mark) = self.mark(lane, Nature::Weak) else { return };
        let mark = Mark { lane: writer, ..mark };
        let _ = self.apply(mark, Checks::NONE, true, place, bytes, 1 << lane);
    }

    /// Bytes that are read must have been written; those that are written have been from now on.
    fn look_at_values(
        &mut self,
        place: Where,
        bytes: u64,
        kind: Kind,
        is_copied: bool,
        lane: usize,
    ) -> Result<(), Trap> {
        let initial = match (place, &self.cluster.check) {
            (Where::Shared(at), Some(check)) => {
                Some((&check.initial[(at >> 24) as usize], u64::from(at & 0x00ff_ffff)))
            }
            (Where::Global(at), _) => self
                .grid
                .view
                .region(at, bytes)
                .and_then(|it| it.initial().map(|initial| (initial, at - it.start))),
            _ => None,
        };
        let Some((initial, from)) = initial else { return Ok(()) };
        if kind == Kind::Write {
            initial.set(from, bytes);
            return Ok(());
        }
        let missing = if is_copied { None } else { initial.missing(from, bytes) };
        let Some(missing) = missing else { return Ok(()) };
        let access = describe(place, kind);
        let address = place.address();
        let hint = self.hint(place.plus(missing - from));
        let kind = FaultKind::Uninitialised { access, address, bytes, hint };
        Err(Trap::new(kind, lane as u32))
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
            in_order: (0, 0, 0),
        };
        match place {
            Where::Shared(at) => access.apply(&mut check.shadow, at.into(), bytes),
            Where::Global(at) => access.apply(&mut grid.shadow, at, bytes),
        }
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

    /// A store that changes nothing does no harm: the bytes are there already, or another thread of the
    /// same instruction stores the same. Returns who is to be remembered for it.
    fn writes_the_same(
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
        let before = looked.active & earlier.lanes() & !(u32::MAX << lane);
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

/// Lanes by their address: the first, and all that have the same.
pub(super) fn same_address(
    addresses: &[u64; LANES],
    active: u32,
) -> impl Iterator<Item = (usize, u32)> {
    let mut left = active;
    std::iter::from_fn(move || {
        let first = lanes_of(left).next()?;
        let same = lanes_of(left).filter(|lane| addresses[*lane] == addresses[first]);
        let same = same.fold(0, |mask, lane| mask | 1 << lane);
        left &= !same;
        Some((first, same))
    })
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

fn describe(place: Where, kind: Kind) -> String {
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
