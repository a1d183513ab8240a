//! The virtual GPU: runs PTX kernels on the processor and reports their faults.

mod accumulation;
mod asynchrony;
mod check;
mod checks;
mod counts;
mod fault;
mod format;
mod launch;
mod machine;
mod memory;
mod ops;
mod overlap;
mod program;
pub mod ptx;
mod tensor_map;
pub mod timeline;

pub use accumulation::{Accumulation, AccumulationError};
pub use asynchrony::{Asynchrony, AsynchronyError};
pub use checks::{Checks, ChecksError};
pub use counts::{Bulk, Bytes, Counts, Tally};
pub use fault::{Fault, FaultKind, Place, Related};
pub use launch::{Image, Launch, LaunchError, MAX_SHARED_BYTES, Report, blocks_per_sm};
pub use memory::{HostBytes, MAX_DEVICES, Memory, MemoryError, Replicas, Span};
pub use overlap::{Dependents, GridEnd};
pub use program::{Kernel, LoadError, Param, Program, Survey, Unsupported};
pub use tensor_map::{Swizzle, TENSOR_MAP_BYTES, TensorMap, TensorMapError, TensorType};
