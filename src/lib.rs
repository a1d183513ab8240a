//! Everything a Mixture-of-Experts model needs below the model code.

pub mod eplb;
pub mod error;
pub mod tensor;

pub use error::{Error, Result};
