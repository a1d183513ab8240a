//! Gates on the kernels that need no GPU: sources, arithmetic, machine code.

mod arithmetic;
mod budgets;
#[path = "../../build/cache.rs"]
mod cache;
#[path = "../../build/sources.rs"]
mod sources;
mod sources_cases;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let trials = [sources_cases::trials(), arithmetic::trials(), budgets::trials()].concat_trials();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// Lists of trials, which cannot be cloned, one after another.
trait ConcatTrials {
    fn concat_trials(self) -> Vec<Trial>;
}

impl<const N: usize> ConcatTrials for [Vec<Trial>; N] {
    fn concat_trials(self) -> Vec<Trial> {
        self.into_iter().flatten().collect()
    }
}

/// The repository's root.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}
