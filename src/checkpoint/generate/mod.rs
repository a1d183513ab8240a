//! Writing checkpoints of seeded weights, of any size.

mod layout;
mod values;
mod write;

use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::config::{self, ModelConfig, QuantizationConfig, ScoringFunc};
use super::index::{self, Index, IndexMetadata};
use super::{OP, file_name};
use crate::error::{Error, Result};
use layout::{plan, total_bytes};

/// Bytes of tensors in a file, unless the options say otherwise.
pub const DEFAULT_MAX_SHARD_BYTES: u64 = 5_000_000_000;

/// Number format of the experts' matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WeightDtype {
    /// E4M3 with FP32 scales of 128 x 128 blocks.
    Fp8,
    /// BF16.
    Bf16,
}

/// What [`generate`] writes.
#[derive(Debug, Clone)]
pub struct GenerateOptions {
    /// The model's shape; `quantization_config` is set to what `dtype` needs, with the `scale_fmt` given.
    pub config: ModelConfig,
    /// Layers to write, of those that have experts; `None` = all.
    pub layers: Option<Range<usize>>,
    /// Seed of all weights.
    pub seed: u64,
    /// Number format of the experts' matrices.
    pub dtype: WeightDtype,
    /// Bytes of tensors that a file holds at most; a single matrix may exceed it.
    pub max_shard_bytes: u64,
}

impl Default for GenerateOptions {
    /// One layer of 64 experts in FP8, 400 MB.
    fn default() -> Self {
        let config = ModelConfig {
            hidden_size: 2048,
            moe_intermediate_size: 1024,
            n_routed_experts: 64,
            n_shared_experts: Some(1),
            num_experts_per_tok: 8,
            n_group: Some(8),
            topk_group: Some(4),
            topk_method: Some("noaux_tc".to_owned()),
            scoring_func: ScoringFunc::Sigmoid,
            norm_topk_prob: true,
            routed_scaling_factor: 2.5,
            first_k_dense_replace: 0,
            num_hidden_layers: 1,
            num_nextn_predict_layers: 0,
            swiglu_limit: None,
            quantization_config: None,
        };
        let (seed, dtype) = (0, WeightDtype::Fp8);
        Self { config, layers: None, seed, dtype, max_shard_bytes: DEFAULT_MAX_SHARD_BYTES }
    }
}

impl GenerateOptions {
    /// Checks the options.
    ///
    /// # Errors
    ///
    /// Those of [`ModelConfig::check`]; [`Error::Value`] if `layers` names a layer without experts, or
    /// none.
    pub fn check(&self) -> Result<()> {
        self.config.check()?;
        let (all, chosen) = (self.config.moe_layers(), self.layers());
        if chosen.is_empty() || chosen.start < all.start || chosen.end > all.end {
            let expected = format!("layers with experts, of {all:?}");
            return Err(Error::value(OP, "layers", expected, format!("{chosen:?}")));
        }
        Ok(())
    }

    fn layers(&self) -> Range<usize> {
        self.layers.clone().unwrap_or(self.config.moe_layers())
    }

    /// The configuration that the checkpoint gets.
    fn written_config(&self) -> ModelConfig {
        let scales = self.config.scale_format();
        let quantization = match self.dtype {
            WeightDtype::Fp8 => Some(QuantizationConfig::fp8(scales)),
            WeightDtype::Bf16 => None,
        };
        ModelConfig { quantization_config: quantization, ..self.config.clone() }
    }
}

/// How far [`generate`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GenerateProgress {
    /// Bytes of tensors written.
    pub num_bytes: u64,
    /// Bytes of all tensors.
    pub total_bytes: u64,
}

/// What [`generate`] wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Generated {
    /// Tensors of all files.
    pub num_tensors: usize,
    /// Their bytes.
    pub num_bytes: u64,
    /// The files with tensors.
    pub files: Vec<PathBuf>,
}

/// Writes a checkpoint of seeded weights: safetensors files, their index, `config.json`.
///
/// Matrices are normal with standard deviation `1 / sqrt(k)`, the correction bias with 0.01, so that
/// activations keep their size from layer to layer. FP8 matrices are quantised per 128 x 128 block by the
/// rule of [`crate::moe::quant`].
///
/// A number depends on the seed, the tensor's name and its position alone: the same options give the same
/// bytes on every machine, and a layer is the same in a checkpoint of one layer and of many. Values are
/// made and written in pieces, so memory does not grow with the checkpoint.
///
/// A checkpoint in `dir` is replaced if [`generate`] wrote it; a folder with any other is refused. The index is
/// written last, so what an interrupted call leaves does not open.
///
/// # Errors
///
/// Those of [`GenerateOptions::check`]; [`Error::Value`] if the folder holds a checkpoint of another origin;
/// [`Error::Io`], also if the file system has not the room, before anything is written.
///
/// # Examples
///
/// See [`super::Checkpoint`].
pub fn generate(
    dir: impl AsRef<Path>,
    options: &GenerateOptions,
    progress: &dyn Fn(GenerateProgress),
) -> Result<Generated> {
    let dir = dir.as_ref();
    options.check()?;
    let total_bytes = total_bytes(options);
    std::fs::create_dir_all(dir).map_err(|source| Error::io(OP, dir, source))?;
    let old = replaceable_files(dir)?;
    check_room(dir, total_bytes, &old)?;
    for path in &old {
        std::fs::remove_file(path).map_err(|source| Error::io(OP, path, source))?;
    }
    let shards = plan(options);
    write_json(
        &dir.join(config::FILE_NAME),
        &ConfigFile { config: options.written_config(), origin: Some(Origin::of(options)) },
    )?;

    let mut index = Index {
        metadata: IndexMetadata { total_size: total_bytes },
        weight_map: Default::default(),
    };
    let mut files = Vec::with_capacity(shards.len());
    let mut num_bytes = 0;
    for (shard_idx, shard) in shards.iter().enumerate() {
        let path =
            dir.join(format!("model-{:05}-of-{:05}.safetensors", shard_idx + 1, shards.len()));
        write::shard(&path, shard, options, &mut |written| {
            num_bytes += written;
            progress(GenerateProgress { num_bytes, total_bytes });
        })?;
        let names = shard.tensors().map(|tensor| (tensor.name.clone(), file_name(&path)));
        index.weight_map.extend(names);
        files.push(path);
    }
    write_json(&dir.join(index::FILE_NAME), &index)?;
    Ok(Generated { num_tensors: index.weight_map.len(), num_bytes: total_bytes, files })
}

/// `config.json` as the generator writes it.
#[derive(Serialize)]
struct ConfigFile {
    #[serde(flatten)]
    config: ModelConfig,
    #[serde(rename = "moekit_generator")]
    origin: Option<Origin>,
}

/// The mark of a generated checkpoint, and what is needed to generate it again.
#[derive(Serialize, Deserialize)]
struct Origin {
    seed: u64,
    dtype: WeightDtype,
    layers: Range<usize>,
    max_shard_bytes: u64,
}

impl Origin {
    fn of(options: &GenerateOptions) -> Self {
        let GenerateOptions { seed, dtype, max_shard_bytes, .. } = *options;
        Self { seed, dtype, layers: options.layers(), max_shard_bytes }
    }
}

/// The files of a checkpoint that the generator wrote; refuses a folder with another.
fn replaceable_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let old = checkpoint_files(dir)?;
    if old.is_empty() {
        return Ok(old);
    }
    #[derive(Deserialize)]
    struct Marked {
        #[serde(rename = "moekit_generator")]
        _origin: Origin,
    }
    let config = std::fs::read(dir.join(config::FILE_NAME)).unwrap_or_default();
    if serde_json::from_slice::<Marked>(&config).is_err() {
        return Err(Error::value(
            OP,
            "folder",
            "a folder without a checkpoint, or with one that this generator wrote",
            dir.display(),
        ));
    }
    Ok(old)
}

/// Refuses what the file system has no room for, counting what is replaced.
fn check_room(dir: &Path, total_bytes: u64, old: &[PathBuf]) -> Result<()> {
    let io = |source| Error::io(OP, dir, source);
    let stat = rustix::fs::statvfs(dir).map_err(|error| io(error.into()))?;
    let mut available = stat.f_bavail.saturating_mul(stat.f_frsize);
    for path in old {
        available += path.metadata().map_or(0, |metadata| metadata.len());
    }
    if total_bytes > available {
        let problem = format!("needs {total_bytes} bytes, and {available} are free");
        return Err(io(std::io::Error::new(std::io::ErrorKind::StorageFull, problem)));
    }
    Ok(())
}

/// The files of a checkpoint in `dir`, the index first and `config.json` last.
fn checkpoint_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let io = |source| Error::io(OP, dir, source);
    let (index, config) = (dir.join(index::FILE_NAME), dir.join(config::FILE_NAME));
    let mut shards = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            shards.push(path);
        }
    }
    Ok([index].into_iter().chain(shards).chain([config]).filter(|path| path.exists()).collect())
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let io = |source: std::io::Error| Error::io(OP, path, source);
    let mut text = serde_json::to_string_pretty(value).map_err(|error| io(error.into()))?;
    text.push('\n');
    std::fs::write(path, text).map_err(io)
}
