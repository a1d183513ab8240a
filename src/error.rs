//! One typed error for the whole crate: it names the operation, the argument, what was expected
//! and what came.

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::Duration;

use crate::pipeline::Problem;
use crate::tensor::Dtype;

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong in moekit.
///
/// Every variant names the operation (`op`) that refused, and where it applies the argument
/// (`arg`), what was expected and what came. All backends fail alike, with the same error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor's shape differs from the one that the other arguments imply.
    #[error("{op}: `{arg}` has shape {got:?}, expected {expected:?}")]
    Shape {
        /// Operation that refused.
        op: &'static str,
        /// Argument at fault.
        arg: &'static str,
        /// Shape that would have been accepted.
        expected: Vec<usize>,
        /// Shape that came.
        got: Vec<usize>,
    },

    /// A tensor's strides, in elements, are not those that the operation can walk.
    #[error("{op}: `{arg}` has strides {got:?} (elements), expected {expected}")]
    Stride {
        /// Operation that refused.
        op: &'static str,
        /// Argument at fault.
        arg: &'static str,
        /// The rule in words, such as "rows contiguous".
        expected: &'static str,
        /// Strides that came, in elements.
        got: Vec<usize>,
    },

    /// A dtype known only at run time (a checkpoint, a file) is not the expected one.
    #[error("{op}: `{arg}` is {got}, expected {expected}")]
    Dtype {
        /// Operation that refused.
        op: &'static str,
        /// Argument or tensor name at fault.
        arg: String,
        /// Dtype that would have been accepted.
        expected: Dtype,
        /// Dtype that came.
        got: String,
    },

    /// An extent or address is not a multiple of what the operation needs.
    #[error("{op}: `{arg}` is {got}, expected a multiple of {multiple_of}")]
    Alignment {
        /// Operation that refused.
        op: &'static str,
        /// Argument at fault.
        arg: &'static str,
        /// Required divisor.
        multiple_of: usize,
        /// Value that came.
        got: usize,
    },

    /// A scalar argument, or a value found in a tensor, is outside its range.
    #[error("{op}: `{arg}` is {got}, expected {expected}")]
    Value {
        /// Operation that refused.
        op: &'static str,
        /// Argument at fault.
        arg: &'static str,
        /// The rule in words or as an interval.
        expected: String,
        /// Value that came.
        got: String,
    },

    /// A buffer is too small; `needed` is what would have sufficed.
    #[error("{op}: `{arg}` holds {capacity} {unit}, needs {needed}")]
    Capacity {
        /// Operation that refused.
        op: &'static str,
        /// Buffer at fault.
        arg: &'static str,
        /// Extent that would have sufficed.
        needed: usize,
        /// Extent that the buffer has.
        capacity: usize,
        /// What both count: "rows", "bytes".
        unit: &'static str,
    },

    /// A bounded wait ran out: `peer` did not reach `step` in time.
    #[error(
        "{op}: rank {peer} did not reach step `{step}` within {waited:?} \
         (expected {expected}, got {got})"
    )]
    Timeout {
        /// Operation that waited; read from the record of another rank where that one noticed first.
        op: Cow<'static, str>,
        /// Step that the peer should have reached.
        step: Cow<'static, str>,
        /// Rank that was waited for.
        peer: usize,
        /// Signal value that was awaited.
        expected: u64,
        /// Signal value last seen.
        got: u64,
        /// How long the wait lasted.
        waited: Duration,
    },

    /// A peer is gone: its process or thread ended, panicked, or left with an error.
    #[error("{op}: rank {peer} died ({cause}) while this rank waited for step `{step}`")]
    PeerDied {
        /// Operation that waited; read from the record of another rank where that one noticed first.
        op: Cow<'static, str>,
        /// Step that the peer should have reached.
        step: Cow<'static, str>,
        /// Rank that died.
        peer: usize,
        /// What is known of its end.
        cause: String,
    },

    /// A handle was used after its buffer had moved on to another epoch.
    #[error("{op}: the handle is of epoch {handle_epoch}, its buffer is at epoch {buffer_epoch}")]
    StaleHandle {
        /// Operation that refused.
        op: &'static str,
        /// Epoch in which the handle was made.
        handle_epoch: u64,
        /// Epoch of the buffer now.
        buffer_epoch: u64,
    },

    /// The CUDA backend was asked for, but this build holds no kernels (nvcc was not found).
    #[error(
        "{op}: this build of moekit holds no CUDA kernels (nvcc was not found when it was built)"
    )]
    KernelsNotBuilt {
        /// Operation that refused.
        op: &'static str,
    },

    /// The CUDA driver refused a call.
    #[error("{op}: the CUDA driver's {call} failed: {reason}")]
    Driver {
        /// Operation that failed.
        op: &'static str,
        /// Function of the driver.
        call: &'static str,
        /// The driver's name and text of the error.
        reason: String,
    },

    /// The machine, the build or a library lacks what the operation needs.
    #[error("{op}: {what} is not available: {reason}")]
    Unavailable {
        /// Operation that refused.
        op: &'static str,
        /// What is lacking, such as "MPI".
        what: &'static str,
        /// Why, and what would help.
        reason: String,
    },

    /// A tensor of a checkpoint is missing, truncated, or of the wrong shape or dtype.
    #[error("checkpoint {path}: tensor `{tensor}`: {problem}", path = path.display())]
    Checkpoint {
        /// File or folder read.
        path: PathBuf,
        /// Full name of the tensor.
        tensor: String,
        /// What is wrong with it.
        problem: String,
    },

    /// A file does not parse as the format it should hold.
    #[error("{path}: not a valid {format}: {problem}", path = path.display())]
    Format {
        /// File read.
        path: PathBuf,
        /// Expected format, such as "safetensors header" or "expert load (JSON)".
        format: &'static str,
        /// Where and why parsing failed.
        problem: String,
    },

    /// The operating system refused.
    #[error("{op}: {path}: {source}", path = path.display())]
    Io {
        /// Operation that failed.
        op: &'static str,
        /// File or folder concerned.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },

    /// A pipeline schedule is not valid.
    #[error("pipeline schedule: {0}")]
    Schedule(Problem),

    /// Memory for `arg` could not be had.
    #[error("{op}: no room for `{arg}` of {bytes} bytes: {reason}")]
    OutOfMemory {
        /// Operation that failed.
        op: &'static str,
        /// What the memory was for.
        arg: &'static str,
        /// Bytes asked for.
        bytes: usize,
        /// The system's reason.
        reason: String,
    },
}

impl Error {
    /// Returns an [`Error::Value`]; `expected` and `got` are anything that prints.
    pub fn value(
        op: &'static str,
        arg: &'static str,
        expected: impl ToString,
        got: impl ToString,
    ) -> Self {
        Self::Value { op, arg, expected: expected.to_string(), got: got.to_string() }
    }

    /// Returns an [`Error::Io`] for `path`.
    pub fn io(op: &'static str, path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io { op, path: path.into(), source }
    }
}
