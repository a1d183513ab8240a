//! Everything a Mixture-of-Experts model needs below the model code.

pub mod backend;
pub mod error;
pub mod num;
pub mod tensor;

pub use backend::{Backend, Cpu};
pub use error::{Error, Result};
