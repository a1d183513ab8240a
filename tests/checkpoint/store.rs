//! A checkpoint in memory, and a writer of the format that shares no code with the crate's.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use moekit_testkit::rng::Rng;
use serde_json::{Value, json};
use tempfile::TempDir;

pub const HIDDEN: usize = 272;
pub const NUM_EXPERTS: usize = 6;
/// Of the one layer.
pub const PREFIX: &str = "model.layers.0.mlp.";

/// A tensor as a file has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    pub dtype: &'static str,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

impl Stored {
    fn new(dtype: &'static str, shape: &[usize], bytes: Vec<u8>) -> Self {
        Self { dtype, shape: shape.to_vec(), bytes }
    }

    /// FP32 values.
    pub fn floats(&self) -> Vec<f32> {
        let (chunks, _) = self.bytes.as_chunks::<4>();
        chunks.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    }
}

/// Number format of the experts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Fp8,
    Bf16,
}

/// A checkpoint of one layer.
pub struct Store {
    pub config: Value,
    pub tensors: BTreeMap<String, Stored>,
}

impl Store {
    /// Seeded tensors, experts `width` wide.
    pub fn new(format: Format, width: usize) -> Self {
        let rng = &mut Rng::new(0xc4ec);
        let mut tensors = BTreeMap::new();
        let gate = bf16_matrix(rng, [NUM_EXPERTS, HIDDEN]);
        tensors.insert(format!("{PREFIX}gate.weight"), gate);
        let bias = Stored::new("F32", &[NUM_EXPERTS], floats(rng, NUM_EXPERTS));
        tensors.insert(format!("{PREFIX}gate.e_score_correction_bias"), bias);
        let experts = (0..NUM_EXPERTS).map(|idx| format!("{PREFIX}experts.{idx}"));
        for expert in experts.chain([format!("{PREFIX}shared_experts")]) {
            for (projection, shape) in [
                ("gate_proj", [width, HIDDEN]),
                ("up_proj", [width, HIDDEN]),
                ("down_proj", [HIDDEN, width]),
            ] {
                let name = format!("{expert}.{projection}.weight");
                match format {
                    Format::Bf16 => {
                        tensors.insert(name, bf16_matrix(rng, shape));
                    }
                    Format::Fp8 => {
                        let codes = (0..shape[0] * shape[1]).map(|_| rng.below(0x7e) as u8);
                        let codes = Stored::new("F8_E4M3", &shape, codes.collect());
                        let blocks = shape.map(|extent| extent.div_ceil(128));
                        let scales =
                            Stored::new("F32", &blocks, floats(rng, blocks[0] * blocks[1]));
                        tensors.insert(format!("{name}_scale_inv"), scales);
                        tensors.insert(name, codes);
                    }
                }
            }
        }
        Self { config: config(width), tensors }
    }

    /// The tensor with this name after the layer's prefix.
    pub fn get(&self, name: &str) -> &Stored {
        &self.tensors[&format!("{PREFIX}{name}")]
    }

    /// Writes one file.
    pub fn write_single(&self) -> TempDir {
        let dir = self.write_config();
        let tensors = self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
        fs::write(dir.path().join("model.safetensors"), file(tensors)).expect("written");
        dir
    }

    /// Writes every tensor into a file of its own, named by [`shard_name`], and the index.
    pub fn write_sharded(&self) -> TempDir {
        let dir = self.write_config();
        for (name, tensor) in &self.tensors {
            let bytes = file([(name.as_str(), tensor)]);
            fs::write(dir.path().join(shard_name(name)), bytes).expect("written");
        }
        write_index(dir.path(), self.tensors.keys().map(String::as_str));
        dir
    }

    fn write_config(&self) -> TempDir {
        let dir = tempfile::tempdir().expect("a folder");
        fs::write(dir.path().join("config.json"), self.config.to_string()).expect("written");
        dir
    }
}

/// The file of a tensor in a checkpoint of many.
pub fn shard_name(tensor: &str) -> String {
    format!("{tensor}.safetensors")
}

/// Writes the index of tensors that lie in files of their own.
pub fn write_index<'a>(dir: &Path, tensors: impl Iterator<Item = &'a str>) {
    let weight_map: BTreeMap<&str, String> =
        tensors.map(|tensor| (tensor, shard_name(tensor))).collect();
    let index = json!({ "metadata": { "total_size": 0 }, "weight_map": weight_map });
    fs::write(dir.join("model.safetensors.index.json"), index.to_string()).expect("written");
}

/// The bytes of a safetensors file.
pub fn file<'a>(tensors: impl IntoIterator<Item = (&'a str, &'a Stored)>) -> Vec<u8> {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, tensor) in tensors {
        let start = data.len();
        data.extend_from_slice(&tensor.bytes);
        let Stored { dtype, shape, .. } = tensor;
        let info = json!({ "dtype": dtype, "shape": shape, "data_offsets": [start, data.len()] });
        header.insert(name.to_owned(), info);
    }
    with_header(&Value::Object(header).to_string(), &data)
}

/// A file with this header, whatever it says.
pub fn with_header(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

fn config(width: usize) -> Value {
    json!({
        "hidden_size": HIDDEN,
        "moe_intermediate_size": width,
        "n_routed_experts": NUM_EXPERTS,
        "n_shared_experts": 1,
        "num_experts_per_tok": 2,
        "n_group": 2,
        "topk_group": 1,
        "topk_method": "noaux_tc",
        "scoring_func": "sigmoid",
        "norm_topk_prob": true,
        "routed_scaling_factor": 2.5,
        "first_k_dense_replace": 0,
        "num_hidden_layers": 1,
        "architectures": ["DeepseekV3ForCausalLM"],
        "torch_dtype": "bfloat16",
        "quantization_config": {
            "activation_scheme": "dynamic",
            "fmt": "e4m3",
            "quant_method": "fp8",
            "weight_block_size": [128, 128]
        }
    })
}

fn floats(rng: &mut Rng, len: usize) -> Vec<u8> {
    (0..len).flat_map(|_| (rng.uniform() as f32 + 0.5).to_le_bytes()).collect()
}

fn bf16_matrix(rng: &mut Rng, shape: [usize; 2]) -> Stored {
    let values = (0..shape[0] * shape[1]).map(|_| (rng.normal() as f32).to_bits() >> 16);
    Stored::new("BF16", &shape, values.flat_map(|bits| (bits as u16).to_le_bytes()).collect())
}
