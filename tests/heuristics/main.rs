//! Which kernel a matrix product takes.

mod laws;
mod model;
mod table;
