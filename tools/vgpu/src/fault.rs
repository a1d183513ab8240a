//! What ends a kernel before its time: the kernel's own mistake, with the place where it happened.

use std::fmt::{self, Display, Formatter};

/// A kernel's fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Kernel's name.
    pub kernel: String,
    /// What happened.
    pub kind: FaultKind,
    /// The instruction, if one is to blame.
    pub at: Option<Place>,
    /// What others did before that has to do with it.
    pub related: Vec<Related>,
}

/// What a thread did earlier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Related {
    /// What it did, such as `write`.
    pub what: String,
    /// Who, and where.
    pub at: Place,
}

/// A thread and the instruction it was at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Line in the PTX.
    pub line: u32,
    /// Text of that line.
    pub instruction: String,
    /// File and line of the source, with `-lineinfo`.
    pub source: Option<(String, u32)>,
    /// Block in the grid.
    pub block: [u32; 3],
    /// Thread in the block.
    pub thread: [u32; 3],
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FaultKind {
    /// An access outside of all allocations, or across the end of one.
    #[error("{access} of {bytes} bytes at {address:#x} is out of bounds{hint}")]
    OutOfBounds {
        /// `read`, `write` or `atomic`, with the space.
        access: String,
        /// First byte.
        address: u64,
        /// Bytes accessed.
        bytes: u64,
        /// What lies near, in words.
        hint: String,
    },
    /// An address that is no multiple of the access's size.
    #[error("{access} of {bytes} bytes at {address:#x} is misaligned")]
    Misaligned {
        /// `read`, `write` or `atomic`, with the space.
        access: String,
        /// First byte.
        address: u64,
        /// Bytes accessed.
        bytes: u64,
    },
    /// A read of bytes that nobody has written.
    #[error("{access} of {bytes} bytes at {address:#x} that nobody has written{hint}")]
    Uninitialised {
        /// What reads, with the space.
        access: String,
        /// First byte of the access.
        address: u64,
        /// Bytes accessed.
        bytes: u64,
        /// The first of them without a value, in words.
        hint: String,
    },
    /// Two accesses that nothing orders, at least one of which writes.
    #[error("{access} of {bytes} bytes at {address:#x} races with {earlier}{hint}")]
    Race {
        /// The later access, with the space.
        access: String,
        /// First byte of the later access.
        address: u64,
        /// Bytes of the later access.
        bytes: u64,
        /// The earlier access.
        earlier: String,
        /// Where the bytes lie, in words.
        hint: String,
    },
    /// The async proxy accesses bytes that were written through the generic proxy, and no proxy fence
    /// lies between.
    #[error(
        "{access} of {bytes} bytes at {address:#x} through the async proxy after a generic write \
         without fence.proxy.async{hint}"
    )]
    Proxy {
        /// The later access, with the space.
        access: String,
        /// First byte of the later access.
        address: u64,
        /// Bytes of the later access.
        bytes: u64,
        /// Where the bytes lie, in words.
        hint: String,
    },
    /// A `trap` instruction.
    #[error("trap")]
    Trap,
    /// A failed `assert`.
    #[error("assertion `{message}` failed in {function} ({file}:{line})")]
    Assert {
        /// The condition.
        message: String,
        /// Source file.
        file: String,
        /// Line in it.
        line: u32,
        /// Function.
        function: String,
    },
    /// A barrier or warp instruction used against its rules.
    #[error("{0}")]
    Misuse(String),
    /// No warp can go on.
    #[error("deadlock: {}", .waiting.join("; "))]
    Deadlock {
        /// Each group of threads that waits: where, and for what.
        waiting: Vec<String>,
    },
    /// The launch's instructions are used up.
    #[error("still running after {instructions} warp instructions: {}", .running.join("; "))]
    OutOfFuel {
        /// The launch's limit.
        instructions: u64,
        /// Where the threads are.
        running: Vec<String>,
    },
}

impl Display for Fault {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "kernel `{}`: {}", self.kernel, self.kind)?;
        self.at.as_ref().map_or(Ok(()), |at| write!(f, "\n  at {at}"))?;
        self.related.iter().try_for_each(|it| write!(f, "\n  {}: {}", it.what, it.at))
    }
}

impl std::error::Error for Fault {}

impl Display for Place {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let ([bx, by, bz], [tx, ty, tz]) = (self.block, self.thread);
        write!(f, "PTX line {} `{}`", self.line, self.instruction)?;
        if let Some((file, line)) = &self.source {
            write!(f, ", {file}:{line}")?;
        }
        write!(f, ", block ({bx}, {by}, {bz}), thread ({tx}, {ty}, {tz})")
    }
}
