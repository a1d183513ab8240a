//! What a layer needs in memory.

use super::ep_config::{EpSizes, WireFormat};
use super::layer::LayerOptions;
use super::weights::MoeConfig;
use super::{Fusion, Weighting};
use crate::error::Result;
use crate::num::bf16;

/// Bytes that a [`super::MoeLayer`] holds on each rank besides its weights; exact.
///
/// # Examples
///
/// ```
/// use moekit::moe::gate::{GateConfig, Scoring};
/// use moekit::moe::quant::ScaleFormat;
/// use moekit::moe::weights::MoeConfig;
/// use moekit::moe::{Fusion, LayerOptions, RecvLayout, Reduce, Weighting, WireFormat};
///
/// let v3 = MoeConfig {
///     hidden: 7168,
///     intermediate_hidden: 2048,
///     num_shared_experts: 1,
///     swiglu_limit: None,
///     gate: GateConfig {
///         num_experts: 256,
///         num_topk: 8,
///         scoring: Scoring::Sigmoid,
///         num_expert_groups: 8,
///         num_topk_groups: 4,
///         renormalize: true,
///         routed_scaling_factor: 2.5,
///     },
/// };
/// let options = LayerOptions {
///     num_max_tokens_per_rank: 128,
///     layout: RecvLayout::Exact { expert_alignment: 128 },
///     reduce: Reduce::BySlot,
///     scale_format: ScaleFormat::Fp32,
///     fusion: Fusion::Off,
///     weighting: Weighting::Combine,
/// };
/// let sizes = v3.layer_sizes(&options, WireFormat::Fp8, 256, [8, 8])?;
/// let row_bytes = (7168 + 4 * 56) + 2 * 2 * 2048 + (2048 + 4 * 16) + 2 * 7168;
/// assert_eq!(sizes.row_bytes, row_bytes);
/// # Ok::<(), moekit::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerSizes {
    /// Of dispatch and combine: symmetric memory, and the one handle that a layer keeps.
    pub ep: EpSizes,
    /// Bytes that do not depend on what arrives: routing and quantised form of the own tokens, the shared
    /// expert's intermediates, the count of each local expert's load, weights of the rows that a dispatch may deliver
    /// if a product needs them.
    pub token_bytes: usize,
    /// Bytes of one received row and of all that the experts make of it.
    pub row_bytes: usize,
}

impl LayerSizes {
    /// Bytes with memory for `num_rows` received rows: those of the layout, or, where the layout is exact,
    /// an eighth more than the most that any step received.
    pub fn num_bytes(&self, num_rows: usize) -> usize {
        let ep = self.ep.symmetric_bytes + self.ep.handle_bytes;
        ep + self.token_bytes + num_rows * self.row_bytes
    }
}

impl MoeConfig {
    /// Returns what a layer needs on each of `num_ranks` ranks in nodes of `ranks_per_node`, besides its
    /// weights.
    ///
    /// # Errors
    ///
    /// Those of [`super::EpConfig::sizes`].
    pub fn layer_sizes(
        &self,
        options: &LayerOptions,
        wire: WireFormat,
        num_physical_experts: usize,
        [num_ranks, ranks_per_node]: [usize; 2],
    ) -> Result<LayerSizes> {
        let ep = options.ep_config(self, wire, num_physical_experts);
        let (num_tokens, gate) = (options.num_max_tokens_per_rank, &self.gate);
        let logit_bytes = gate.num_experts * size_of::<f32>();
        let slot_bytes = gate.num_topk * (size_of::<i32>() + size_of::<f32>());
        let quantized_bytes = match wire {
            WireFormat::Bf16 => 0,
            WireFormat::Fp8 => wire.row_bytes(self.hidden),
        };
        let shared_bytes = match self.shared_intermediate_hidden() {
            0 => 0,
            width => ffn_bytes(wire, width, self.hidden, Fusion::Off),
        };
        let load_bytes = num_physical_experts / num_ranks.max(1) * size_of::<i32>();
        let ep = ep.sizes(num_ranks, ranks_per_node)?;
        let weights_bytes = match options.weighting {
            Weighting::Combine => 0,
            Weighting::Down => ep.num_max_recv_rows * size_of::<f32>(),
        };
        Ok(LayerSizes {
            ep,
            token_bytes: num_tokens * (logit_bytes + slot_bytes + quantized_bytes + shared_bytes)
                + load_bytes
                + weights_bytes,
            row_bytes: wire.row_bytes(self.hidden)
                + ffn_bytes(wire, self.intermediate_hidden, self.hidden, options.fusion),
        })
    }
}

/// Bytes of a row of a feed-forward block's intermediates, as in [`FfnMemory`](super::workspace::FfnMemory).
fn ffn_bytes(wire: WireFormat, width: usize, hidden: usize, fusion: Fusion) -> usize {
    let num_gate_up = if fusion == Fusion::On { 0 } else { 2 * width };
    (num_gate_up + hidden) * size_of::<bf16>() + wire.row_bytes(width)
}
