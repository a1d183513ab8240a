//! The machine: warps with divergence, CTAs, clusters, and the loop that runs them.

mod access;
mod atomic;
mod barrier;
mod cluster;
mod create;
mod dependents;
mod engine;
mod exec;
mod flight;
mod grid;
mod lanes;
mod log;
mod matrix;
mod mbarrier;
mod multimem;
mod multiply;
mod observe;
mod operand;
mod pointers;
mod printf;
mod products;
mod registers;
mod report;
mod tally;
mod team;
mod tensor;
mod transfer;
mod warp;
mod warp_ops;
mod wgmma;

pub(crate) use grid::{Grid, Shape};
pub(crate) use log::{Event, Log, LogPlace, Meeting};
pub(crate) use tally::{Place, Row};

use crate::fault::FaultKind;

/// What happens after an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// The next instruction.
    Next,
    /// The threads wait at this instruction.
    Wait(warp::Wait),
    /// Only these of the threads execute the instruction; the rest waits at it.
    Partly(u32, warp::Wait),
    /// The next instruction, but other warps first.
    Yield,
}

/// A fault, and the lane that is to blame.
#[derive(Debug)]
pub(crate) struct Trap {
    pub kind: FaultKind,
    pub lane: u32,
    /// What others did before, and where.
    pub related: Vec<(String, Earlier)>,
}

/// A thread at an instruction, earlier.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Earlier {
    pub pc: u32,
    pub cluster: u32,
    /// Number in the cluster.
    pub warp: u16,
    pub lane: u8,
}

impl Trap {
    pub(crate) fn new(kind: FaultKind, lane: u32) -> Self {
        Trap { kind, lane, related: Vec::new() }
    }

    pub(crate) fn misuse(message: impl Into<String>, lane: u32) -> Self {
        Trap::new(FaultKind::Misuse(message.into()), lane)
    }

    /// Adds what somebody did before.
    pub(crate) fn after(mut self, what: impl Into<String>, earlier: Earlier) -> Self {
        self.related.push((what.into(), earlier));
        self
    }
}

impl From<transfer::LateFault> for Trap {
    fn from(late: transfer::LateFault) -> Self {
        let related = late.related.map(|it| *it).into_iter().collect();
        Trap { kind: late.kind, lane: late.lane, related }
    }
}

/// Lanes of a mask, from the lowest.
pub(crate) fn lanes_of(mask: u32) -> impl Iterator<Item = usize> {
    let mut rest = mask;
    std::iter::from_fn(move || {
        if rest == 0 {
            return None;
        }
        let lane = rest.trailing_zeros() as usize;
        rest &= rest - 1;
        Some(lane)
    })
}
