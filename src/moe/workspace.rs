//! Memory that a layer keeps from step to step.

use super::Fusion;
use super::buffer::EpBuffer;
use super::dispatch::{TokensMut, TokensRef};
use super::ep_config::{RecvLayout, WireFormat};
use super::layer::LayerOptions;
use super::weights::{MoeConfig, MoeWeights};
use crate::backend::Backend;
use crate::error::Result;
use crate::num::bf16;
use crate::tensor::{QuantTensor, ScaleLayout, Tensor};

/// Rows of tokens in the layer's number format.
pub(crate) enum TokenTensor<B: Backend> {
    Bf16(Tensor<B, bf16, 2>),
    Fp8(QuantTensor<B, 2>),
}

impl<B: Backend> TokenTensor<B> {
    fn zeros(backend: &B, format: WireFormat, shape: [usize; 2]) -> Result<Self> {
        Ok(match format {
            WireFormat::Bf16 => Self::Bf16(Tensor::zeros(backend, shape)?),
            WireFormat::Fp8 => {
                Self::Fp8(QuantTensor::zeros_per_row(backend, shape, ScaleLayout::RowMajor)?)
            }
        })
    }

    pub fn first_rows(&self, num_rows: usize) -> Result<TokensRef<'_, B>> {
        Ok(match self {
            Self::Bf16(tokens) => TokensRef::Bf16(tokens.first_rows(num_rows)?),
            Self::Fp8(tokens) => TokensRef::Fp8(tokens.first_rows(num_rows)?),
        })
    }

    pub fn first_rows_mut(&mut self, num_rows: usize) -> Result<TokensMut<'_, B>> {
        Ok(match self {
            Self::Bf16(tokens) => TokensMut::Bf16(tokens.first_rows_mut(num_rows)?),
            Self::Fp8(tokens) => TokensMut::Fp8(tokens.first_rows_mut(num_rows)?),
        })
    }
}

/// Intermediates of one feed-forward block.
pub(crate) struct FfnMemory<B: Backend> {
    /// BF16 `[num_rows, 2 * width]`; no rows where the activation is always fused.
    pub gate_up: Tensor<B, bf16, 2>,
    /// `[num_rows, width]`.
    pub activated: TokenTensor<B>,
    /// BF16 `[num_rows, hidden]`.
    pub y: Tensor<B, bf16, 2>,
}

impl<B: Backend> FfnMemory<B> {
    fn zeros(
        backend: &B,
        format: WireFormat,
        num_rows: usize,
        [width, hidden]: [usize; 2],
        fusion: Fusion,
    ) -> Result<Self> {
        let num_gate_up_rows = if fusion == Fusion::On { 0 } else { num_rows };
        Ok(Self {
            gate_up: Tensor::zeros(backend, [num_gate_up_rows, 2 * width])?,
            activated: TokenTensor::zeros(backend, format, [num_rows, width])?,
            y: Tensor::zeros(backend, [num_rows, hidden])?,
        })
    }
}

/// Received rows and what the experts make of them.
pub(crate) struct RowMemory<B: Backend> {
    pub x: TokenTensor<B>,
    pub ffn: FfnMemory<B>,
    num_rows: usize,
    capacity: usize,
    format: WireFormat,
    width: usize,
    hidden: usize,
    fusion: Fusion,
}

impl<B: Backend> RowMemory<B> {
    fn zeros(
        backend: &B,
        format: WireFormat,
        num_rows: usize,
        [width, hidden]: [usize; 2],
        fusion: Fusion,
    ) -> Result<Self> {
        Ok(Self {
            x: TokenTensor::zeros(backend, format, [num_rows, hidden])?,
            ffn: FfnMemory::zeros(backend, format, num_rows, [width, hidden], fusion)?,
            num_rows,
            capacity: num_rows,
            format,
            width,
            hidden,
            fusion,
        })
    }

    /// Rows of this step.
    pub fn num_rows(&self) -> usize {
        self.num_rows
    }

    pub fn x_mut(&mut self) -> Result<TokensMut<'_, B>> {
        self.x.first_rows_mut(self.num_rows)
    }

    /// Makes room for this step's rows; allocates only when there are more than ever before.
    pub fn resize(&mut self, backend: &B, num_rows: usize) -> Result<()> {
        if num_rows > self.capacity {
            // An eighth more, so that small changes of load do not allocate again. The old memory
            // goes first: both together need not fit.
            let capacity = num_rows + num_rows / 8;
            let (widths, fusion) = ([self.width, self.hidden], self.fusion);
            *self = Self::zeros(backend, self.format, 0, widths, fusion)?;
            *self = Self::zeros(backend, self.format, capacity, widths, fusion)?;
        }
        self.num_rows = num_rows;
        Ok(())
    }
}

/// All memory of a layer but its weights and its [`EpBuffer`].
pub(crate) struct Workspace<B: Backend> {
    /// FP32 `[num_max_tokens_per_rank, num_logical_experts]`.
    pub logits: Tensor<B, f32, 2>,
    /// INT32 `[num_max_tokens_per_rank, num_topk]`.
    pub topk_idx: Tensor<B, i32, 2>,
    /// FP32, as `topk_idx`.
    pub topk_weights: Tensor<B, f32, 2>,
    /// The tokens in FP8; `None` in BF16.
    pub x: Option<QuantTensor<B, 2>>,
    pub shared: Option<FfnMemory<B>>,
    pub rows: RowMemory<B>,
}

impl<B: Backend> Workspace<B> {
    pub fn new(
        backend: &B,
        config: &MoeConfig,
        weights: &MoeWeights<B>,
        options: LayerOptions,
        ep: &EpBuffer<B>,
    ) -> Result<Self> {
        let num_tokens = options.num_max_tokens_per_rank;
        let format = ep.config().wire;
        let num_rows = match options.layout {
            RecvLayout::Exact { .. } => 0,
            _ => ep.config().num_max_recv_rows(ep.topology().num_ranks()),
        };
        let (hidden, width) = (config.hidden, config.intermediate_hidden);
        let shared_width = config.shared_intermediate_hidden();
        Ok(Self {
            logits: Tensor::zeros(backend, [num_tokens, config.gate.num_experts])?,
            topk_idx: Tensor::zeros(backend, [num_tokens, config.gate.num_topk])?,
            topk_weights: Tensor::zeros(backend, [num_tokens, config.gate.num_topk])?,
            x: (format == WireFormat::Fp8)
                .then(|| {
                    let shape = [num_tokens, hidden];
                    QuantTensor::zeros_per_row(backend, shape, ScaleLayout::RowMajor)
                })
                .transpose()?,
            shared: weights
                .shared
                .as_ref()
                .map(|_| {
                    let widths = [shared_width, hidden];
                    FfnMemory::zeros(backend, format, num_tokens, widths, Fusion::Off)
                })
                .transpose()?,
            rows: RowMemory::zeros(backend, format, num_rows, [width, hidden], options.fusion)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cpu;
    use crate::comm::World;
    use crate::moe::gate::{GateConfig, Scoring};
    use crate::moe::quant::ScaleFormat;
    use crate::moe::weights::{ExpertMatrices, ExpertWeights};
    use crate::moe::{ExpertMap, Reduce, Weighting};
    use crate::tensor::Element;

    fn config(num_shared_experts: usize) -> MoeConfig {
        MoeConfig {
            hidden: 144,
            intermediate_hidden: 272,
            num_shared_experts,
            swiglu_limit: None,
            gate: GateConfig {
                num_experts: 6,
                num_topk: 2,
                scoring: Scoring::Softmax,
                num_expert_groups: 1,
                num_topk_groups: 1,
                renormalize: true,
                routed_scaling_factor: 1.0,
            },
        }
    }

    fn weights(cpu: &Cpu, config: &MoeConfig, format: WireFormat) -> Result<MoeWeights<Cpu>> {
        let matrices = |shape| -> Result<ExpertMatrices<Cpu>> {
            Ok(match format {
                WireFormat::Bf16 => ExpertMatrices::Bf16(Tensor::zeros(cpu, shape)?),
                WireFormat::Fp8 => ExpertMatrices::Fp8(QuantTensor {
                    values: Tensor::zeros(cpu, shape)?,
                    scales: Tensor::zeros(cpu, shape.map(|extent| extent.div_ceil(128)))?,
                }),
            })
        };
        let experts = |num: usize, width: usize| -> Result<ExpertWeights<Cpu>> {
            Ok(ExpertWeights {
                gate_up: matrices([num, 2 * width, config.hidden])?,
                down: matrices([num, config.hidden, width])?,
            })
        };
        let shared_width = config.shared_intermediate_hidden();
        Ok(MoeWeights {
            gate: Tensor::zeros(cpu, [config.gate.num_experts, config.hidden])?,
            gate_bias: None,
            routed: experts(8, config.intermediate_hidden)?,
            shared: (shared_width > 0).then(|| experts(1, shared_width)).transpose()?,
        })
    }

    fn bytes<T: Element, const R: usize>(tensor: &Tensor<Cpu, T, R>) -> usize {
        tensor.layout().span() * size_of::<T>()
    }

    fn token_bytes(tokens: &TokenTensor<Cpu>) -> usize {
        match tokens {
            TokenTensor::Bf16(tokens) => bytes(tokens),
            TokenTensor::Fp8(tokens) => bytes(&tokens.values) + bytes(&tokens.scales),
        }
    }

    fn ffn_memory_bytes(memory: &FfnMemory<Cpu>) -> usize {
        bytes(&memory.gate_up) + token_bytes(&memory.activated) + bytes(&memory.y)
    }

    #[test]
    fn sizes_are_those_of_the_tensors() {
        let cpu = Cpu::new();
        for format in [WireFormat::Bf16, WireFormat::Fp8] {
            for num_shared_experts in [0, 2] {
                let config = config(num_shared_experts);
                let weights = weights(&cpu, &config, format).expect("weights");
                let (fusion, weighting) = match num_shared_experts {
                    0 => (Fusion::On, Weighting::Down),
                    _ => (Fusion::Off, Weighting::Combine),
                };
                let options = LayerOptions {
                    num_max_tokens_per_rank: 10,
                    layout: RecvLayout::Masked { max_m: Some(7) },
                    reduce: Reduce::BySlot,
                    scale_format: ScaleFormat::Fp32,
                    fusion,
                    weighting,
                };
                let world = World::threads(1).expect("a world").remove(0);
                let ep = options.ep_config(&config, format, 8);
                let mut ep = EpBuffer::new(&cpu, &world, ep).expect("a buffer");
                ep.set_expert_map(ExpertMap::identity(8)).expect("a map of all experts");
                ep.set_row_weights(weighting == Weighting::Down);
                let workspace = Workspace::new(&cpu, &config, &weights, options, &ep);
                let workspace = workspace.expect("a workspace");
                world.close().expect("one rank closes alone");

                let sizes = config.layer_sizes(&options, format, 8, [1, 1]).expect("sizes");
                let x = workspace.x.as_ref().map_or(0, |x| bytes(&x.values) + bytes(&x.scales));
                let handle = ep.new_handle().expect("a handle");
                let row_weights = handle.state().row_weights.as_ref();
                let own = bytes(&workspace.logits)
                    + bytes(&workspace.topk_idx)
                    + bytes(&workspace.topk_weights)
                    + x
                    + workspace.shared.as_ref().map_or(0, ffn_memory_bytes)
                    + bytes(&ep.expert_load)
                    + row_weights.map_or(0, bytes);
                assert_eq!(sizes.token_bytes, own, "{format:?}, {num_shared_experts} shared");
                let rows = token_bytes(&workspace.rows.x) + ffn_memory_bytes(&workspace.rows.ffn);
                assert_eq!(
                    sizes.row_bytes * 8 * 7,
                    rows,
                    "{format:?}, {num_shared_experts} shared"
                );
            }
        }
    }
}
