// Counts of slots to first rows: over the warps of a CTA, over the CTAs of the cluster, over the experts.
#pragma once

#include "abi/plan.h"
#include "common/bits.cuh"
#include "common/warp.cuh"
#include "ptx/cluster.cuh"

namespace moekit::kernels {

constexpr uint32_t kPlanMaxThreads = 1024;
constexpr uint32_t kPlanMaxCtas = 8;

static_assert(kPlanMaxThreads / 32 <= 32, "one warp adds up the warps' counts");

// Shared memory: 8-byte words first.
struct PlanSmem {
    uint64_t* ends;      // [num_local_experts + 1], first row of each expert before clipping, and the end
    uint32_t* totals;    // [num_local_experts], this CTA's tokens of each expert; read by peers
    uint32_t* num_recv;  // [num_local_experts], all CTAs' tokens
    uint32_t* below;     // [num_local_experts], tokens of the CTAs below
    uint32_t* counts;    // [num_warps][num_local_experts], later each warp's next position within the CTA's tokens

    MK_DEVICE PlanSmem(const abi::PlanParams& p, uint8_t* memory) {
        ends = reinterpret_cast<uint64_t*>(memory);
        totals = reinterpret_cast<uint32_t*>(ends + p.num_local_experts + 1);
        num_recv = totals + p.num_local_experts;
        below = num_recv + p.num_local_experts;
        counts = below + p.num_local_experts;
    }
};

// Turns counts into first positions within this CTA, and leaves its totals.
MK_DEVICE void add_up_warps(const abi::PlanParams& p, PlanSmem& smem) {
    constexpr uint32_t kBatch = 8;
    const uint32_t num_warps = blockDim.x / 32;
    for (uint32_t local = threadIdx.x; local < p.num_local_experts; local += blockDim.x) {
        uint32_t total = 0;
        for (uint32_t first = 0; first < num_warps; first += kBatch) {
            // NOTE: all are read before one is written, else each read would wait for the write before it.
            uint32_t* batch = smem.counts + first * p.num_local_experts + local;
            uint32_t counts[kBatch];
#pragma unroll
            for (uint32_t i = 0; i < kBatch; ++i)
                counts[i] = first + i < num_warps ? batch[i * p.num_local_experts] : 0;
#pragma unroll
            for (uint32_t i = 0; i < kBatch; ++i) {
                if (first + i < num_warps)
                    batch[i * p.num_local_experts] = total;
                total += counts[i];
            }
        }
        smem.totals[local] = total;
    }
}

// Rows that an expert takes.
MK_DEVICE uint64_t num_rows_of(const abi::PlanParams& p, uint32_t num_recv) {
    if (p.layout == abi::RowLayout::kMasked)
        return p.max_m;
    // An alignment of 2^32 - 1 or more is more than all tokens: one multiple of it, or none.
    const uint32_t alignment = static_cast<uint32_t>(min(p.expert_alignment, static_cast<uint64_t>(UINT32_MAX)));
    const uint32_t num_whole = num_recv / alignment;
    return (num_whole + (num_whole * alignment < num_recv ? 1 : 0)) * p.expert_alignment;
}

// Finds the tokens of all CTAs and of those below, and the rows of each expert.
MK_DEVICE void add_up_ctas(const abi::PlanParams& p, PlanSmem& smem) {
    const uint32_t num_ctas = ptx::cluster_nctarank(), rank = ptx::cluster_ctarank();
    for (uint32_t local = threadIdx.x; local < p.num_local_experts; local += blockDim.x) {
        uint32_t totals[kPlanMaxCtas];
#pragma unroll
        for (uint32_t cta = 0; cta < kPlanMaxCtas; ++cta)
            totals[cta] = cta < num_ctas ? ptx::mapa_u64(smem.totals, cta)[local] : 0;
        uint32_t below = 0, all = 0;
#pragma unroll
        for (uint32_t cta = 0; cta < kPlanMaxCtas; ++cta) {
            below += cta < rank ? totals[cta] : 0;
            all += totals[cta];
        }
        smem.below[local] = below;
        smem.num_recv[local] = all;
        smem.ends[local] = num_rows_of(p, all);
    }
}

// The first warp turns the experts' rows into their first rows: each lane those of a run of experts.
MK_DEVICE void add_up_experts(const abi::PlanParams& p, PlanSmem& smem) {
    if (threadIdx.x >= 32)
        return;
    const uint32_t len = common::ceil_div(p.num_local_experts, 32);
    const uint32_t first = min(common::lane_idx() * len, p.num_local_experts);
    const uint32_t end = min(first + len, p.num_local_experts);
    uint64_t num_rows = 0;
#pragma unroll 4
    for (uint32_t local = first; local < end; ++local)
        num_rows += smem.ends[local];
    const uint64_t sum = common::warp_inclusive_sum(num_rows);
    uint64_t before = sum - num_rows;
    for (uint32_t local = first; local < end; ++local) {
        const uint64_t rows = smem.ends[local];
        smem.ends[local] = before;
        before += rows;
    }
    if (common::lane_idx() == 31)
        smem.ends[p.num_local_experts] = sum;
}

}  // namespace moekit::kernels
