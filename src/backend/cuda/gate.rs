//! Gate: what the kernels of `csrc/kernels/gate` are launched with.

use super::abi::{GateParams, Scoring};
use super::driver::Launch;
use super::params::{VECTOR_BYTES, num_ctas, to_u32};
use super::{Cuda, CudaStream};
use crate::error::{Error, Result};
use crate::moe::gate::{self, GateArgs, GateConfig};
use crate::num::align;
use crate::tensor::TensorRef;

const OP: &str = "gate";
/// Warps of a CTA at most: one token each.
const MAX_WARPS: usize = 8;
/// Lanes of a warp.
const NUM_LANES: usize = 32;
/// Shared memory up to which a CTA takes more warps; two CTAs and more then fit beside each other.
const ROOMY_BYTES: usize = 48 << 10;
/// Words of shared memory that a token takes per expert.
const WORDS_PER_EXPERT: usize = 3;

pub fn gate(cuda: &Cuda, stream: &CudaStream, args: GateArgs<'_, Cuda>) -> Result<()> {
    let [num_tokens, _] = args.logits.shape();
    match GateLanes::of(&args.config) {
        Some(lanes) => {
            let num_warps = num_tokens.div_ceil(cuda.num_sms()).clamp(1, MAX_WARPS);
            let is_aligned = lanes.are_aligned(&args);
            let params = GateParams {
                num_expert_groups: to_u32(OP, "num_expert_groups", lanes.num_groups)?,
                num_topk_groups: to_u32(OP, "num_topk_groups", lanes.num_topk_groups)?,
                is_aligned: u32::from(is_aligned),
                lanes_per_group: to_u32(OP, "num_expert_groups", lanes.per_group)?,
                experts_per_lane: to_u32(OP, "num_experts", lanes.num_experts)?,
                ..params(stream, args)?
            };
            enqueue(
                cuda,
                stream,
                lanes.kernel,
                &params,
                GateShape { num_warps: num_warps as u32, token_bytes: 0 },
            )
        }
        None => {
            let kernel = "gate_shared";
            let max_shared_bytes = cuda.kernel(OP, kernel)?.max_dynamic_shared_bytes;
            let shape = GateShape::of(args.config.num_experts, max_shared_bytes)?;
            let token_bytes = to_u32(OP, "num_experts", shape.token_bytes)?;
            let params = GateParams { token_bytes, ..params(stream, args)? };
            enqueue(cuda, stream, kernel, &params, shape)
        }
    }
}

/// What both kernels take; for the one with shared memory it lacks nothing but `token_bytes`.
fn params(stream: &CudaStream, mut args: GateArgs<'_, Cuda>) -> Result<GateParams> {
    let config = args.config;
    let [row_stride, _] = args.logits.layout().strides();
    Ok(GateParams {
        logits: args.logits.as_ptr(),
        logits_row_stride: row_stride as u64,
        bias: args.bias.as_ref().map_or(std::ptr::null(), TensorRef::as_ptr),
        topk_idx: args.topk_idx.as_mut_ptr(),
        topk_weights: args.topk_weights.as_mut_ptr(),
        faults: stream.fault_sink(),
        num_tokens: to_u32(OP, "logits", args.logits.shape()[0])?,
        num_experts: to_u32(OP, "num_experts", config.num_experts)?,
        num_topk: to_u32(OP, "num_topk", config.num_topk)?,
        num_expert_groups: to_u32(OP, "num_expert_groups", config.num_expert_groups)?,
        num_topk_groups: to_u32(OP, "num_topk_groups", config.num_topk_groups)?,
        scoring: match config.scoring {
            gate::Scoring::Softmax => Scoring::Softmax,
            gate::Scoring::Sigmoid => Scoring::Sigmoid,
        },
        renormalize: u32::from(config.renormalize),
        routed_scaling_factor: config.routed_scaling_factor,
        is_aligned: u32::from(rows_are_aligned(&args)),
        token_bytes: 0,
        lanes_per_group: 0,
        experts_per_lane: 0,
    })
}

fn rows_are_aligned(args: &GateArgs<'_, Cuda>) -> bool {
    let ([num_tokens, _], [row_stride, _]) = (args.logits.shape(), args.logits.layout().strides());
    (args.logits.as_ptr() as usize).is_multiple_of(VECTOR_BYTES)
        && (num_tokens <= 1 || (row_stride * size_of::<f32>()).is_multiple_of(VECTOR_BYTES))
}

fn enqueue(
    cuda: &Cuda,
    stream: &CudaStream,
    kernel: &str,
    params: &GateParams,
    shape: GateShape,
) -> Result<()> {
    let num_ctas = num_ctas(OP, "logits", params.num_tokens as usize, shape.num_warps)?;
    let launch = Launch {
        shared_bytes: to_u32(OP, "num_experts", shape.shared_bytes())?,
        ..Launch::new(num_ctas, 32 * shape.num_warps)
    };
    let kernel = cuda.kernel(OP, kernel)?;
    // SAFETY: `GateArgs` checked the extents against the tensors, which the caller keeps until the
    // stream has passed.
    unsafe { launch.enqueue(OP, &stream.driver, kernel, params) }
}

/// How the lanes of a warp share a token's experts; a group has whole lanes.
#[derive(Debug, PartialEq, Eq)]
struct GateLanes {
    kernel: &'static str,
    num_groups: usize,
    num_topk_groups: usize,
    per_group: usize,
    /// Experts of a lane, at most.
    num_experts: usize,
}

impl GateLanes {
    /// Kernels by the experts that a lane has at most.
    const KERNELS: [(usize, &str); 3] =
        [(4, "gate_lanes_4"), (8, "gate_lanes_8"), (16, "gate_lanes_16")];

    /// None if a lane has no room for its experts, or there are more choices than lanes.
    fn of(config: &GateConfig) -> Option<Self> {
        // Where every group is taken they are one.
        let (num_groups, num_topk_groups) = match config.num_topk_groups < config.num_expert_groups
        {
            true => (config.num_expert_groups, config.num_topk_groups),
            false => (1, 1),
        };
        if num_groups > NUM_LANES || config.num_topk > NUM_LANES {
            return None;
        }
        let per_group = 1 << (NUM_LANES / num_groups).ilog2();
        let num_experts = (config.num_experts / num_groups).div_ceil(per_group);
        let has_room = |kernel: &&(usize, &str)| num_experts <= kernel.0;
        let &(_, kernel) = Self::KERNELS.iter().find(has_room)?;
        Some(Self { kernel, num_groups, num_topk_groups, per_group, num_experts })
    }

    /// Whether what each lane has of logits and bias starts at a multiple of 16 bytes, and is one.
    fn are_aligned(&self, args: &GateArgs<'_, Cuda>) -> bool {
        let group_len = args.config.num_experts / self.num_groups;
        let bias = args.bias.as_ref().map_or(0, |bias| bias.as_ptr() as usize);
        rows_are_aligned(args)
            && bias.is_multiple_of(VECTOR_BYTES)
            && [self.num_experts, group_len].iter().all(|len| len.is_multiple_of(VECTOR_BYTES / 4))
    }
}

/// How many tokens a CTA has, and what each takes of its shared memory.
#[derive(Debug, PartialEq, Eq)]
struct GateShape {
    num_warps: u32,
    token_bytes: usize,
}

impl GateShape {
    /// As many warps as there is room for; fewer than the most only where tokens take much.
    fn of(num_experts: usize, max_shared_bytes: usize) -> Result<Self> {
        let token_bytes = WORDS_PER_EXPERT * size_of::<u32>() * align(num_experts, 4);
        if token_bytes > max_shared_bytes {
            let most = max_shared_bytes / (WORDS_PER_EXPERT * size_of::<u32>()) / 4 * 4;
            let expected = format!("at most {most} (the shared memory of one CTA)");
            return Err(Error::value(OP, "num_experts", expected, num_experts));
        }
        let num_warps = (ROOMY_BYTES / token_bytes.max(1)).clamp(1, MAX_WARPS);
        Ok(Self { num_warps: num_warps as u32, token_bytes })
    }

    fn shared_bytes(&self) -> usize {
        self.num_warps as usize * self.token_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const H100: usize = 227 << 10;

    fn lanes(num_experts: usize, groups: [usize; 2]) -> Option<(&'static str, usize, usize)> {
        let [num_expert_groups, num_topk_groups] = groups;
        let config = GateConfig {
            num_experts,
            num_topk: 8,
            scoring: gate::Scoring::Sigmoid,
            num_expert_groups,
            num_topk_groups,
            renormalize: true,
            routed_scaling_factor: 1.0,
        };
        GateLanes::of(&config).map(|it| (it.kernel, it.per_group, it.num_experts))
    }

    #[test]
    fn a_group_has_whole_lanes() {
        // DeepSeek-V3, DeepSeek-V2, Kimi K2, Qwen3.
        assert_eq!(lanes(256, [8, 4]), Some(("gate_lanes_8", 4, 8)));
        assert_eq!(lanes(160, [8, 3]), Some(("gate_lanes_8", 4, 5)));
        assert_eq!(lanes(384, [1, 1]), Some(("gate_lanes_16", 32, 12)));
        assert_eq!(lanes(128, [1, 1]), Some(("gate_lanes_4", 32, 4)));
        assert_eq!(lanes(9, [3, 2]), Some(("gate_lanes_4", 8, 1)));
        assert_eq!(lanes(64, [32, 5]), Some(("gate_lanes_4", 1, 2)));
    }

    #[test]
    fn groups_that_are_all_taken_are_one() {
        assert_eq!(lanes(256, [8, 8]), Some(("gate_lanes_8", 32, 8)));
        assert_eq!(lanes(256, [256, 256]), Some(("gate_lanes_8", 32, 8)));
    }

    #[test]
    fn what_registers_have_no_room_for_lies_in_shared_memory() {
        assert_eq!(lanes(512, [1, 1]), Some(("gate_lanes_16", 32, 16)));
        assert_eq!(lanes(513, [1, 1]), None);
        assert_eq!(lanes(256, [64, 4]), None);
        // One lane for each of 17 groups of 17.
        assert_eq!(lanes(289, [17, 2]), None);
    }

    #[test]
    fn many_experts_leave_fewer_tokens_to_a_cta() {
        let shape = |num_experts| GateShape::of(num_experts, H100).expect("fits");
        assert_eq!(shape(256), GateShape { num_warps: 8, token_bytes: 3072 });
        assert_eq!(shape(7), GateShape { num_warps: 8, token_bytes: 96 });
        assert_eq!(shape(2048).num_warps, 2);
        assert_eq!(shape(19_368).num_warps, 1);
    }

    #[test]
    fn more_experts_than_a_cta_has_room_for_are_refused() {
        let error = GateShape::of(19_372, H100).expect_err("too many").to_string();
        let expected =
            "gate: `num_experts` is 19372, expected at most 19368 (the shared memory of one CTA)";
        assert_eq!(error, expected);
    }
}
