//! Which tensors a generated checkpoint has, and which file holds each.

use safetensors::Dtype;

use super::{GenerateOptions, WeightDtype};
use crate::checkpoint::config::ModelConfig;
use crate::checkpoint::names::{FfnNames, LayerNames, scale_of};
use crate::num::ceil_div;

/// Standard deviation of `e_score_correction_bias`.
const BIAS_DEVIATION: f32 = 0.01;

/// A tensor to be written.
#[derive(Debug, Clone)]
pub(super) struct PlannedTensor {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
}

impl PlannedTensor {
    pub fn num_bytes(&self) -> u64 {
        let num_elements: usize = self.shape.iter().product();
        (num_elements * self.dtype.bitsize() / 8) as u64
    }
}

/// A matrix of seeded values `[num_rows, num_cols]`, and the tensors that hold it.
#[derive(Debug, Clone)]
pub(super) struct PlannedMatrix {
    pub num_rows: usize,
    pub num_cols: usize,
    /// Standard deviation.
    pub deviation: f32,
    pub values: PlannedTensor,
    /// Of FP8 values only.
    pub scales: Option<PlannedTensor>,
}

impl PlannedMatrix {
    fn new(name: String, dtype: Dtype, [n, k]: [usize; 2]) -> Self {
        let scales = (dtype == Dtype::F8_E4M3).then(|| PlannedTensor {
            name: scale_of(&name),
            dtype: Dtype::F32,
            shape: vec![ceil_div(n, 128), ceil_div(k, 128)],
        });
        Self {
            num_rows: n,
            num_cols: k,
            deviation: 1.0 / (k as f32).sqrt(),
            values: PlannedTensor { name, dtype, shape: vec![n, k] },
            scales,
        }
    }

    fn bias(name: String, num_experts: usize) -> Self {
        Self {
            num_rows: 1,
            num_cols: num_experts,
            deviation: BIAS_DEVIATION,
            values: PlannedTensor { name, dtype: Dtype::F32, shape: vec![num_experts] },
            scales: None,
        }
    }

    pub fn tensors(&self) -> impl Iterator<Item = &PlannedTensor> {
        std::iter::once(&self.values).chain(&self.scales)
    }
}

/// The content of one file.
#[derive(Debug, Default)]
pub(super) struct Shard {
    pub matrices: Vec<PlannedMatrix>,
}

impl Shard {
    /// Tensors in the order of their data: wide elements first, so that each is aligned.
    pub fn tensors(&self) -> impl Iterator<Item = &PlannedTensor> {
        let mut tensors: Vec<_> = self.matrices.iter().flat_map(PlannedMatrix::tensors).collect();
        tensors.sort_by_key(|tensor| std::cmp::Reverse(tensor.dtype.bitsize()));
        tensors.into_iter()
    }

    pub fn num_bytes(&self) -> u64 {
        self.tensors().map(PlannedTensor::num_bytes).sum()
    }
}

/// Plans the files: matrices in the order of layers and experts, as many in a file as fit.
pub(super) fn plan(options: &GenerateOptions) -> Vec<Shard> {
    let mut shards = vec![Shard::default()];
    let mut shard_bytes = 0;
    for layer_idx in options.layers() {
        for matrix in layer(&options.config, options.dtype, layer_idx) {
            let num_bytes: u64 = matrix.tensors().map(PlannedTensor::num_bytes).sum();
            if shard_bytes > 0 && shard_bytes + num_bytes > options.max_shard_bytes {
                shards.push(Shard::default());
                shard_bytes = 0;
            }
            shard_bytes += num_bytes;
            shards.last_mut().expect("one shard at least").matrices.push(matrix);
        }
    }
    shards
}

fn layer(config: &ModelConfig, dtype: WeightDtype, layer_idx: usize) -> Vec<PlannedMatrix> {
    let dtype = match dtype {
        WeightDtype::Fp8 => Dtype::F8_E4M3,
        WeightDtype::Bf16 => Dtype::BF16,
    };
    let (hidden, width) = (config.hidden_size, config.moe_intermediate_size);
    let num_experts = config.n_routed_experts;
    let names = LayerNames::new(layer_idx);
    let mut matrices = vec![PlannedMatrix::new(names.gate(), Dtype::BF16, [num_experts, hidden])];
    if config.needs_gate_bias() {
        matrices.push(PlannedMatrix::bias(names.gate_bias(), num_experts));
    }
    for expert_idx in 0..num_experts {
        matrices.extend(ffn(&names.expert(expert_idx), dtype, width, hidden));
    }
    let shared_width = config.n_shared_experts.unwrap_or(0) * width;
    if shared_width > 0 {
        matrices.extend(ffn(&names.shared(), dtype, shared_width, hidden));
    }
    matrices
}

fn ffn(names: &FfnNames, dtype: Dtype, width: usize, hidden: usize) -> [PlannedMatrix; 3] {
    [
        PlannedMatrix::new(names.gate_proj(), dtype, [width, hidden]),
        PlannedMatrix::new(names.up_proj(), dtype, [width, hidden]),
        PlannedMatrix::new(names.down_proj(), dtype, [hidden, width]),
    ]
}
