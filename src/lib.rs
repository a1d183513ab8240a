//! Everything a Mixture-of-Experts model needs below the model code.

pub mod comm;
pub mod error;
pub mod tensor;

pub use error::{Error, Result};
