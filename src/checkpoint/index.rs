//! `model.safetensors.index.json`: which file holds which tensor.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

use super::{MAX_JSON_BYTES, OP};
use crate::error::{Error, Result};
use crate::read_file::read_file;

pub(super) const FILE_NAME: &str = "model.safetensors.index.json";

/// The index as its file has it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Index {
    #[serde(default)]
    pub metadata: IndexMetadata,
    /// File of each tensor.
    pub weight_map: BTreeMap<String, String>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct IndexMetadata {
    /// Bytes of all tensors.
    #[serde(default)]
    pub total_size: u64,
}

impl Index {
    /// Reads and checks the index.
    pub fn read(path: &Path) -> Result<Self> {
        let text = read_file(OP, path, MAX_JSON_BYTES)?;
        let malformed = |problem: String| Error::Format {
            path: path.to_owned(),
            format: "safetensors index (JSON)",
            problem,
        };
        let index: Self =
            serde_json::from_slice(&text).map_err(|error| malformed(error.to_string()))?;
        for (tensor, file) in &index.weight_map {
            // NOTE: a name with a folder in it could reach any file of the system.
            let mut components = Path::new(file).components();
            let is_plain = matches!(components.next(), Some(Component::Normal(_)))
                && components.next().is_none()
                && !file.contains('\0');
            if !is_plain {
                return Err(malformed(format!(
                    "`{tensor}` is in {file:?}, expected a file name without a folder"
                )));
            }
        }
        Ok(index)
    }

    /// Names of the files, each once.
    pub fn files(&self) -> BTreeSet<&str> {
        self.weight_map.values().map(String::as_str).collect()
    }
}
