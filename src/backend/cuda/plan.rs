//! Plan: what the kernel of `csrc/kernels/plan` is launched with.

use super::abi::{self, PlanParams};
use super::driver::Launch;
use super::params::to_u32;
use super::{Cuda, CudaStream};
use crate::error::{Error, Result};
use crate::moe::plan::{PlanArgs, RowLayout};

const OP: &str = "plan";
/// Most warps of a CTA, and CTAs of a cluster that every device takes.
const MAX_WARPS: usize = 32;
const MAX_CTAS: usize = 8;
/// Slots that a warp has at least, before another CTA is worth the exchange between them.
const MIN_SLOTS_PER_WARP: usize = 256;

pub fn plan(cuda: &Cuda, stream: &CudaStream, mut args: PlanArgs<'_, Cuda>) -> Result<()> {
    let [num_tokens, num_topk] = args.topk_idx.shape();
    let (num_slots, [num_rows]) = (num_tokens * num_topk, args.out.src_info.shape());
    let kernel = cuda.kernel(OP, "plan")?;
    let num_local = args.local_experts.len();
    let shape = PlanShape::of(num_slots, num_rows, num_local, kernel.max_dynamic_shared_bytes)?;
    let (layout, expert_alignment, max_m) = match args.layout {
        RowLayout::Contiguous { expert_alignment } => {
            (abi::RowLayout::Contiguous, expert_alignment, 0)
        }
        RowLayout::Masked { max_m } => (abi::RowLayout::Masked, 1, max_m),
    };
    let out = &mut args.out;
    let load = out.expert_load.as_mut();
    let (topk_weights, row_weights) = match &mut args.weights {
        Some(weights) => (weights.topk_weights.as_ptr(), weights.row_weights.as_mut_ptr()),
        None => (std::ptr::null(), std::ptr::null_mut()),
    };
    let params = PlanParams {
        topk_idx: args.topk_idx.as_ptr(),
        expert_offsets: out.expert_offsets.as_mut_ptr(),
        num_recv_tokens_per_expert: out.num_recv_tokens_per_expert.as_mut_ptr(),
        expert_load: load.map_or(std::ptr::null_mut(), |load| load.as_mut_ptr()),
        grouped_layout: out.grouped_layout.as_mut_ptr(),
        src_info: out.src_info.as_mut_ptr(),
        slot_rows: out.slot_rows.as_mut_ptr(),
        topk_weights,
        row_weights,
        faults: stream.fault_sink(),
        expert_alignment: expert_alignment as u64,
        layout,
        max_m: to_u32(OP, "max_m", max_m)?,
        num_slots: to_u32(OP, "topk_idx", num_slots)?,
        num_rows: to_u32(OP, "src_info", num_rows)?,
        // An index is an i32: more experts than 2^31 are all of them.
        num_experts: to_u32(OP, "num_experts", args.num_experts.min(1 << 31))?,
        first_local_expert: to_u32(OP, "local_experts", args.local_experts.start)?,
        num_local_experts: to_u32(OP, "local_experts", num_local)?,
        reserved: 0,
    };
    let launch = Launch {
        shared_bytes: to_u32(OP, "local_experts", shape.shared_bytes(num_local))?,
        cluster_len: shape.num_ctas as u32,
        ..Launch::new(shape.num_ctas as u32, 32 * shape.num_warps as u32)
    };
    // SAFETY: `PlanArgs` checked the extents against the tensors, which the caller keeps until the
    // stream has passed.
    unsafe { launch.enqueue(OP, &stream.driver, kernel, &params) }
}

/// The cluster that plans.
#[derive(Debug, PartialEq, Eq)]
struct PlanShape {
    num_ctas: usize,
    num_warps: usize,
}

impl PlanShape {
    /// As many warps as have enough slots and rows each, and as fit: each counts every expert.
    fn of(
        num_slots: usize,
        num_rows: usize,
        num_local: usize,
        max_shared_bytes: usize,
    ) -> Result<Self> {
        let fits = |num_warps: usize| {
            let shape = Self { num_ctas: 1, num_warps };
            shape.shared_bytes(num_local) <= max_shared_bytes
        };
        let Some(most) = (1..=MAX_WARPS).rev().find(|&num_warps| fits(num_warps)) else {
            let expected = "as many as one CTA's shared memory has counts for";
            return Err(Error::value(OP, "local_experts", expected, num_local));
        };
        let wanted = num_slots.max(num_rows).div_ceil(MIN_SLOTS_PER_WARP).max(1);
        let num_ctas = wanted.div_ceil(most).next_power_of_two().min(MAX_CTAS);
        Ok(Self { num_ctas, num_warps: wanted.div_ceil(num_ctas).min(most) })
    }

    /// As `PlanSmem` lies: offsets, then counts of this CTA, of all and of those below, counts of each warp.
    fn shared_bytes(&self, num_local: usize) -> usize {
        (num_local + 1) * size_of::<u64>() + (3 + self.num_warps) * num_local * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const H100: usize = 227 << 10;

    fn shape(num_slots: usize, num_local: usize) -> (usize, usize) {
        let shape = PlanShape::of(num_slots, 0, num_local, H100).expect("fits");
        assert!(shape.shared_bytes(num_local) <= H100);
        (shape.num_ctas, shape.num_warps)
    }

    #[test]
    fn small_plans_take_one_cta_and_large_ones_the_largest_cluster() {
        assert_eq!(shape(0, 32), (1, 1));
        assert_eq!(shape(1024, 32), (1, 4));
        assert_eq!(shape(8 * 128 * 8, 32), (1, 32));
        assert_eq!(shape(8 * 8192 * 8, 32), (8, 32));
    }

    #[test]
    fn many_experts_leave_room_for_fewer_warps() {
        assert_eq!(shape(1 << 20, 256), (8, 32));
        assert_eq!(shape(1 << 20, 4096).1, 9);
        assert_eq!(shape(1 << 20, 9_500).1, 1);
        let error = PlanShape::of(1, 0, 100_000, H100).expect_err("too many").to_string();
        assert!(error.starts_with("plan: `local_experts` is 100000"), "{error}");
    }
}
