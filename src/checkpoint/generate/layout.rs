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
        for matrix in Layer::new(options, layer_idx).matrices() {
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

/// Bytes of all tensors, known before they are planned one by one; `u64::MAX` if there are more.
pub(super) fn total_bytes(options: &GenerateOptions) -> u64 {
    let num_bytes = |matrices: &[PlannedMatrix]| -> u64 {
        matrices.iter().flat_map(PlannedMatrix::tensors).map(PlannedTensor::num_bytes).sum()
    };
    let layer = Layer::new(options, 0);
    let experts = num_bytes(&layer.expert(0)).saturating_mul(layer.num_experts() as u64);
    let others = num_bytes(&layer.router()) + num_bytes(&layer.shared_expert());
    experts.saturating_add(others).saturating_mul(options.layers().len() as u64)
}

/// One layer's matrices.
struct Layer<'a> {
    config: &'a ModelConfig,
    /// Of the experts' matrices.
    dtype: Dtype,
    names: LayerNames,
}

impl<'a> Layer<'a> {
    fn new(options: &'a GenerateOptions, layer_idx: usize) -> Self {
        let dtype = match options.dtype {
            WeightDtype::Fp8 => Dtype::F8_E4M3,
            WeightDtype::Bf16 => Dtype::BF16,
        };
        Self { config: &options.config, dtype, names: LayerNames::new(layer_idx) }
    }

    fn num_experts(&self) -> usize {
        self.config.n_routed_experts
    }

    fn matrices(&self) -> impl Iterator<Item = PlannedMatrix> {
        let experts = (0..self.num_experts()).flat_map(|expert_idx| self.expert(expert_idx));
        self.router().into_iter().chain(experts).chain(self.shared_expert())
    }

    fn router(&self) -> Vec<PlannedMatrix> {
        let shape = [self.num_experts(), self.config.hidden_size];
        let gate = PlannedMatrix::new(self.names.gate(), Dtype::BF16, shape);
        let bias = PlannedMatrix::bias(self.names.gate_bias(), self.num_experts());
        std::iter::once(gate).chain(self.config.needs_gate_bias().then_some(bias)).collect()
    }

    fn expert(&self, expert_idx: usize) -> Vec<PlannedMatrix> {
        self.ffn(&self.names.expert(expert_idx), self.config.moe_intermediate_size)
    }

    fn shared_expert(&self) -> Vec<PlannedMatrix> {
        self.ffn(&self.names.shared(), self.config.to_moe_config().shared_intermediate_hidden())
    }

    /// The three matrices of a feed-forward block; none if it has no width.
    fn ffn(&self, names: &FfnNames, width: usize) -> Vec<PlannedMatrix> {
        if width == 0 {
            return Vec::new();
        }
        let hidden = self.config.hidden_size;
        vec![
            PlannedMatrix::new(names.gate_proj(), self.dtype, [width, hidden]),
            PlannedMatrix::new(names.up_proj(), self.dtype, [width, hidden]),
            PlannedMatrix::new(names.down_proj(), self.dtype, [hidden, width]),
        ]
    }
}
