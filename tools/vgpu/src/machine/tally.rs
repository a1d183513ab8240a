//! What instructions move, counted instruction by instruction, when a launch asks for it.

use super::exec::Exec;
use super::pointers::Kind;
use super::transfer::{Piece, Transfer, Work};
use super::{lanes_of, tensor::Tile};
use crate::ops::LANES;
use crate::program::engine::GroupKind;
use crate::program::inst::Space;
use crate::program::matrix::MatrixOp;
use crate::program::{Inst, LOCAL_WINDOW, PARAM_WINDOW, SHARED_WINDOW, WINDOW_BYTES};

/// Bytes of a sector, in which global memory is read and written.
const SECTOR_BYTES: u64 = 32;
/// Bytes that all banks of shared memory give in one pass, in words of 4.
const PASS_BYTES: u64 = 128;
const WORD_BYTES: u64 = 4;
const NUM_BANKS: u64 = 32;

/// Where an access goes, as the address tells and not the instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Global,
    /// Shared memory of the thread's own block.
    Shared,
    /// Shared memory of another block of the cluster.
    Cluster,
    Local,
    Param,
}

impl Place {
    pub(crate) const ALL: [Place; 5] =
        [Place::Global, Place::Shared, Place::Cluster, Place::Local, Place::Param];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Place::Global => "global",
            Place::Shared => "shared",
            Place::Cluster => "cluster",
            Place::Local => "local",
            Place::Param => "param",
        }
    }
}

/// What one instruction has moved, by all warps together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Row {
    /// Bytes by place: read and written by threads.
    pub read: [u64; 5],
    pub written: [u64; 5],
    /// Warp accesses to global memory, and the sectors that they touch.
    pub global_requests: u64,
    pub sectors: u64,
    /// Warp accesses to the block's shared memory, the passes that they take, and those of them that
    /// take place because of bank conflicts.
    pub shared_requests: u64,
    pub passes: u64,
    pub conflicts: u64,
    /// `cp.async`: bytes from global memory.
    pub copied: u64,
    /// Bulk and tensor copies: bytes from global memory, bytes to it, bytes put in shared memory, and
    /// the sectors of global memory.
    pub bulk_read: u64,
    pub bulk_written: u64,
    pub bulk_shared: u64,
    pub bulk_sectors: u64,
    /// Waits at mbarriers that were answered with "not yet".
    pub retries: u64,
}

impl Exec<'_, '_> {
    /// The counted row of the present instruction, if the launch counts.
    fn row(&mut self) -> Option<&mut Row> {
        let pc = self.pc as usize;
        self.grid.tally.as_mut().map(|tally| &mut tally[pc])
    }

    /// Counts an access of `bytes` bytes of each active lane.
    #[inline]
    pub(super) fn tally(
        &mut self,
        space: Space,
        addresses: &[u64; LANES],
        active: u32,
        bytes: u64,
        kind: Kind,
    ) {
        if self.grid.tally.is_some() {
            self.tally_access(space, addresses, active, bytes, kind);
        }
    }

    #[cold]
    fn tally_access(
        &mut self,
        space: Space,
        addresses: &[u64; LANES],
        active: u32,
        bytes: u64,
        kind: Kind,
    ) {
        let own = self.warp.cta;
        let mut masks = [0u32; 5];
        for lane in lanes_of(active) {
            masks[place(space, addresses[lane], own) as usize] |= 1 << lane;
        }
        let Some(row) = self.row() else { return };
        for (i, mask) in masks.into_iter().enumerate() {
            let all = u64::from(mask.count_ones()) * bytes;
            row.read[i] += if kind == Kind::Write { 0 } else { all };
            row.written[i] += if kind == Kind::Read { 0 } else { all };
        }
        let global = masks[Place::Global as usize];
        if global != 0 {
            row.global_requests += 1;
            row.sectors += sectors(lanes_of(global).map(|lane| (addresses[lane], bytes)));
        }
        let shared = masks[Place::Shared as usize];
        if shared != 0 {
            row.count_passes(addresses, shared, bytes);
        }
    }

    /// Counts `ldmatrix` and `stmatrix`, whose rows of 16 bytes come from one address each.
    pub(super) fn tally_matrix(&mut self, inst: &Inst, op: MatrixOp) {
        let (count, loads) = match op {
            MatrixOp::Load { count, .. } => (count, true),
            MatrixOp::Store { count, .. } => (count, false),
            _ => return,
        };
        if self.grid.tally.is_none() {
            return;
        }
        let addresses = *self.warp.registers.r64(self.used(inst, 0));
        let active = ((1u64 << (8 * u32::from(count))) - 1) as u32;
        let kind = if loads { Kind::Read } else { Kind::Write };
        self.tally_access(Space::Generic, &addresses, active, 16, kind);
    }

    /// Counts a transfer when it is issued.
    pub(super) fn tally_transfer(&mut self, transfer: &Transfer) {
        if let Some(row) = self.row() {
            row.count_transfer(transfer);
        }
    }

    /// Counts a wait that was answered with "not yet".
    pub(super) fn tally_retry(&mut self) {
        if let Some(row) = self.row() {
            row.retries += 1;
        }
    }
}

fn place(space: Space, address: u64, own: usize) -> Place {
    let shared = |address: u32| match (address >> 24) as usize == own {
        true => Place::Shared,
        false => Place::Cluster,
    };
    match space {
        Space::Global => Place::Global,
        Space::Shared => shared(address as u32),
        Space::Local => Place::Local,
        Space::Param => Place::Param,
        Space::Generic => match address {
            SHARED_WINDOW..LOCAL_WINDOW => shared(address as u32),
            LOCAL_WINDOW..PARAM_WINDOW => Place::Local,
            _ if address.wrapping_sub(PARAM_WINDOW) < WINDOW_BYTES => Place::Param,
            _ => Place::Global,
        },
    }
}

fn is_shared(address: u64) -> bool {
    (SHARED_WINDOW..LOCAL_WINDOW).contains(&address)
}

/// Different sectors that runs of bytes touch.
fn sectors(runs: impl Iterator<Item = (u64, u64)>) -> u64 {
    let of_run =
        |(start, bytes): (u64, u64)| start / SECTOR_BYTES..(start + bytes).div_ceil(SECTOR_BYTES);
    count_distinct(runs.filter(|run| run.1 > 0).flat_map(of_run).collect())
}

fn count_distinct(mut all: Vec<u64>) -> u64 {
    all.sort_unstable();
    all.dedup();
    all.len() as u64
}

impl Row {
    /// Shared memory serves lanes in groups whose bytes fill one pass: all 32 for up to 4 bytes each,
    /// halves of the warp for 8, quarters for 16. A group takes as many passes as the busiest bank has
    /// different words.
    fn count_passes(&mut self, addresses: &[u64; LANES], mask: u32, bytes: u64) {
        self.shared_requests += 1;
        let num_lanes = (PASS_BYTES / bytes.max(WORD_BYTES)).max(1) as usize;
        for first in (0..LANES).step_by(num_lanes) {
            let group = lanes_of(mask).filter(|lane| (first..first + num_lanes).contains(lane));
            let mut words: Vec<u64> = group
                .flat_map(|lane| {
                    let start = addresses[lane];
                    start / WORD_BYTES..(start + bytes).div_ceil(WORD_BYTES)
                })
                .collect();
            words.sort_unstable();
            words.dedup();
            let mut banks = [0u64; NUM_BANKS as usize];
            words.iter().for_each(|word| banks[(word % NUM_BANKS) as usize] += 1);
            let busiest = banks.into_iter().max().unwrap_or(0);
            self.passes += busiest;
            self.conflicts += busiest.saturating_sub(1);
        }
    }

    fn count_transfer(&mut self, transfer: &Transfer) {
        match &transfer.work {
            Work::Nothing => {}
            Work::Load { tile, targets } => {
                let (bytes, sectors) = inside(tile);
                self.bulk_read += bytes;
                self.bulk_sectors += sectors;
                self.bulk_shared += u64::from(tile.map.box_bytes()) * targets.len() as u64;
            }
            Work::Store { tile, .. } => {
                let (bytes, sectors) = inside(tile);
                self.bulk_written += bytes;
                self.bulk_sectors += sectors;
            }
            Work::Pieces(pieces) if transfer.staged.is_some() => {
                // `st.async`: threads' own values.
                self.written[Place::Cluster as usize] += total(pieces);
            }
            Work::Pieces(pieces) if transfer.group == Some(GroupKind::Copies) => {
                self.copied += total(pieces);
                self.global_requests += 1;
                self.sectors += sectors(pieces.iter().map(|it| (it.from, it.bytes.into())));
            }
            Work::Pieces(pieces) => self.count_bulk(pieces),
        }
    }

    /// Pieces of a bulk copy: one, or the same one to several blocks.
    fn count_bulk(&mut self, pieces: &[Piece]) {
        let Some(first) = pieces.first() else { return };
        let bytes = u64::from(first.bytes);
        if !is_shared(first.from) {
            self.bulk_read += bytes;
            self.bulk_sectors += sectors(std::iter::once((first.from, bytes)));
        }
        for piece in pieces {
            if is_shared(piece.to) {
                self.bulk_shared += bytes;
            } else {
                self.bulk_written += bytes;
                self.bulk_sectors += sectors(std::iter::once((piece.to, bytes)));
            }
        }
    }
}

fn total(pieces: &[Piece]) -> u64 {
    pieces.iter().map(|it| u64::from(it.bytes)).sum()
}

/// Bytes and sectors of a box inside of its tensor.
fn inside(tile: &Tile) -> (u64, u64) {
    tile.runs().iter().fold((0, 0), |(bytes, all), run| {
        let length = u64::from(run.bytes);
        (bytes + length, all + sectors(std::iter::once((run.address, length))))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(bytes: u64, mask: u32, address: impl Fn(u64) -> u64) -> (u64, u64) {
        let addresses = std::array::from_fn(|lane| SHARED_WINDOW + 1024 + address(lane as u64));
        let mut row = Row::default();
        row.count_passes(&addresses, mask, bytes);
        (row.passes, row.conflicts)
    }

    #[test]
    fn lanes_meet_in_banks_as_the_width_groups_them() {
        let all = u32::MAX;
        assert_eq!(passes(4, all, |lane| 4 * lane), (1, 0), "side by side");
        assert_eq!(passes(4, all, |_| 0), (1, 0), "one word for all");
        assert_eq!(passes(4, all, |lane| 8 * lane), (2, 1), "every other bank");
        assert_eq!(passes(4, all, |lane| 128 * lane), (32, 31), "one bank");
        assert_eq!(passes(1, all, |lane| lane), (1, 0), "bytes of eight words");
        assert_eq!(passes(2, all, |lane| 128 * lane + 2), (32, 31), "halves in one bank");
        assert_eq!(passes(8, all, |lane| 8 * lane), (2, 0), "two halves of the warp");
        assert_eq!(passes(16, all, |lane| 16 * lane), (4, 0), "four quarters");
        assert_eq!(
            passes(16, all, |lane| 128 * lane),
            (32, 28),
            "eight rows of a tile, unswizzled"
        );
        let swizzled = |lane: u64| 128 * lane + 16 * (lane % 8);
        assert_eq!(passes(16, all, swizzled), (4, 0), "eight rows of a tile, swizzled");
        assert_eq!(passes(16, 1, |lane| 16 * lane), (1, 0), "one thread");
    }

    #[test]
    fn sectors_are_counted_once() {
        let words = |stride: u64| sectors((0..32).map(move |lane| (4096 + stride * lane, 4)));
        assert_eq!([words(0), words(4), words(8), words(32), words(128)], [1, 4, 8, 32, 32]);
        assert_eq!(sectors([(4100, 32)].into_iter()), 2, "across a border");
        assert_eq!(sectors([(4100, 0)].into_iter()), 0);
    }
}
