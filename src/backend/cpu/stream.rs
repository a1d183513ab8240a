//! The cpu backend's stream: runs inline and keeps the first fault.

use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Result};

/// A stream that runs each stage at once.
#[derive(Debug, Default)]
pub struct CpuStream {
    fault: Mutex<Option<Error>>,
}

impl CpuStream {
    /// Keeps `fault` for [`crate::Backend::check`] unless an earlier one is still waiting there.
    pub(crate) fn report(&self, fault: Error) {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(fault);
    }

    pub(crate) fn take_fault(&self) -> Result<()> {
        match self.fault.lock().unwrap_or_else(PoisonError::into_inner).take() {
            None => Ok(()),
            Some(fault) => Err(fault),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_returns_the_first_fault_once() {
        let stream = CpuStream::default();
        stream.report(Error::value("gate", "topk_idx", "less than 4", 7));
        stream.report(Error::value("plan", "topk_idx", "less than 4", 9));
        let fault = stream.take_fault().expect_err("a fault was reported").to_string();
        assert_eq!(fault, "gate: `topk_idx` is 7, expected less than 4");
        stream.take_fault().expect("the fault was taken");
    }
}
