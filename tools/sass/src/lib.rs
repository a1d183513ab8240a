//! The machine code (SASS) of compiled kernels, as `cuobjdump` lists it.

mod class;
mod control;
mod cuobjdump;
mod listing;
mod loops;
mod resources;

pub use class::Class;
pub use control::Control;
pub use cuobjdump::Cuobjdump;
pub use listing::{Instruction, parse_listing};
pub use loops::{Loop, find_loops, main_loop};
pub use resources::{Resources, parse_resources};
