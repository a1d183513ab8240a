//! What a step cannot do without: arithmetic and memory traffic of each stage.

use super::ep_config::WireFormat;
use super::stages::Stage;
use super::weights::MoeConfig;
use crate::cost::Cost;
use crate::gemm::{GemmFormat, GemmKind, GemmShape};
use crate::num::bf16;

/// What one rank had to do in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RankLoad {
    /// Ranks in the world.
    pub num_ranks: usize,
    /// Tokens that the rank brought.
    pub num_tokens: usize,
    /// Rows that its experts received, padding left out.
    pub num_recv_tokens: usize,
    /// Its experts that received any.
    pub num_used_experts: usize,
}

impl MoeConfig {
    /// Arithmetic and memory traffic of a stage on one rank.
    ///
    /// # Units
    ///
    /// Weights count once for every expert that has rows, activations once for each read and write,
    /// padding not at all. The plan counts every rank's routing, as if each brought as many tokens as
    /// this one. Bytes to other ranks are those of rows that come from, or return to, others if every rank
    /// brings as many rows as this one; a token that goes to several experts of a rank is read once, so they can be
    /// fewer.
    ///
    /// # Examples
    ///
    /// ```
    /// use moekit::checkpoint::GenerateOptions;
    /// use moekit::moe::cost::RankLoad;
    /// use moekit::moe::{Stage, WireFormat};
    ///
    /// let config = GenerateOptions::default().config.to_moe_config();
    /// let load = RankLoad { num_ranks: 1, num_tokens: 2, num_recv_tokens: 16, num_used_experts: 9 };
    /// let cost = config.stage_cost(Stage::Down, WireFormat::Bf16, &load);
    /// assert_eq!(cost.bf16_flops, 2 * 16 * 2048 * 1024);
    /// assert_eq!(cost.hbm_bytes, 2 * (9 * 2048 * 1024 + 16 * (1024 + 2048)));
    /// ```
    pub fn stage_cost(&self, stage: Stage, format: WireFormat, load: &RankLoad) -> Cost {
        let sizes = Sizes { format };
        let (hidden, width) = (self.hidden, self.intermediate_hidden);
        let (num_experts, num_topk) = (self.gate.num_experts, self.gate.num_topk);
        let (tokens, rows) = (load.num_tokens, load.num_recv_tokens);
        let slots = tokens * num_topk * (size_of::<i32>() + size_of::<f32>());
        let logits = tokens * num_experts * size_of::<f32>();
        let (flops, bytes) = match stage {
            Stage::Logits => {
                let operands = (tokens + num_experts) * hidden * size_of::<bf16>();
                (2 * tokens * num_experts * hidden, operands + logits)
            }
            Stage::Gate => (0, logits + slots),
            Stage::Quantize => (0, tokens * (hidden * size_of::<bf16>() + sizes.row(hidden))),
            Stage::DispatchSend => (0, 2 * tokens * sizes.row(hidden) + 2 * slots),
            Stage::SharedExpert => {
                let width = self.shared_intermediate_hidden();
                let cost = sizes.gate_up(tokens, 1, width, hidden)
                    + sizes.swiglu(tokens, width)
                    + sizes.down(tokens, 1, width, hidden);
                return cost;
            }
            Stage::Plan => (0, load.num_ranks * slots),
            Stage::DispatchRecv => return exchange(rows * sizes.row(hidden), load.num_ranks),
            Stage::GateUp => return sizes.gate_up(rows, load.num_used_experts, width, hidden),
            Stage::Swiglu => return sizes.swiglu(rows, width),
            Stage::Down => return sizes.down(rows, load.num_used_experts, width, hidden),
            Stage::CombineSend => {
                return exchange(rows * hidden * size_of::<bf16>(), load.num_ranks);
            }
            Stage::CombineRecv => {
                let shared = usize::from(self.num_shared_experts > 0);
                (0, tokens * (num_topk + shared + 1) * hidden * size_of::<bf16>())
            }
        };
        Cost { bf16_flops: flops as u64, hbm_bytes: bytes as u64, ..Cost::default() }
    }
}

/// Rows read and written once, those of other ranks over the links.
fn exchange(num_bytes: usize, num_ranks: usize) -> Cost {
    let link_bytes = num_bytes * num_ranks.saturating_sub(1) / num_ranks.max(1);
    Cost { hbm_bytes: 2 * num_bytes as u64, link_bytes: link_bytes as u64, ..Cost::default() }
}

struct Sizes {
    format: WireFormat,
}

impl Sizes {
    /// Bytes of a row of activations.
    fn row(&self, len: usize) -> usize {
        self.format.row_bytes(len)
    }

    fn product(&self, m: usize, num_groups: usize, n: usize, k: usize) -> Cost {
        let format = match self.format {
            WireFormat::Bf16 => GemmFormat::Bf16,
            WireFormat::Fp8 => GemmFormat::Fp8,
        };
        let shape = GemmShape::new(GemmKind::Contiguous, m, n, k);
        GemmShape { format, num_groups, ..shape }.cost_of_rows(m)
    }

    fn gate_up(&self, m: usize, num_experts: usize, width: usize, hidden: usize) -> Cost {
        self.product(m, num_experts, 2 * width, hidden)
    }

    fn down(&self, m: usize, num_experts: usize, width: usize, hidden: usize) -> Cost {
        self.product(m, num_experts, hidden, width)
    }

    fn swiglu(&self, m: usize, width: usize) -> Cost {
        let bytes = m * (2 * width * size_of::<bf16>() + self.row(width));
        Cost { hbm_bytes: bytes as u64, ..Cost::default() }
    }
}
