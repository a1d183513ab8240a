//! Memory that a layer keeps from step to step.

use super::buffer::{EpBuffer, RecvLayout, WireFormat};
use super::dispatch::{TokensMut, TokensRef};
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
    /// BF16 `[num_rows, 2 * width]`.
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
        width: usize,
        hidden: usize,
    ) -> Result<Self> {
        Ok(Self {
            gate_up: Tensor::zeros(backend, [num_rows, 2 * width])?,
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
}

impl<B: Backend> RowMemory<B> {
    fn zeros(
        backend: &B,
        format: WireFormat,
        num_rows: usize,
        width: usize,
        hidden: usize,
    ) -> Result<Self> {
        Ok(Self {
            x: TokenTensor::zeros(backend, format, [num_rows, hidden])?,
            ffn: FfnMemory::zeros(backend, format, num_rows, width, hidden)?,
            num_rows,
            capacity: num_rows,
            format,
            width,
            hidden,
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
            *self = Self::zeros(backend, self.format, 0, self.width, self.hidden)?;
            *self = Self::zeros(backend, self.format, capacity, self.width, self.hidden)?;
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
                .map(|_| FfnMemory::zeros(backend, format, num_tokens, shared_width, hidden))
                .transpose()?,
            rows: RowMemory::zeros(backend, format, num_rows, width, hidden)?,
        })
    }
}
