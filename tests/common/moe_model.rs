//! A small MoE layer with seeded weights, for every test that runs the whole flow.

use std::sync::LazyLock;

use moekit::comm::World;
use moekit::moe::gate::{GateConfig, Scoring};
use moekit::moe::quant::ScaleFormat;
use moekit::moe::weights::{ExpertMatrices, ExpertWeights, MoeConfig, MoeWeights};
use moekit::moe::{ExpertMap, Fusion, LayerOptions, MoeLayer, RecvLayout, Reduce, Weighting};
use moekit::num::{E4M3, bf16, ceil_div};
use moekit::tensor::{QuantTensor, Tensor};
use moekit::{Backend, Result};
use moekit_testkit::inputs;
use moekit_testkit::moe as oracle;
use moekit_testkit::quant::{self, Quantised};
use moekit_testkit::rng::Rng;

pub const NUM_TOKENS: usize = 24;
pub const HIDDEN: usize = 272;
pub const INTERMEDIATE: usize = 144;
/// Of the other model, whose experts' first product can take its activation along.
pub const WHOLE_INTERMEDIATE: usize = 256;
/// Divisible by every number of ranks that tests use.
pub const NUM_EXPERTS: usize = 24;

pub fn config(intermediate_hidden: usize) -> MoeConfig {
    MoeConfig {
        hidden: HIDDEN,
        intermediate_hidden,
        num_shared_experts: 1,
        swiglu_limit: Some(7.0),
        gate: GateConfig {
            num_experts: NUM_EXPERTS,
            num_topk: 3,
            scoring: Scoring::Sigmoid,
            num_expert_groups: 4,
            num_topk_groups: 3,
            renormalize: true,
            routed_scaling_factor: 2.5,
        },
    }
}

/// A layer's numbers on the host, made from a seed.
pub struct Model {
    pub gate: Vec<bf16>,
    pub bias: Vec<f32>,
    pub layer: oracle::Layer,
    pub x: Vec<bf16>,
}

/// The model, made once.
pub fn model() -> &'static Model {
    static MODEL: LazyLock<Model> = LazyLock::new(|| make_model(INTERMEDIATE));
    &MODEL
}

/// The other model, made once.
fn whole_model() -> &'static Model {
    static MODEL: LazyLock<Model> = LazyLock::new(|| make_model(WHOLE_INTERMEDIATE));
    &MODEL
}

fn make_model(intermediate_hidden: usize) -> Model {
    let rng = &mut Rng::new(0x5eed);
    let mut matrix = |shape: [usize; 2]| {
        quant::per_block(&inputs::weights(rng, shape), shape, quant::ScaleFormat::F32)
    };
    let mut expert = || oracle::Expert {
        gate_up: matrix([2 * intermediate_hidden, HIDDEN]),
        down: matrix([HIDDEN, intermediate_hidden]),
    };
    let layer = oracle::Layer {
        experts: (0..NUM_EXPERTS).map(|_| expert()).collect(),
        shared: Some(expert()),
        swiglu_limit: Some(7.0),
    };
    let rng = &mut Rng::new(77);
    let round = |values: Vec<f32>| values.into_iter().map(bf16::from_f32).collect();
    Model {
        gate: round(inputs::weights(rng, [NUM_EXPERTS, HIDDEN])),
        bias: inputs::normal(rng, NUM_EXPERTS, 0.02),
        layer,
        x: round(inputs::normal(rng, NUM_TOKENS * HIDDEN, 1.0)),
    }
}

#[derive(Clone, Copy, PartialEq)]
pub enum Format {
    Fp8,
    Bf16,
}

fn matrices<B: Backend>(
    backend: &B,
    format: Format,
    all: &[&Quantised],
) -> Result<ExpertMatrices<B>> {
    let (n, k) = (all[0].rows, all[0].cols);
    let shape = [all.len(), n, k];
    Ok(match format {
        Format::Fp8 => {
            let values: Vec<E4M3> =
                all.iter().flat_map(|q| q.codes.iter().map(|&code| E4M3(code))).collect();
            let scales: Vec<f32> = all.iter().flat_map(|q| q.scales.clone()).collect();
            let scale_shape = [all.len(), ceil_div(n, 128), ceil_div(k, 128)];
            ExpertMatrices::Fp8(QuantTensor {
                values: Tensor::from_host(backend, &values, shape)?,
                scales: Tensor::from_host(backend, &scales, scale_shape)?,
            })
        }
        Format::Bf16 => {
            let values: Vec<bf16> = all
                .iter()
                .flat_map(|q| q.dequantise().values.into_iter().map(bf16::from_f64))
                .collect();
            ExpertMatrices::Bf16(Tensor::from_host(backend, &values, shape)?)
        }
    })
}

fn experts<B: Backend>(
    backend: &B,
    format: Format,
    all: &[&oracle::Expert],
) -> Result<ExpertWeights<B>> {
    let gate_up: Vec<_> = all.iter().map(|expert| &expert.gate_up).collect();
    let down: Vec<_> = all.iter().map(|expert| &expert.down).collect();
    Ok(ExpertWeights {
        gate_up: matrices(backend, format, &gate_up)?,
        down: matrices(backend, format, &down)?,
    })
}

#[derive(Clone)]
pub struct Run {
    pub num_ranks: usize,
    pub layout: RecvLayout,
    pub format: Format,
    pub physical_to_logical: Vec<i32>,
    /// Tokens of each rank, in order; they add up to `NUM_TOKENS`.
    pub share: Vec<usize>,
    /// `INTERMEDIATE` or `WHOLE_INTERMEDIATE`.
    pub intermediate_hidden: usize,
    pub fusion: Fusion,
    pub weighting: Weighting,
    pub reduce: Reduce,
}

impl Run {
    /// Equal shares, one replica of each expert.
    pub fn new(num_ranks: usize) -> Self {
        Self {
            num_ranks,
            layout: RecvLayout::Exact { expert_alignment: 16 },
            format: Format::Fp8,
            physical_to_logical: (0..NUM_EXPERTS as i32).collect(),
            share: vec![NUM_TOKENS / num_ranks; num_ranks],
            intermediate_hidden: INTERMEDIATE,
            fusion: Fusion::Off,
            weighting: Weighting::Combine,
            reduce: Reduce::BySlot,
        }
    }

    /// Runs two steps on one rank; returns its share of the last output.
    pub fn rank<B: Backend>(&self, backend: &B, world: &World) -> Result<Vec<bf16>> {
        let model = match self.intermediate_hidden {
            WHOLE_INTERMEDIATE => whole_model(),
            _ => model(),
        };
        let rank_idx = world.rank_idx();
        let num_local = self.physical_to_logical.len() / self.num_ranks;
        let local: Vec<&oracle::Expert> = self.physical_to_logical[rank_idx * num_local..]
            [..num_local]
            .iter()
            .map(|&logical| &model.layer.experts[logical as usize])
            .collect();
        let shared = model.layer.shared.as_ref().expect("a shared expert");
        let weights = MoeWeights {
            gate: Tensor::from_host(backend, &model.gate, [NUM_EXPERTS, HIDDEN])?,
            gate_bias: Some(Tensor::from_host(backend, &model.bias, [NUM_EXPERTS])?),
            routed: experts(backend, self.format, &local)?,
            shared: Some(experts(backend, self.format, &[shared])?),
        };
        let map = ExpertMap::new(&self.physical_to_logical, NUM_EXPERTS)?;
        let options = LayerOptions {
            num_max_tokens_per_rank: *self.share.iter().max().expect("ranks"),
            layout: self.layout,
            reduce: self.reduce,
            scale_format: ScaleFormat::Fp32,
            fusion: self.fusion,
            weighting: self.weighting,
        };
        let stream = backend.stream()?;
        let mut layer =
            MoeLayer::new(backend, world, config(self.intermediate_hidden), weights, map, options)?;
        let first: usize = self.share[..rank_idx].iter().sum();
        let n = self.share[rank_idx];
        let x = Tensor::from_host(backend, &model.x[first * HIDDEN..][..n * HIDDEN], [n, HIDDEN])?;
        let mut out = Vec::new();
        for _ in 0..2 {
            let mut y = Tensor::from_host(backend, &vec![bf16::NAN; n * HIDDEN], [n, HIDDEN])?;
            layer.forward(&stream, x.view(), y.view_mut())?;
            backend.check(&stream)?;
            out = y.to_host(backend)?;
        }
        assert!(!layer.stage_times()?.is_empty());
        Ok(out)
    }
}
