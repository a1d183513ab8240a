//! The floor of the CUDA backend: the driver API, opened at run time, one concept a file.
//!
//! Every call goes through [`call`], which names it in the error. Nothing here knows whether the
//! library that it opened drives a GPU.

mod context;
mod event;
mod graph;
mod ipc;
mod launch;
mod library;
mod memory;
mod module;
mod shared;
mod stream;
mod tensor_map;

use cudarc::driver::DriverError;
use cudarc::driver::sys::CUresult;

use crate::error::{Error, Result};

pub(super) use context::{Context, num_devices};
pub use event::CudaEvent;
pub use graph::CudaGraph;
pub use ipc::{IpcBuffer, IpcHandle};
pub(super) use launch::Launch;
pub(super) use library::open_library;
pub use memory::CudaBuffer;
pub(super) use memory::{read, write};
pub(super) use module::{Kernel, Kernels};
pub(super) use shared::handle_kinds;
pub use shared::{HandleKind, MemoryHandle, SharedBuffer};
pub(super) use stream::Stream;
pub use tensor_map::{Swizzle, TensorMap, TensorMapDesc};

/// Turns the driver's answer to `name` into ours.
fn call<T>(op: &'static str, name: &'static str, answer: Result<T, DriverError>) -> Result<T> {
    answer.map_err(|error| Error::Driver { op, call: name, reason: reason(error) })
}

/// `CUDA_ERROR_INVALID_VALUE: invalid argument`
fn reason(error: DriverError) -> String {
    let name = error.error_name().map(|name| name.to_string_lossy().into_owned());
    let text = error.error_string().map(|text| text.to_string_lossy().into_owned());
    match (name, text) {
        (Ok(name), Ok(text)) => format!("{name}: {text}"),
        _ => format!("error {}", error.0 as u32),
    }
}

fn is(error: &DriverError, code: CUresult) -> bool {
    error.0 == code
}
