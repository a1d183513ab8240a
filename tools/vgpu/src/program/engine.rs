//! Typed instructions of the asynchronous engines: mbarriers, copies, tensor copies.

use super::inst::{AtomicOp, Number};
use crate::ops::Class;

/// Instructions on an mbarrier. All addresses of this module are generic, in 64-bit registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MbarrierOp {
    /// Uses: address, arrivals of a phase.
    Init,
    /// Uses: address.
    Inval,
    /// Def: state before, if anybody wants it; uses: address, arrivals, bytes if `expects`.
    Arrive {
        expects: bool,
        /// Later phases wait for fewer arrivals.
        drops: bool,
        /// The phase must not end by this.
        no_complete: bool,
    },
    /// Uses: address, bytes.
    ExpectTx,
    /// Uses: address, bytes.
    CompleteTx,
    /// Def: whether the phase has ended; uses: address, parity or state.
    Wait {
        /// The phase is named by its parity, not by a state.
        parity: bool,
        /// `try_wait`: the thread may sleep for a while.
        sleeps: bool,
    },
}

/// Which of a thread's groups of copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GroupKind {
    /// Those of `cp.async`.
    Copies,
    /// Those of `cp.async.bulk`.
    Bulk,
}

/// A reduction that a copy does at its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Combine {
    pub op: AtomicOp,
    pub number: Number,
    /// Bytes of an element.
    pub bytes: u8,
}

/// Asynchronous copies and what waits for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AsyncOp {
    /// `cp.async`. Uses: target, source, bytes of the source (the rest is zero).
    Copy { bytes: u8 },
    /// `cp.async.bulk`. Uses: target, source, bytes; mbarrier if `signals`; CTAs if `multicast`.
    Bulk { signals: bool, multicast: bool, combine: Option<Combine> },
    /// `st.async`, `red.async`. Uses: target, mbarrier, values.
    Store { class: Class, bytes: u8, vector: u8, combine: Option<Combine> },
    /// `cp.async.mbarrier.arrive`. Uses: mbarrier.
    ArriveAfterCopies {
        /// The arrival is among those that the barrier was made for.
        counted: bool,
    },
    /// Ends the group that copies were put in so far.
    Commit(GroupKind),
    /// Waits until only `keep` groups are left; the last of all if `keep` is `None`.
    WaitGroup {
        kind: GroupKind,
        keep: Option<u32>,
        /// The sources must have been read, no more.
        read: bool,
    },
    /// Copies with tensor maps, and the maps themselves.
    Tensor(TensorOp),
}

/// Copies with tensor maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TensorOp {
    /// Uses: target, map, mbarrier, coordinates; CTAs if `multicast`.
    Load { rank: u8, multicast: bool },
    /// Uses: map, source, coordinates.
    Store { rank: u8, reduce: Option<AtomicOp> },
    /// `tensormap.replace`. Uses: map, value.
    Replace { field: MapField, ordinal: u8 },
    /// `tensormap.cp_fenceproxy`. Uses: target, source.
    CopyMap,
}

/// A field of a tensor map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MapField {
    Address,
    Rank,
    BoxDim,
    Dim,
    Stride,
    ElementStride,
    Swizzle,
    Fill,
}
