//! Gate: what the kernel of `csrc/kernels/gate.cuh` is launched with.

use super::abi::{GateParams, Scoring};
use super::driver::Launch;
use super::params::{VECTOR_BYTES, num_ctas, to_u32};
use super::{Cuda, CudaStream};
use crate::error::{Error, Result};
use crate::moe::gate::{self, GateArgs};
use crate::num::align;
use crate::tensor::TensorRef;

const OP: &str = "gate";
/// Warps of a CTA at most: one token each.
const MAX_WARPS: usize = 8;
/// Shared memory up to which a CTA takes more warps; two CTAs and more then fit beside each other.
const ROOMY_BYTES: usize = 48 << 10;
/// Words of shared memory that a token takes per expert.
const WORDS_PER_EXPERT: usize = 3;

pub fn gate(cuda: &Cuda, stream: &CudaStream, mut args: GateArgs<'_, Cuda>) -> Result<()> {
    let config = args.config;
    let num_tokens = args.logits.shape()[0];
    let kernel = cuda.kernel(OP, "gate")?;
    let shape = GateShape::of(config.num_experts, kernel.max_dynamic_shared_bytes)?;
    let [row_stride, _] = args.logits.layout().strides();
    let stride_bytes = row_stride * size_of::<f32>();
    let address = args.logits.as_ptr() as usize;
    let is_aligned = address.is_multiple_of(VECTOR_BYTES)
        && (num_tokens <= 1 || stride_bytes.is_multiple_of(VECTOR_BYTES));
    let params = GateParams {
        logits: args.logits.as_ptr(),
        logits_row_stride: row_stride as u64,
        bias: args.bias.as_ref().map_or(std::ptr::null(), TensorRef::as_ptr),
        topk_idx: args.topk_idx.as_mut_ptr(),
        topk_weights: args.topk_weights.as_mut_ptr(),
        faults: stream.fault_sink(),
        num_tokens: to_u32(OP, "logits", num_tokens)?,
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
        is_aligned: u32::from(is_aligned),
        token_bytes: to_u32(OP, "num_experts", shape.token_bytes)?,
    };
    let num_ctas = num_ctas(OP, "logits", num_tokens, shape.num_warps)?;
    let launch = Launch {
        shared_bytes: to_u32(OP, "num_experts", shape.shared_bytes())?,
        ..Launch::new(num_ctas, 32 * shape.num_warps)
    };
    // SAFETY: `GateArgs` checked the extents against the tensors, which the caller keeps until the
    // stream has passed.
    unsafe { launch.enqueue(OP, &stream.driver, kernel, &params) }
}

/// How many tokens a CTA has, and what each takes.
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
