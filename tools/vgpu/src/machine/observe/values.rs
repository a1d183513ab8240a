//! Which bytes have values, for the checkers.

use super::Space as Where;
use super::memory::describe;
use crate::fault::FaultKind;
use crate::machine::Trap;
use crate::machine::exec::Exec;
use crate::machine::pointers::Kind;
use crate::machine::tensor::Tile;

impl Exec<'_, '_> {
    /// Bytes that are read must have been written; those that are written have been from now on.
    pub(super) fn look_at_values(
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

    /// Bytes that an asynchronous operation writes have values.
    pub(super) fn set_values(&mut self, place: Where, bytes: u64) {
        let initial = match place {
            Where::Shared(at) => self.cluster.check.as_ref().and_then(|check| {
                Some((check.initial.get((at >> 24) as usize)?, u64::from(at & 0x00ff_ffff)))
            }),
            Where::Global(at) => {
                self.grid.view.region(at, bytes).and_then(|it| Some((it.initial()?, at - it.start)))
            }
        };
        if let Some((initial, from)) = initial {
            initial.set(from, bytes);
        }
    }

    /// Bytes of a target have no values whose source has none.
    pub(super) fn unset_missing(&mut self, from: Where, bytes: u64, to: impl Fn(u64) -> Where) {
        for i in self.missing(from, bytes) {
            let check = self.cluster.check.as_ref();
            match to(i) {
                Where::Shared(at) => {
                    let initial = check.and_then(|it| it.initial.get((at >> 24) as usize));
                    initial.inspect(|it| it.unset(u64::from(at & 0x00ff_ffff)));
                }
                Where::Global(at) => {
                    let region = self.grid.view.region(at, 1);
                    region.and_then(|it| it.initial().map(|map| map.unset(at - it.start)));
                }
            }
        }
    }

    /// Bytes of a range that have no values.
    fn missing(&mut self, from: Where, bytes: u64) -> Vec<u64> {
        let (initial, start) = match (from, &self.cluster.check) {
            (Where::Global(at), _) => match self.grid.view.region(at, bytes) {
                Some(region) => (region.initial(), at - region.start),
                None => (None, 0),
            },
            (Where::Shared(at), Some(check)) => {
                (check.initial.get((at >> 24) as usize), u64::from(at & 0x00ff_ffff))
            }
            _ => (None, 0),
        };
        match initial {
            Some(initial) if initial.missing(start, bytes).is_some() => {
                (0..bytes).filter(|i| initial.missing(start + i, 1).is_some()).collect()
            }
            _ => Vec::new(),
        }
    }

    pub(super) fn set_box_values(&mut self, tile: &Tile, target: u32) {
        let bytes = tile.map.box_bytes();
        for offset in (0..bytes).step_by(16) {
            let at = Where::Shared(tile.place(target, offset) as u32);
            self.set_values(at, u64::from(16.min(bytes - offset)));
        }
        for run in tile.runs() {
            self.unset_missing(Where::Global(run.address), run.bytes.into(), |i| {
                let offset = run.offset + i as u32;
                let chunk = tile.place(target, offset / 16 * 16) as u32;
                Where::Shared(chunk + offset % 16)
            });
        }
    }
}
