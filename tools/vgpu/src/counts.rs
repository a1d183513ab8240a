//! What a launch did, counted: the same in every run of a kernel that does not poll.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use crate::machine::{Place, Row};
use crate::program::inst::{Access, Op, Semantics};
use crate::program::matrix::{MatrixOp, Wgmma};
use crate::program::{Kernel, Program, class_of};

/// Counts of one launch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Of the whole launch.
    pub total: Tally,
    /// By source file and line, where the module tells them.
    pub lines: BTreeMap<(String, u32), Tally>,
}

/// What some instructions did, by all warps together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Warp instructions.
    pub instructions: u64,
    /// The same by class: `integer`, `float`, `special`, `convert`, `move`, `compare`, `load`,
    /// `store`, `atomic`, `copy`, `matrix`, `warp`, `barrier`, `mbarrier`, `fence`, `control`, `hint`.
    pub classes: BTreeMap<&'static str, u64>,
    /// Bytes that threads read and wrote, by place: `global`, `shared`, `cluster` (shared memory of
    /// another block), `local`, `param`. An atomic reads and writes.
    pub bytes: BTreeMap<&'static str, Bytes>,
    /// Accesses of warps to global memory, `cp.async` included.
    pub global_requests: u64,
    /// Sectors of 32 bytes that each of those accesses touched, added up.
    pub global_sectors: u64,
    /// Accesses of warps to their block's shared memory, `ldmatrix` and `stmatrix` included.
    pub shared_requests: u64,
    /// Passes over the 32 banks that those accesses took.
    pub shared_passes: u64,
    /// Passes that better addresses would have saved.
    pub bank_conflicts: u64,
    /// Bytes that `cp.async` brought.
    pub copied_bytes: u64,
    /// Bulk and tensor copies.
    pub bulk: Bulk,
    /// Multiplications of tensor cores.
    pub macs: u64,
    /// Waits at mbarriers that were answered with "not yet".
    pub retries: u64,
    /// Loads and atomics that tell of other threads' work (`acquire`, `relaxed`, `volatile`): a
    /// kernel that waits by them repeats them.
    pub polls: u64,
}

/// Bytes of threads' accesses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bytes {
    /// Read.
    pub read: u64,
    /// Written.
    pub written: u64,
}

/// What `cp.async.bulk` and `cp.async.bulk.tensor` moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bulk {
    /// Bytes from global memory; a multicast reads once.
    pub read: u64,
    /// Bytes to global memory, by stores and reductions.
    pub written: u64,
    /// Bytes put in shared memory: every block of a multicast, and what lies outside of the tensor.
    pub shared: u64,
    /// Sectors of global memory, counted for each row of a box.
    pub sectors: u64,
}

impl Tally {
    /// Bytes of global memory that threads asked for, of the bytes in the sectors that they touched; 1
    /// is the best for threads that want different bytes. `None` without such accesses.
    #[must_use]
    pub fn coalescing(&self) -> Option<f64> {
        let global = self.bytes.get("global").copied().unwrap_or_default();
        let asked = global.read.max(global.written) + self.copied_bytes;
        (self.global_sectors > 0).then(|| asked as f64 / (32 * self.global_sectors) as f64)
    }

    fn of_instruction(op: &Op, class: &'static str, times: u64, row: &Row) -> Self {
        let by_place = Place::ALL.into_iter().filter_map(|place| {
            let (read, written) = (row.read[place as usize], row.written[place as usize]);
            (read | written != 0).then_some((place.name(), Bytes { read, written }))
        });
        Tally {
            instructions: times,
            classes: if times > 0 { [(class, times)].into() } else { BTreeMap::new() },
            bytes: by_place.collect(),
            global_requests: row.global_requests,
            global_sectors: row.sectors,
            shared_requests: row.shared_requests,
            shared_passes: row.passes,
            bank_conflicts: row.conflicts,
            copied_bytes: row.copied,
            bulk: Bulk {
                read: row.bulk_read,
                written: row.bulk_written,
                shared: row.bulk_shared,
                sectors: row.bulk_sectors,
            },
            macs: times * macs(op),
            retries: row.retries,
            polls: if polls(op) { times } else { 0 },
        }
    }
}

impl AddAssign<&Tally> for Tally {
    fn add_assign(&mut self, other: &Tally) {
        self.instructions += other.instructions;
        for (class, times) in &other.classes {
            *self.classes.entry(class).or_default() += times;
        }
        for (place, bytes) in &other.bytes {
            let sum = self.bytes.entry(place).or_default();
            sum.read += bytes.read;
            sum.written += bytes.written;
        }
        self.global_requests += other.global_requests;
        self.global_sectors += other.global_sectors;
        self.shared_requests += other.shared_requests;
        self.shared_passes += other.shared_passes;
        self.bank_conflicts += other.bank_conflicts;
        self.copied_bytes += other.copied_bytes;
        self.bulk.read += other.bulk.read;
        self.bulk.written += other.bulk.written;
        self.bulk.shared += other.bulk.shared;
        self.bulk.sectors += other.bulk.sectors;
        self.macs += other.macs;
        self.retries += other.retries;
        self.polls += other.polls;
    }
}

impl Counts {
    pub(crate) fn new(program: &Program, kernel: &Kernel, executed: &[u64], tally: &[Row]) -> Self {
        let mut counts = Counts::default();
        for (pc, (inst, site)) in kernel.code.iter().zip(&kernel.sites).enumerate() {
            // What prepares an instruction's operands is no instruction of the text.
            let times = if inst.is_head { executed[pc] } else { 0 };
            if times == 0 && tally[pc] == Row::default() {
                continue;
            }
            let class = class_of(&kernel.opcodes[site.opcode as usize]);
            let one = Tally::of_instruction(&inst.op, class, times, &tally[pc]);
            counts.total += &one;
            if let Some(file) = program.files.get(&site.file) {
                *counts.lines.entry((file.clone(), site.source_line)).or_default() += &one;
            }
        }
        counts
    }
}

/// Multiplications of one warp instruction.
fn macs(op: &Op) -> u64 {
    match op {
        Op::Matrix(MatrixOp::Wgmma(Wgmma { product, .. }) | MatrixOp::Mma(product)) => {
            product.macs()
        }
        _ => 0,
    }
}

fn polls(op: &Op) -> bool {
    let tells = |access: &Access| {
        matches!(
            access.semantics,
            Semantics::Acquire
                | Semantics::AcquireRelease
                | Semantics::Relaxed
                | Semantics::Volatile
        )
    };
    match op {
        Op::Load(access) => tells(access),
        _ => false,
    }
}
