//! How tensor cores add.

use std::str::FromStr;

/// The environment variable that chooses when a launch does not.
pub(crate) const VARIABLE: &str = "VGPU_ACCUMULATION";

/// How tensor cores add products of floats. Products of integers are exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Accumulation {
    /// In FP32, product by product, each with one rounding to nearest.
    #[default]
    Fp32,
    /// As an H100 or H200 does, to the bit: the terms of an instruction are aligned to the largest, cut
    /// 25 bits below it (13 for `wgmma` of FP8) and added exactly; the sum is cut to FP32.
    Hopper,
}

/// A text that names no [`Accumulation`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{got}` is not `fp32` or `hopper`")]
pub struct AccumulationError {
    /// Text that came.
    pub got: String,
}

impl FromStr for Accumulation {
    type Err = AccumulationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "fp32" => Ok(Accumulation::Fp32),
            "hopper" => Ok(Accumulation::Hopper),
            _ => Err(AccumulationError { got: text.to_owned() }),
        }
    }
}

impl Accumulation {
    /// What the environment variable `VGPU_ACCUMULATION` says; FP32 without it.
    ///
    /// # Errors
    ///
    /// [`AccumulationError`] if it holds something else.
    pub fn from_env() -> Result<Self, AccumulationError> {
        match std::env::var(VARIABLE) {
            Ok(text) => text.parse(),
            Err(std::env::VarError::NotPresent) => Ok(Accumulation::default()),
            Err(std::env::VarError::NotUnicode(text)) => {
                Err(AccumulationError { got: text.to_string_lossy().into_owned() })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read() {
        assert_eq!("fp32".parse(), Ok(Accumulation::Fp32));
        assert_eq!("hopper".parse(), Ok(Accumulation::Hopper));
        for bad in ["", "FP32", "hopper "] {
            let error = AccumulationError { got: bad.to_owned() };
            assert_eq!(bad.parse::<Accumulation>(), Err(error));
        }
    }
}
