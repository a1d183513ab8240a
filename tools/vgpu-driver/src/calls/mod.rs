//! The exported functions, by group, as NVIDIA's "CUDA Driver API" groups them.

mod context;
mod copy;
mod device;
mod errors;
mod event;
mod graph;
mod ipc;
mod lacking;
mod launch;
mod memory;
mod module;
mod occupancy;
mod peer;
mod pool;
mod procedures;
mod stream;
mod tensor_map;
mod vmm;

pub use context::*;
pub use copy::*;
pub use device::*;
pub use errors::*;
pub use event::*;
pub use graph::*;
pub use ipc::*;
pub use lacking::*;
pub use launch::*;
pub use memory::*;
pub use module::*;
pub use occupancy::*;
pub use peer::*;
pub use pool::*;
pub use procedures::*;
pub use stream::*;
pub use tensor_map::*;
pub use vmm::*;
