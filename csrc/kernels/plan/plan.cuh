// Plans rows: topk_idx INT32 [num_slots] to counts, offsets, the expert and slot of each row, the row of each slot, the
// weight of each row if wanted; the rows of an expert ascend by slot. One cluster does all of it. A warp has a run of
// neighbouring slots, a CTA the runs of its warps: counts per warp and expert lie in shared memory, become first
// positions by sums over the warps below and over the CTAs below (read from their shared memory), and then the runs are
// walked again in order.
// Accesses are as wide as a slot: a lane is a slot, which keeps the order. Launched by src/backend/cuda/plan.rs, which
// knows the shared memory below. Meaning: src/moe/plan.rs.
#pragma once

#include "abi/plan.h"
#include "common/fault.cuh"
#include "common/warp.cuh"
#include "kernels/plan/rows.cuh"
#include "kernels/plan/sums.cuh"
#include "ptx/cluster.cuh"

namespace moekit::kernels {

// Loads that a lane has on their way at a time.
constexpr uint32_t kPlanBatch = 4;

// The slots of one warp.
struct PlanRun {
    uint32_t first, end;

    MK_DEVICE explicit PlanRun(const abi::PlanParams& p) {
        const uint32_t num_warps = blockDim.x / 32;
        const uint32_t num_runs = ptx::cluster_nctarank() * num_warps;
        const uint32_t run = ptx::cluster_ctarank() * num_warps + threadIdx.x / 32;
        // Whole lines of 32 slots, so that a warp's loads are whole segments of memory.
        const uint64_t len = common::ceil_div(common::ceil_div(p.num_slots, num_runs), 32) * 32;
        first = static_cast<uint32_t>(min(run * len, static_cast<uint64_t>(p.num_slots)));
        end = static_cast<uint32_t>(min(first + len, static_cast<uint64_t>(p.num_slots)));
    }
};

// The experts of 32 * kPlanBatch slots of a run from `first` on, -1 behind its end; lane by lane, then batch by batch.
struct PlanSlots {
    int32_t experts[kPlanBatch];

    MK_DEVICE PlanSlots(const abi::PlanParams& p, const PlanRun& run, uint32_t first) {
#pragma unroll
        for (uint32_t i = 0; i < kPlanBatch; ++i) {
            const uint32_t slot = first + 32 * i + common::lane_idx();
            experts[i] = slot < run.end ? p.topk_idx[slot] : -1;
        }
    }
};

// The local expert of a slot; num_local_experts or more if it has none.
MK_DEVICE uint32_t local_expert(const abi::PlanParams& p, int32_t expert) {
    return expert < 0 ? UINT32_MAX : static_cast<uint32_t>(expert) - p.first_local_expert;
}

MK_DEVICE bool is_out_of_range(const abi::PlanParams& p, int32_t expert) {
    return expert < -1 or (expert >= 0 and static_cast<uint32_t>(expert) >= p.num_experts);
}

// Counts the warp's slots by expert, and claims the fault record for the first index out of range.
MK_DEVICE void count_slots(const abi::PlanParams& p, const PlanRun& run, PlanSlots slots, PlanSmem& smem) {
    uint32_t* counts = smem.counts + threadIdx.x / 32 * p.num_local_experts;
    for (uint32_t i = common::lane_idx(); i < p.num_local_experts; i += 32)
        counts[i] = 0;
    __syncwarp();
    for (uint32_t first = run.first; first < run.end; first += 32 * kPlanBatch) {
        if (first != run.first)
            slots = PlanSlots(p, run, first);
#pragma unroll
        for (uint32_t i = 0; i < kPlanBatch; ++i) {
            const uint32_t local = local_expert(p, slots.experts[i]);
            if (local < p.num_local_experts)
                atomicAdd(&counts[local], 1u);
            if (is_out_of_range(p, slots.experts[i]))
                common::claim_fault(p.faults, abi::FaultKind::kPlanIndex, first + 32 * i + common::lane_idx());
        }
    }
}

// Gives 32 neighbouring slots their rows, in order; a lane is a slot.
MK_DEVICE void place_line(const abi::PlanParams& p, uint32_t slot, uint32_t end, int32_t expert, uint32_t* next,
                          const PlanSmem& smem) {
    const uint32_t lower_lanes = (1u << common::lane_idx()) - 1;
    const uint32_t local = local_expert(p, expert);
    const bool is_local = local < p.num_local_experts;
    // Lanes with the same expert; those of no local expert form a group that is not used.
    const uint32_t peers = __match_any_sync(common::kFullWarp, is_local ? local : UINT32_MAX);
    const uint32_t position = is_local ? next[local] + __popc(peers & lower_lanes) : 0;
    __syncwarp();
    if (is_local and (peers & lower_lanes) == 0)
        next[local] += __popc(peers);
    __syncwarp();

    int32_t slot_row = -1;
    if (is_local) {
        const uint64_t row = smem.ends[local] + smem.below[local] + position;
        const uint64_t limit = p.layout == abi::RowLayout::kMasked ? smem.ends[local + 1] : p.num_rows;
        if (row < limit) {
            slot_row = static_cast<int32_t>(row);
            p.src_info[row] = static_cast<int32_t>(slot);
            if (p.row_weights != nullptr)
                p.row_weights[row] = p.topk_weights[slot];
        }
    }
    if (slot < end)
        p.slot_rows[slot] = slot_row;
    if (is_out_of_range(p, expert))
        common::explain_fault(p.faults, abi::FaultKind::kPlanIndex, slot, expert, p.num_experts, 0);
}

// Walks the warp's slots in order.
MK_DEVICE void place_slots(const abi::PlanParams& p, const PlanRun& run, PlanSlots slots, PlanSmem& smem) {
    uint32_t* next = smem.counts + threadIdx.x / 32 * p.num_local_experts;
    for (uint32_t first = run.first; first < run.end; first += 32 * kPlanBatch) {
        if (first != run.first)
            slots = PlanSlots(p, run, first);
#pragma unroll
        for (uint32_t i = 0; i < kPlanBatch; ++i) {
            if (first + 32 * i < run.end)
                place_line(p, first + 32 * i + common::lane_idx(), run.end, slots.experts[i], next, smem);
        }
    }
}

MK_DEVICE void plan(const abi::PlanParams& p) {
    extern __shared__ __align__(16) uint8_t plan_memory[];
    PlanSmem smem(p, plan_memory);
    const PlanRun run(p);
    // The first slots of the run stay in registers until they are placed.
    const PlanSlots slots(p, run, run.first);

    count_slots(p, run, slots, smem);
    __syncthreads();
    add_up_warps(p, smem);
    // The peers' totals are there, and so are all claims of fault records.
    ptx::cluster_sync();
    add_up_ctas(p, smem);
    ptx::cluster_arrive();
    __syncthreads();
    add_up_experts(p, smem);
    __syncthreads();
    if (ptx::cluster_ctarank() == 0)
        write_experts(p, smem);
    write_rows(p, smem);
    place_slots(p, run, slots, smem);
    // NOTE: a CTA that ended would take its totals along while peers still read them.
    ptx::cluster_wait();
}

}  // namespace moekit::kernels
