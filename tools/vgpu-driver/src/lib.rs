//! The CUDA driver API on the virtual GPU.
//!
//! Programs load this library in place of `libcuda.so.1`: put a folder with a link of that name, and
//! one named `libcuda.so`, first in `LD_LIBRARY_PATH`. Calls mean what NVIDIA's "CUDA Driver API"
//! says; a call that is lacking answers `CUDA_ERROR_NOT_SUPPORTED` and is named on stderr.
//! [`Settings`] lists the environment variables.

pub mod abi;
mod arena;
mod attributes;
pub mod calls;
mod capture;
mod context;
mod counts;
mod driver;
mod entry;
mod event;
mod failure;
mod graph;
mod handles;
mod heap;
mod library;
mod lines;
mod module;
mod multicast;
mod operation;
mod primary;
mod remote;
mod settings;
mod status;
mod stream;
mod timeline;
mod value;
mod vmm;

pub use settings::Settings;
pub use status::Status;
