//! Why a call is refused: the code that the caller sees, and the reason in words for the log.

use vgpu::MemoryError;

use crate::status::Status;

/// A call's failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What the caller gets.
    pub status: Status,
    /// What was wrong: argument, expected, got.
    pub reason: String,
}

/// What calls return inside of the library.
pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// A failure with its reason.
    pub fn new(status: Status, reason: impl Into<String>) -> Self {
        Failure { status, reason: reason.into() }
    }

    /// An argument that is not what was expected.
    pub fn argument(
        arg: &str,
        expected: impl std::fmt::Display,
        got: impl std::fmt::Display,
    ) -> Self {
        Self::new(Status::INVALID_VALUE, format!("`{arg}` is {got}, expected {expected}"))
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Failure { status, reason: String::new() }
    }
}

impl From<MemoryError> for Failure {
    fn from(error: MemoryError) -> Self {
        let status = match &error {
            MemoryError::OutOfMemory { .. } => Status::OUT_OF_MEMORY,
            MemoryError::NoDevice { .. } => Status::INVALID_DEVICE,
            _ => Status::INVALID_VALUE,
        };
        Failure { status, reason: error.to_string() }
    }
}
