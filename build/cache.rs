//! Compiled kernels by what they were made of.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

/// A folder of files named after a hash of their origin.
pub struct Cache {
    dir: PathBuf,
}

impl Cache {
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// The file for `origin`, made by `make` at the path that it is given if there is none.
    pub fn file(
        &self,
        name: &str,
        extension: &str,
        origin: &impl Hash,
        make: impl FnOnce(&Path) -> Result<(), String>,
    ) -> Result<PathBuf, String> {
        let mut hasher = DefaultHasher::new();
        origin.hash(&mut hasher);
        let stem = format!("{name}-{:016x}", hasher.finish());
        let file = self.dir.join(format!("{stem}.{extension}"));
        if file.is_file() {
            return Ok(file);
        }
        // Under another name until it is whole: two builds may run at once.
        let unfinished = self.dir.join(format!("{stem}.{}.{extension}", std::process::id()));
        make(&unfinished)?;
        fs::rename(&unfinished, &file)
            .map_err(|error| format!("rename {}: {error}", unfinished.display()))?;
        Ok(file)
    }
}
