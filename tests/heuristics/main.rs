//! Which kernel a matrix product takes.

mod laws;
mod measured;
mod model;
mod table;
