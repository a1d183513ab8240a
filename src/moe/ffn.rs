//! The feed-forward block of one expert or many: product, SwiGLU, product.

use super::ep_config::WireFormat;
use super::handle::Handle;
use super::quant::{GRAN_K, ScaleFormat};
use super::swiglu::{SwigluArgs, SwigluInput, SwigluQuantizeArgs};
use super::weights::{ExpertMatrices, ExpertWeights};
use super::workspace::FfnMemory;
use super::{Fusion, OP, Rows, TokensMut, TokensRef, Weighting};
use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::gemm::{
    GemmArgs, GemmOut, GemmShape, GroupRows, GroupedGemmArgs, GroupedSwigluArgs, MaskedGemmArgs,
    MaskedRows, MaskedSwigluArgs, Operands, SwigluOut,
};
use crate::num::bf16;
use crate::tensor::{TensorMut, TensorRef};

/// Which rows belong to which expert.
pub(super) enum Grouping<'a, B: Backend> {
    /// All rows to the one expert.
    One,
    Contiguous(&'a Handle<B>),
    Masked(&'a Handle<B>),
}

/// A feed-forward block over rows: `down(silu(gate x) * up x)`.
pub(super) struct Ffn<'a, B: Backend> {
    pub backend: &'a B,
    pub stream: &'a B::Stream,
    pub weights: &'a ExpertWeights<B>,
    pub limit: Option<f32>,
    pub scale_format: ScaleFormat,
    pub grouping: Grouping<'a, B>,
    /// Of groups' rows.
    pub weighting: Weighting,
}

impl<B: Backend> Ffn<'_, B> {
    pub(super) fn gate_up(
        &self,
        x: TokensRef<'_, B>,
        memory: &mut FfnMemory<B>,
        num_rows: usize,
    ) -> Result<()> {
        let gate_up = memory.gate_up.first_rows_mut(num_rows)?;
        self.product(x, &self.weights.gate_up, gate_up, Weighting::Combine)
    }

    pub(super) fn down(&self, memory: &mut FfnMemory<B>, num_rows: usize) -> Result<()> {
        let activated = memory.activated.first_rows(num_rows)?;
        let y = memory.y.first_rows_mut(num_rows)?;
        self.product(activated, &self.weights.down, y, self.weighting)
    }

    /// Activates, and quantises if the next product is in FP8.
    pub(super) fn swiglu(&self, memory: &mut FfnMemory<B>, num_rows: usize) -> Result<()> {
        let gate_up = memory.gate_up.first_rows(num_rows)?;
        let rows = match &self.grouping {
            Grouping::One => Rows::All,
            Grouping::Contiguous(handle) | Grouping::Masked(handle) => Rows::Offsets {
                expert_offsets: handle.expert_offsets(),
                num_recv_tokens_per_expert: handle.num_recv_tokens_per_expert(),
            },
        };
        let limit = self.limit.unwrap_or(f32::INFINITY);
        let input = SwigluInput { rows, limit, ..SwigluInput::new(gate_up) };
        match memory.activated.first_rows_mut(num_rows)? {
            TokensMut::Fp8(out) => {
                let args = SwigluQuantizeArgs::new(input, out, self.scale_format)?;
                self.backend.swiglu_quantize(self.stream, args)
            }
            TokensMut::Bf16(out) => self.backend.swiglu(self.stream, SwigluArgs::new(input, out)?),
        }
    }

    /// The first product and its activation in one stage; false if they are to be two.
    pub(super) fn gate_up_fused(
        &self,
        x: TokensRef<'_, B>,
        memory: &mut FfnMemory<B>,
        num_rows: usize,
        fusion: Fusion,
    ) -> Result<bool> {
        let (TokensRef::Fp8(a), ExpertMatrices::Fp8(b)) = (x, &self.weights.gate_up) else {
            return Ok(false);
        };
        let width = b.values.shape()[1] / 2;
        if fusion == Fusion::Off || !width.is_multiple_of(GRAN_K) {
            return Ok(false);
        }
        let TokensMut::Fp8(act) = memory.activated.first_rows_mut(num_rows)? else {
            return Ok(false);
        };
        let wants =
            |shape: &GemmShape| fusion == Fusion::On || self.backend.swiglu_fusion_pays(shape);
        let (limit, format) = (self.limit.unwrap_or(f32::INFINITY), self.scale_format);
        match &self.grouping {
            Grouping::One => Ok(false),
            Grouping::Contiguous(handle) => {
                let out = SwigluOut { limit, ..SwigluOut::new(act, format) };
                let args = GroupedSwigluArgs::new(a, b.view(), contiguous_rows(handle), out)?;
                if !wants(&args.shape()) {
                    return Ok(false);
                }
                self.backend.m_grouped_gemm_swiglu_contiguous(self.stream, args)?;
                Ok(true)
            }
            Grouping::Masked(handle) => {
                let num_groups = b.values.shape()[0];
                let act = act.split_rows(num_groups)?;
                let out = SwigluOut { limit, ..SwigluOut::new(act, format) };
                let (a, rows) = (a.split_rows(num_groups)?, masked_rows(handle));
                let args = MaskedSwigluArgs::new(a, b.view(), rows, out)?;
                if !wants(&args.shape()) {
                    return Ok(false);
                }
                self.backend.m_grouped_gemm_swiglu_masked(self.stream, args)?;
                Ok(true)
            }
        }
    }

    fn product(
        &self,
        a: TokensRef<'_, B>,
        weights: &ExpertMatrices<B>,
        d: TensorMut<'_, B, bf16, 2>,
        weighting: Weighting,
    ) -> Result<()> {
        match &self.grouping {
            Grouping::One => {
                let operands = match (a, weights) {
                    (TokensRef::Fp8(a), ExpertMatrices::Fp8(b)) => {
                        Operands::Fp8 { a, b: b.view().matrix(0)? }
                    }
                    (TokensRef::Bf16(a), ExpertMatrices::Bf16(b)) => {
                        Operands::Bf16 { a, b: b.view().matrix(0)? }
                    }
                    _ => return Err(mixed_formats()),
                };
                self.backend.gemm_nt(self.stream, GemmArgs::new(operands, GemmOut::Bf16(d))?)
            }
            Grouping::Contiguous(handle) => {
                let operands = match (a, weights) {
                    (TokensRef::Fp8(a), ExpertMatrices::Fp8(b)) => Operands::Fp8 { a, b: b.view() },
                    (TokensRef::Bf16(a), ExpertMatrices::Bf16(b)) => {
                        Operands::Bf16 { a, b: b.view() }
                    }
                    _ => return Err(mixed_formats()),
                };
                let rows = contiguous_rows(handle);
                let num_rows = d.shape()[0];
                let mut args = GroupedGemmArgs::new(operands, rows, GemmOut::Bf16(d))?;
                if weighting == Weighting::Down {
                    args = args.with_row_weights(row_weights(handle, num_rows)?)?;
                }
                self.backend.m_grouped_gemm_nt_contiguous(self.stream, args)
            }
            Grouping::Masked(handle) => {
                let num_groups = weights.shape()[0];
                let operands = match (a, weights) {
                    (TokensRef::Fp8(a), ExpertMatrices::Fp8(b)) => {
                        Operands::Fp8 { a: a.split_rows(num_groups)?, b: b.view() }
                    }
                    (TokensRef::Bf16(a), ExpertMatrices::Bf16(b)) => {
                        Operands::Bf16 { a: a.split_rows(num_groups)?, b: b.view() }
                    }
                    _ => return Err(mixed_formats()),
                };
                let rows = masked_rows(handle);
                let num_rows = d.shape()[0];
                let out = GemmOut::Bf16(d.split_rows(num_groups)?);
                let mut args = MaskedGemmArgs::new(operands, rows, out)?;
                if weighting == Weighting::Down {
                    args = args.with_row_weights(row_weights(handle, num_rows)?)?;
                }
                self.backend.m_grouped_gemm_nt_masked(self.stream, args)
            }
        }
    }
}

fn contiguous_rows<B: Backend>(handle: &Handle<B>) -> GroupRows<'_, B> {
    GroupRows::Offsets {
        expert_offsets: handle.expert_offsets(),
        num_recv_tokens_per_expert: handle.num_recv_tokens_per_expert(),
    }
}

/// Routing weights of the first rows.
fn row_weights<B: Backend>(
    handle: &Handle<B>,
    num_rows: usize,
) -> Result<TensorRef<'_, B, f32, 1>> {
    let expected = "weights of rows, which the layer has asked for";
    let weights = handle.row_weights();
    weights.ok_or_else(|| Error::value(OP, "row_weights", expected, "none"))?.prefix(num_rows)
}

fn masked_rows<B: Backend>(handle: &Handle<B>) -> MaskedRows<'_, B> {
    MaskedRows { masked_m: handle.num_recv_tokens_per_expert(), expected_m: handle.num_tokens() }
}

/// The wire's number format: that of the experts' weights.
pub(super) fn wire_format<B: Backend>(weights: &ExpertWeights<B>) -> Result<WireFormat> {
    match (&weights.gate_up, &weights.down) {
        (ExpertMatrices::Fp8(_), ExpertMatrices::Fp8(_)) => Ok(WireFormat::Fp8),
        (ExpertMatrices::Bf16(_), ExpertMatrices::Bf16(_)) => Ok(WireFormat::Bf16),
        _ => Err(mixed_formats()),
    }
}

fn mixed_formats() -> Error {
    Error::value("moe layer", "weights", "one number format for gate_up and down", "FP8 and BF16")
}
