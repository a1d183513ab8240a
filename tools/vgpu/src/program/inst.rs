//! Flat typed instructions: what the machine executes.

use super::engine::{AsyncOp, MbarrierOp};
use super::matrix::MatrixOp;
use crate::ops::{Class, RunFn};

/// A register: while a kernel is built, its class in the two upper bits and its number; afterwards
/// its word offset in a warp's register file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Reg(pub u32);

impl Reg {
    pub(crate) const NUMBER_BITS: u32 = 30;

    pub(crate) fn new(class: Class, number: u32) -> Self {
        let tag = match class {
            Class::Pred => 0,
            Class::R32 => 1,
            Class::R64 => 2,
            Class::R128 => 3,
        };
        Reg(tag << Self::NUMBER_BITS | number)
    }

    /// Valid before allocation only.
    pub(crate) fn class(self) -> Class {
        match self.0 >> Self::NUMBER_BITS {
            0 => Class::Pred,
            1 => Class::R32,
            2 => Class::R64,
            _ => Class::R128,
        }
    }

    /// Valid before allocation only.
    pub(crate) fn number(self) -> usize {
        (self.0 & ((1 << Self::NUMBER_BITS) - 1)) as usize
    }
}

/// `@p` or `@!p`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Guard {
    pub predicate: Reg,
    pub negated: bool,
}

/// One instruction; its registers lie in [`Kernel::operands`](super::Kernel), destinations first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inst {
    pub op: Op,
    pub guard: Option<Guard>,
    /// First operand.
    pub operands: u32,
    pub num_defs: u16,
    pub num_uses: u16,
    /// The first of those that one PTX instruction became; counts take only these.
    pub is_head: bool,
}

/// What an instruction does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    /// A row of the table, thread by thread.
    Map(RunFn),
    /// Jump of the active threads.
    Bra(u32),
    /// The active threads end.
    Exit,
    /// `trap`, `brkpt`.
    Trap,
    /// Nothing to do on this machine: cache hints and their like.
    Nop,
    /// Nothing to do in a sequential memory; the checkers need it.
    Fence(Fence),
    Load(Access),
    Store(Access),
    Atom(Atom),
    Multimem(Multimem),
    Warp(WarpOp),
    Barrier(BarrierOp),
    Mbarrier(MbarrierOp),
    Async(AsyncOp),
    Matrix(MatrixOp),
    /// `griddepcontrol.wait`: for the end of the grid in front.
    GridWait,
    /// `griddepcontrol.launch_dependents`: the grid behind may begin.
    LaunchDependents,
    /// `setmaxnreg`: the warp's registers of a thread from now on.
    SetRegisters(u32),
    /// `%clock`, `%clock64`, `%globaltimer`: (a nanosecond clock, 64 bits).
    Clock {
        nanoseconds: bool,
        wide: bool,
    },
    Nanosleep,
    /// `vprintf`: format and arguments are generic addresses.
    Printf,
    /// `__assertfail`: message, file, line, function, character size.
    AssertFail,
}

/// State space of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Space {
    Generic,
    Global,
    Shared,
    Local,
    Param,
}

/// What a memory operation promises to other threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Semantics {
    Weak,
    Volatile,
    Relaxed,
    Acquire,
    Release,
    AcquireRelease,
}

/// Who sees a memory operation's promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    Cta,
    Cluster,
    Gpu,
    Sys,
}

/// What a fence orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fence {
    /// Accesses of a thread before and after it, for threads in a scope.
    Memory(Scope),
    /// Generic accesses before it, asynchronous ones after it.
    AsyncProxy,
    /// Initialisations of mbarriers.
    MbarrierInit,
}

/// A load or store. Operands of a load: destinations, address; of a store: address, values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Access {
    pub space: Space,
    pub semantics: Semantics,
    pub scope: Scope,
    /// Bytes of an element: 1, 2, 4, 8 or 16.
    pub bytes: u8,
    /// Elements: 1, 2, 4 or 8.
    pub vector: u8,
    /// A narrow element keeps its sign in a wide register.
    pub signed: bool,
    /// The address register has 64 bits.
    pub wide_address: bool,
    /// Class of the values' registers.
    pub class: Class,
    /// Added to the address.
    pub offset: i32,
    /// A load whose values are stored and nothing else.
    pub is_copied: bool,
}

/// An operation of `atom`, `red` and `redux`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AtomicOp {
    Add,
    Min,
    Max,
    And,
    Or,
    Xor,
    Exch,
    Cas,
    Inc,
    Dec,
}

/// How an atomic's bits are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Number {
    Unsigned,
    Signed,
    F16,
    Bf16,
    F16x2,
    Bf16x2,
    F32,
    F64,
}

/// `atom` or `red`. Operands: old values (none for `red`), address, operands of each element,
/// for `cas` the new value behind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Atom {
    pub op: AtomicOp,
    pub number: Number,
    pub access: Access,
}

/// What a `multimem` instruction does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MultimemKind {
    /// One value of all devices'; halves perhaps added in FP32.
    LoadReduce { in_f32: bool },
    /// The same value for all.
    Store,
    /// An atomic at each.
    Reduce,
}

/// `multimem`. Operands of a load: values, address; of the others: address, values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Multimem {
    pub kind: MultimemKind,
    pub op: AtomicOp,
    pub number: Number,
    pub access: Access,
}

/// Instructions between the threads of a warp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WarpOp {
    /// Defs: value, whether the source was in range; uses: value, source, clamp, members.
    Shuffle(Shuffle),
    /// Def: predicate or mask; uses: predicate, members.
    Vote(Vote),
    /// Defs: mask, whether all agree; uses: value, members.
    Match { all: bool, wide: bool },
    /// Def: value; uses: value, members.
    Redux { op: AtomicOp, signed: bool },
    /// Defs: leader, whether this thread is it; uses: members.
    Elect,
    /// Def: mask.
    ActiveMask,
    /// Uses: members.
    Sync,
}

/// Where `shfl` takes its value from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shuffle {
    Up,
    Down,
    Butterfly,
    Index,
}

/// What `vote` asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Vote {
    All,
    Any,
    Uniform,
    Ballot,
}

/// Barriers of a CTA and of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BarrierOp {
    /// `bar.sync`, `barrier.sync`. Uses: barrier, threads if `counted`.
    Sync { aligned: bool, counted: bool },
    /// `bar.arrive`. Uses: barrier, threads.
    Arrive { aligned: bool },
    /// `bar.red`. Def: predicate or count; uses: barrier, threads if `counted`, predicate.
    Reduce { op: Reduction, aligned: bool, counted: bool },
    /// `barrier.cluster.arrive`.
    ClusterArrive { aligned: bool, relaxed: bool },
    /// `barrier.cluster.wait`.
    ClusterWait { aligned: bool },
}

/// What `bar.red` gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reduction {
    And,
    Or,
    Count,
}

impl Op {
    /// The instruction may end or leave the straight line.
    pub(crate) fn ends_block(&self) -> bool {
        matches!(self, Op::Bra(_) | Op::Exit | Op::Trap)
    }
}
