//! Tables of counts in the repository, beside this file.

use std::fs;
use std::path::Path;

/// Fails with the lines in which `table` differs from the `listed` one of `file`, or writes it if `MOEKIT_BLESS` is set.
pub fn compare(file: &str, listed: &str, table: &str) {
    if std::env::var_os("MOEKIT_BLESS").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        fs::write(&path, table).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        return;
    }
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let (got, want) = (lines(table), lines(listed));
    let gone: Vec<_> = want.iter().filter(|line| !got.contains(line)).collect();
    let new: Vec<_> = got.iter().filter(|line| !want.contains(line)).collect();
    assert!(got == want, "{file} differs\nlisted: {gone:#?}\ncounted: {new:#?}");
}
