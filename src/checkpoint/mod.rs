//! Checkpoints in DeepSeek-V3's format: safetensors files, an index if there are several, `config.json`.
//!
//! | tensor of layer N (`model.layers.N.mlp.`…) | dtype | shape |
//! | --- | --- | --- |
//! | `gate.weight` | BF16 (FP32 is rounded to it) | `[num_experts, hidden]` |
//! | `gate.e_score_correction_bias` | FP32 | `[num_experts]` |
//! | `experts.E.gate_proj.weight`, `up_proj` | E4M3 or BF16 | `[intermediate_hidden, hidden]` |
//! | `experts.E.down_proj.weight` | E4M3 or BF16 | `[hidden, intermediate_hidden]` |
//! | `shared_experts.{gate,up,down}_proj.weight` | E4M3 or BF16 | the same, as wide as all shared experts |
//! | `….weight_scale_inv`, beside each E4M3 matrix | FP32 | `[ceil_div(n, 128), ceil_div(k, 128)]` |
//!
//! An E4M3 matrix means `value * weight_scale_inv` of its 128 x 128 block. Other tensors are left alone.
//!
//! [`Checkpoint`] reads; [`generate`] writes one with seeded weights.

mod config;
mod file;
mod generate;
mod index;
mod moe_layer;
mod names;
mod projections;
mod stacked;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use file::{FileTensor, TensorFile};
use index::Index;

use crate::error::{Error, Result};

pub use config::{ModelConfig, QuantizationConfig, ScoringFunc};
pub use generate::{
    DEFAULT_MAX_SHARD_BYTES, GenerateOptions, GenerateProgress, Generated, WeightDtype, generate,
};

const OP: &str = "checkpoint";
/// Of the index and of `config.json`.
const MAX_JSON_BYTES: u64 = 1 << 28;
/// The one file of a checkpoint without an index.
const SINGLE_FILE: &str = "model.safetensors";

#[cfg(target_endian = "big")]
compile_error!("safetensors files are little-endian, and are copied as they are");

/// An open checkpoint. Files are opened when the first of their tensors is asked for, so a folder needs to
/// hold only the files of the layers in use.
///
/// # Examples
///
/// ```
/// use moekit::Cpu;
/// use moekit::checkpoint::{Checkpoint, GenerateOptions, generate};
/// # let dir = std::env::temp_dir().join(format!("moekit-checkpoint-{}", std::process::id()));
/// # let mut options = GenerateOptions::default();
/// # options.config.hidden_size = 128;
/// # options.config.moe_intermediate_size = 128;
/// # options.config.n_routed_experts = 8;
/// # options.config.num_experts_per_tok = 2;
/// generate(&dir, &options, &|_| ())?;
/// let checkpoint = Checkpoint::open(&dir)?;
/// // This rank holds experts 4 to 7.
/// let weights = checkpoint.load_moe_layer(&Cpu::new(), 0, &[4, 5, 6, 7])?;
/// assert_eq!(weights.routed.gate_up.shape(), [4, 256, 128]);
/// # std::fs::remove_dir_all(&dir).ok();
/// # Ok::<(), moekit::Error>(())
/// ```
#[derive(Debug)]
pub struct Checkpoint {
    dir: PathBuf,
    config: ModelConfig,
    files: Files,
}

/// What is known of a tensor without reading its data.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct TensorEntry {
    /// Full name.
    pub name: String,
    /// Name of the dtype in the file, such as "F8_E4M3".
    pub dtype: String,
    /// Extents, in elements.
    pub shape: Vec<usize>,
    /// Bytes of data.
    pub num_bytes: u64,
    /// Name of the file.
    pub file: String,
}

#[derive(Debug)]
enum Files {
    Single(TensorFile),
    Sharded {
        index: PathBuf,
        /// Position in `shards` of each tensor.
        shard_of: BTreeMap<String, usize>,
        shards: Vec<Shard>,
    },
}

#[derive(Debug)]
struct Shard {
    path: PathBuf,
    file: OnceLock<TensorFile>,
}

impl Checkpoint {
    /// Opens a folder with `config.json` and either `model.safetensors.index.json` or
    /// `model.safetensors`.
    ///
    /// The files are read through memory maps: they must not be written while the checkpoint is open.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if a file cannot be read; [`Error::Format`] if the folder has neither, or one of the
    /// three does not parse.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        let dir = dir.as_ref();
        let config = ModelConfig::read(&dir.join(config::FILE_NAME))?;
        let (index, single) = (dir.join(index::FILE_NAME), dir.join(SINGLE_FILE));
        let files = if index.exists() {
            Files::sharded(dir, index)?
        } else if single.exists() {
            Files::Single(TensorFile::open(&single)?)
        } else {
            return Err(Error::Format {
                path: dir.to_owned(),
                format: "checkpoint folder",
                problem: format!("neither {} nor {SINGLE_FILE} is there", index::FILE_NAME),
            });
        };
        Ok(Self { dir: dir.to_owned(), config, files })
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What `config.json` says.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Every tensor, by file and by position in it.
    ///
    /// # Errors
    ///
    /// [`Error::Checkpoint`] if a file is not there or a tensor is truncated; [`Error::Format`] if a
    /// header does not parse.
    pub fn tensors(&self) -> Result<Vec<TensorEntry>> {
        let mut entries = Vec::new();
        for file in self.files.all()? {
            for name in file.names() {
                let tensor = self.files.find_in(file, &name)?;
                entries.push(TensorEntry {
                    dtype: tensor.dtype().to_string(),
                    shape: tensor.shape().to_vec(),
                    num_bytes: tensor.num_bytes() as u64,
                    file: file_name(file.path()),
                    name,
                });
            }
        }
        Ok(entries)
    }

    /// Finds a tensor that has to be there.
    fn require(&self, name: &str) -> Result<FileTensor<'_>> {
        self.find(name)?.ok_or_else(|| Error::Checkpoint {
            path: self.files.listing().to_owned(),
            tensor: name.to_owned(),
            problem: "missing".to_owned(),
        })
    }

    fn find(&self, name: &str) -> Result<Option<FileTensor<'_>>> {
        match &self.files {
            Files::Single(file) => file.find(name),
            Files::Sharded { shard_of, shards, .. } => {
                let Some(&shard_idx) = shard_of.get(name) else {
                    return Ok(None);
                };
                let file = shards[shard_idx].open(name)?;
                self.files.find_in(file, name).map(Some)
            }
        }
    }
}

impl Files {
    fn sharded(dir: &Path, index_path: PathBuf) -> Result<Self> {
        let index = Index::read(&index_path)?;
        let names = index.files();
        let position: BTreeMap<&str, usize> =
            names.iter().enumerate().map(|(idx, &name)| (name, idx)).collect();
        let shard_of =
            index.weight_map.iter().map(|(tensor, file)| (tensor.clone(), position[file.as_str()]));
        let shards = names.iter().map(|name| Shard { path: dir.join(name), file: OnceLock::new() });
        Ok(Self::Sharded {
            shard_of: shard_of.collect(),
            shards: shards.collect(),
            index: index_path,
        })
    }

    /// The file that lists the tensors.
    fn listing(&self) -> &Path {
        match self {
            Self::Single(file) => file.path(),
            Self::Sharded { index, .. } => index,
        }
    }

    /// All files, opened.
    fn all(&self) -> Result<Vec<&TensorFile>> {
        match self {
            Self::Single(file) => Ok(vec![file]),
            Self::Sharded { shard_of, shards, .. } => {
                let mut first: Vec<Option<&str>> = vec![None; shards.len()];
                for (tensor, &shard_idx) in shard_of {
                    first[shard_idx].get_or_insert(tensor);
                }
                let shards = shards.iter().zip(first);
                shards.map(|(shard, tensor)| shard.open(tensor.unwrap_or_default())).collect()
            }
        }
    }

    /// Finds a tensor in the file that is said to hold it.
    fn find_in<'a>(&'a self, file: &'a TensorFile, name: &str) -> Result<FileTensor<'a>> {
        file.find(name)?.ok_or_else(|| Error::Checkpoint {
            path: file.path().to_owned(),
            tensor: name.to_owned(),
            problem: "missing, although the index lists it in this file".to_owned(),
        })
    }
}

impl Shard {
    /// Opens the file that holds `tensor`, once.
    fn open(&self, tensor: &str) -> Result<&TensorFile> {
        if let Some(file) = self.file.get() {
            return Ok(file);
        }
        if !self.path.exists() {
            return Err(Error::Checkpoint {
                path: self.path.clone(),
                tensor: tensor.to_owned(),
                problem: "the index lists it in this file, which is not there".to_owned(),
            });
        }
        let file = TensorFile::open(&self.path)?;
        Ok(self.file.get_or_init(|| file))
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
