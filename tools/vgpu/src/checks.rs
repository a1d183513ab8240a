//! Which mistakes of kernels are looked for, apart from those that are always found.

use std::fmt::{self, Display, Formatter};
use std::ops::BitOr;
use std::str::FromStr;

/// The environment variable that chooses when a launch does not.
pub(crate) const VARIABLE: &str = "VGPU_CHECK";

/// What a launch is checked for, beyond bounds, alignment and deadlock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checks(u8);

/// Names in a list, and what they stand for.
const NAMES: [(&str, Checks); 4] = [
    ("initialised", Checks::INITIALISED),
    ("races", Checks::RACES),
    ("proxies", Checks::PROXIES),
    ("barriers", Checks::BARRIERS),
];

impl Checks {
    /// Nothing.
    pub const NONE: Checks = Checks(0);
    /// Reads of memory that nobody has written.
    pub const INITIALISED: Checks = Checks(1);
    /// Accesses that nothing orders, by threads and by asynchronous operations.
    pub const RACES: Checks = Checks(2);
    /// Writes that the async proxy comes across without a proxy fence.
    pub const PROXIES: Checks = Checks(4);
    /// mbarriers used without their initialisation, overwritten, or left with bytes to come.
    pub const BARRIERS: Checks = Checks(8);
    /// Everything.
    pub const ALL: Checks = Checks(15);

    /// All of `other` is looked for.
    #[must_use]
    pub fn contains(self, other: Checks) -> bool {
        self.0 & other.0 == other.0
    }

    /// What the environment variable `VGPU_CHECK` says; nothing without it.
    ///
    /// # Errors
    ///
    /// [`ChecksError`] if it holds something else than `all`, `none` or a list.
    pub fn from_env() -> Result<Self, ChecksError> {
        match std::env::var(VARIABLE) {
            Ok(text) => text.parse(),
            Err(std::env::VarError::NotPresent) => Ok(Checks::NONE),
            Err(std::env::VarError::NotUnicode(text)) => {
                Err(ChecksError { got: text.to_string_lossy().into_owned() })
            }
        }
    }
}

impl BitOr for Checks {
    type Output = Checks;

    fn bitor(self, other: Checks) -> Checks {
        Checks(self.0 | other.0)
    }
}

/// A text that names no [`Checks`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{got}` is not `all`, `none` or a list of `initialised`, `races`, `proxies`, `barriers`")]
pub struct ChecksError {
    /// Text that came.
    pub got: String,
}

impl FromStr for Checks {
    type Err = ChecksError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "all" => return Ok(Checks::ALL),
            "none" => return Ok(Checks::NONE),
            _ => {}
        }
        text.split(',').try_fold(Checks::NONE, |sum, name| {
            let known = NAMES.iter().find(|(known, _)| *known == name);
            let (_, checks) = known.ok_or_else(|| ChecksError { got: text.to_owned() })?;
            Ok(sum | *checks)
        })
    }
}

impl Display for Checks {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let named = NAMES.iter().filter(|(_, checks)| self.contains(*checks));
        let names: Vec<&str> = named.map(|(name, _)| *name).collect();
        f.write_str(if names.is_empty() { "none".to_owned() } else { names.join(",") }.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_written() {
        assert_eq!("all".parse(), Ok(Checks::ALL));
        assert_eq!("none".parse(), Ok(Checks::NONE));
        assert_eq!("races,proxies".parse(), Ok(Checks::RACES | Checks::PROXIES));
        assert_eq!((Checks::RACES | Checks::INITIALISED).to_string(), "initialised,races");
        assert_eq!(Checks::NONE.to_string(), "none");
        for bad in ["", "race", "races,", "All"] {
            assert_eq!(bad.parse::<Checks>(), Err(ChecksError { got: bad.to_owned() }));
        }
    }
}
