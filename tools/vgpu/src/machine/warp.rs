//! A warp: its registers, and its threads in groups that stand at different instructions.

use super::flight::Flight;
use super::registers::Registers;

/// What a group of threads waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Nothing.
    Ready,
    /// These threads of the warp must come to the same instruction.
    Converge(u32),
    /// `bar.warp.sync`: these threads of the warp must come to one too.
    WarpSync(u32),
    /// Phase `phase` of a CTA's barrier must end.
    Barrier { id: u8, phase: u32 },
    /// Phase `phase` of the cluster's barrier must end.
    Cluster { phase: u32 },
    /// The phase of a parity must end at the mbarrier of a shared address.
    Mbarrier { address: u32, phase: bool },
    /// `wgmma.wait_group`: all warps of the warpgroup must have issued the product of a number.
    Product { number: u64 },
    /// `griddepcontrol.wait`: the grid in front must end.
    Grid,
    /// `setmaxnreg`: the CTA must have so many registers left.
    Registers { count: u32 },
}

/// Threads at one instruction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Split {
    pub pc: u32,
    pub mask: u32,
    pub wait: Wait,
    /// The warp's turn in which it last ran to the turn's end.
    pub turn: u32,
}

impl Split {
    /// Others that come to the same instruction join.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.wait, Wait::Ready | Wait::Converge(_) | Wait::WarpSync(_))
    }
}

/// A warp.
pub(crate) struct Warp {
    pub registers: Registers,
    /// Rank of its CTA in the cluster.
    pub cta: usize,
    /// Position among the warps of the cluster.
    pub number: usize,
    /// Position in its CTA.
    pub index: u32,
    /// Threads that exist and have not ended.
    pub alive: u32,
    pub splits: Vec<Split>,
    /// Local memory: one thread's bytes after the other's.
    pub local: Vec<u128>,
    /// The last turn ended while its group could go on; another group comes first.
    pub rotate: bool,
    /// Turns that ended so.
    pub turns: u32,
    /// Phase of the cluster's barrier at which each thread last arrived.
    pub cluster_phase: [u32; 32],
    /// Groups of copies that each thread has ended, by kind.
    pub commits: [[u32; 32]; 2],
    /// Threads whose `try_wait` has lasted its time.
    pub expired: u32,
    /// Its products that it has not waited for.
    pub flight: Flight,
    /// Registers of each of its threads.
    pub num_registers: u32,
    /// Instructions that it has run, up to the last one that is more than arithmetic.
    pub issued: u64,
}

impl Warp {
    /// Joins groups at the same instruction and takes the ready one that goes next: the lowest, or,
    /// after a turn that was cut off, the one that has waited longest.
    pub(crate) fn take_next(&mut self) -> Option<Split> {
        self.merge();
        let rotate = std::mem::take(&mut self.rotate);
        let ready = self.splits.iter().enumerate().filter(|(_, split)| split.wait == Wait::Ready);
        let order = |split: &Split| (if rotate { split.turn } else { 0 }, split.pc);
        let (at, _) = ready.min_by_key(|(_, split)| order(split))?;
        Some(self.splits.swap_remove(at))
    }

    fn merge(&mut self) {
        if self.splits.len() < 2 {
            return;
        }
        self.splits.sort_by_key(|split| split.pc);
        self.splits.dedup_by(|later, first| {
            let joins = later.pc == first.pc && later.is_open() && first.is_open();
            if joins {
                first.mask |= later.mask;
                first.turn = first.turn.max(later.turn);
                first.wait = Wait::Ready;
            }
            joins
        });
    }

    /// The next instruction above `pc` at which a group stands that could be joined.
    pub(crate) fn next_stop(&self, pc: u32) -> u32 {
        let above = self.splits.iter().filter(|split| split.is_open() && split.pc > pc);
        above.map(|split| split.pc).min().unwrap_or(u32::MAX)
    }

    /// Ends the sleep of threads that wait at mbarriers; returns whether there were any.
    pub(crate) fn expire(&mut self) -> bool {
        let mut any = false;
        for split in &mut self.splits {
            if matches!(split.wait, Wait::Mbarrier { .. }) {
                self.expired |= split.mask;
                split.wait = Wait::Ready;
                any = true;
            }
        }
        any
    }

    /// Groups that wait for threads of the warp look again.
    pub(crate) fn retry(&mut self) {
        for split in &mut self.splits {
            if split.is_open() {
                split.wait = Wait::Ready;
            }
        }
    }
}
