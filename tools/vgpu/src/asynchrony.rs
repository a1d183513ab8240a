//! When asynchronous operations complete.

use std::str::FromStr;

/// The environment variable that chooses when a launch does not.
pub(crate) const VARIABLE: &str = "VGPU_ASYNC";

/// When copies, stores and arrivals that run beside the threads complete. A right kernel gives the
/// same answer under all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Asynchrony {
    /// As soon as they are issued.
    #[default]
    Earliest,
    /// When a thread waits for them and nothing else can go on, the youngest first; stores at the
    /// wait for their group, or at the end of the cluster.
    Latest,
    /// At random moments in random order; the warps of a cluster take random turns too. The same
    /// seed gives the same run.
    Random(u64),
}

/// A text that names no [`Asynchrony`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{got}` is not `earliest`, `latest` or `random:SEED`")]
pub struct AsynchronyError {
    /// Text that came.
    pub got: String,
}

impl FromStr for Asynchrony {
    type Err = AsynchronyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "earliest" => return Ok(Asynchrony::Earliest),
            "latest" => return Ok(Asynchrony::Latest),
            _ => {}
        }
        let seed = text.strip_prefix("random:").and_then(|seed| seed.parse().ok());
        seed.map(Asynchrony::Random).ok_or_else(|| AsynchronyError { got: text.to_owned() })
    }
}

impl Asynchrony {
    /// What the environment variable `VGPU_ASYNC` says; earliest without it.
    ///
    /// # Errors
    ///
    /// [`AsynchronyError`] if it holds something else.
    pub fn from_env() -> Result<Self, AsynchronyError> {
        match std::env::var(VARIABLE) {
            Ok(text) => text.parse(),
            Err(std::env::VarError::NotPresent) => Ok(Asynchrony::Earliest),
            Err(std::env::VarError::NotUnicode(text)) => {
                Err(AsynchronyError { got: text.to_string_lossy().into_owned() })
            }
        }
    }
}

/// SplitMix64: the numbers of a random run.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Dice(seed)
    }

    /// A number below `sides`.
    pub(crate) fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ x >> 31) % sides.max(1) as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read() {
        assert_eq!("earliest".parse(), Ok(Asynchrony::Earliest));
        assert_eq!("latest".parse(), Ok(Asynchrony::Latest));
        assert_eq!("random:77".parse(), Ok(Asynchrony::Random(77)));
        for bad in ["", "random", "random:", "random:x", "Latest"] {
            assert_eq!(bad.parse::<Asynchrony>(), Err(AsynchronyError { got: bad.to_owned() }));
        }
    }
}
