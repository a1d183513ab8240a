// What there is per expert and per row, apart from the rows' slots.
#pragma once

#include "common/fault.cuh"
#include "kernels/plan/sums.cuh"

namespace moekit::kernels {

// Writes what there is per expert, and records rows that do not fit. One CTA does.
MK_DEVICE void write_experts(const abi::PlanParams& p, const PlanSmem& smem) {
    uint32_t most = 0;
    for (uint32_t local = threadIdx.x; local < p.num_local_experts; local += blockDim.x) {
        const uint32_t num_recv = smem.num_recv[local];
        p.expert_offsets[local] = static_cast<int32_t>(min(smem.ends[local], static_cast<uint64_t>(p.num_rows)));
        p.num_recv_tokens_per_expert[local] = static_cast<int32_t>(num_recv);
        if (p.expert_load != nullptr) {
            const int64_t load = static_cast<int64_t>(p.expert_load[local]) + num_recv;
            p.expert_load[local] = static_cast<int32_t>(min(load, static_cast<int64_t>(INT32_MAX)));
        }
    }
    if (threadIdx.x >= 32)
        return;
    for (uint32_t local = common::lane_idx(); local < p.num_local_experts; local += 32)
        most = max(most, smem.num_recv[local]);
    most = __reduce_max_sync(common::kFullWarp, most);
    if (common::lane_idx() != 0)
        return;
    const uint64_t end = smem.ends[p.num_local_experts];
    p.expert_offsets[p.num_local_experts] = static_cast<int32_t>(min(end, static_cast<uint64_t>(p.num_rows)));
    const bool is_masked = p.layout == abi::RowLayout::kMasked;
    const uint64_t needed = is_masked ? most : end, capacity = is_masked ? p.max_m : p.num_rows;
    if (needed > capacity) {
        common::claim_fault(p.faults, abi::FaultKind::kPlanCapacity, 0);
        common::explain_fault(p.faults, abi::FaultKind::kPlanCapacity, 0, static_cast<int64_t>(needed),
                              static_cast<int64_t>(capacity), is_masked);
    }
}

// Rows [start, end) of one expert, clipped: its index on the first `num_recv` and -1 on the others, which have no slot
// and no weight either. A lane has four neighbouring rows; of the lines of 128, this warp has each `num_parts`-th from
// `part` on.
MK_DEVICE void write_segment(const abi::PlanParams& p, int32_t expert, uint64_t start, uint64_t end, uint32_t num_recv,
                             uint32_t part, uint32_t num_parts) {
    constexpr uint32_t kRows = 4;
    end = min(end, static_cast<uint64_t>(p.num_rows));
    const bool is_aligned =
        (reinterpret_cast<uint64_t>(p.grouped_layout + start) | reinterpret_cast<uint64_t>(p.src_info + start)) % 16 ==
        0;
    const uint64_t step = static_cast<uint64_t>(32 * kRows) * num_parts;
    for (uint64_t first = start + 32 * kRows * part + kRows * common::lane_idx(); first < end; first += step) {
        const uint64_t before = first - start;
        int32_t experts[kRows];
#pragma unroll
        for (uint32_t i = 0; i < kRows; ++i)
            experts[i] = before + i < num_recv ? expert : -1;
        const bool is_whole = is_aligned and end - first >= kRows;
        if (is_whole)
            *reinterpret_cast<int4*>(p.grouped_layout + first) = {experts[0], experts[1], experts[2], experts[3]};
        if (p.row_weights != nullptr) {
#pragma unroll
            for (uint32_t i = 0; i < kRows; ++i)
                if (first + i < end and experts[i] < 0)
                    p.row_weights[first + i] = 0.0f;
        }
        if (is_whole and before >= num_recv) {
            *reinterpret_cast<int4*>(p.src_info + first) = {-1, -1, -1, -1};
            continue;
        }
#pragma unroll
        for (uint32_t i = 0; i < kRows; ++i) {
            if (first + i < end and not is_whole)
                p.grouped_layout[first + i] = experts[i];
            if (first + i < end and experts[i] < 0)
                p.src_info[first + i] = -1;
        }
    }
}

// Writes the expert of every row, and of padding rows -1 as the slot and 0 as the weight; the others' come from
// `place_slots`. The cluster's warps share the experts; where there are more warps, several share one.
MK_DEVICE void write_rows(const abi::PlanParams& p, const PlanSmem& smem) {
    const uint32_t num_warps = ptx::cluster_nctarank() * (blockDim.x / 32);
    const uint32_t warp = threadIdx.x / 32 * ptx::cluster_nctarank() + ptx::cluster_ctarank();
    const uint32_t num_parts = max(num_warps / max(p.num_local_experts, 1u), 1u);
    for (uint32_t local = warp / num_parts; local < p.num_local_experts; local += num_warps / num_parts)
        write_segment(p, static_cast<int32_t>(local), smem.ends[local], smem.ends[local + 1], smem.num_recv[local],
                      warp % num_parts, num_parts);
    // Behind the last expert.
    write_segment(p, -1, smem.ends[p.num_local_experts], p.num_rows, 0, warp, num_warps);
}

}  // namespace moekit::kernels
