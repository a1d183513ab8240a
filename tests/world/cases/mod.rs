//! Cases that every world must pass, whatever its ranks are.
//!
//! A case runs on one rank; all ranks run the same one at the same time, on one world for all
//! cases. To add some: a file here with a `CASES` table, and a line in [`all`].

mod exchange;
mod layer;

use moekit::Result;
use moekit::comm::World;

/// What one rank does; wrong results panic, and the panic reaches the other ranks as an error.
pub type Case = (&'static str, fn(&World) -> Result<()>);

/// Every case, in the order in which they run.
pub fn all() -> Vec<Case> {
    [exchange::CASES, layer::CASES].concat()
}
