// Plans rows: topk_idx INT32 [num_slots] to counts, offsets, the expert and slot of each row, the row of each slot; the
// rows of an expert ascend by slot. One cluster does all of it. A warp has a run of neighbouring slots, a CTA the runs
// of its warps: counts per warp and expert lie in shared memory, become first positions by sums over the warps below
// and over the CTAs below (read from their shared memory), and then the runs are walked again in order.
// Accesses are as wide as a slot: a lane is a slot, which keeps the order. Launched by src/backend/cuda/plan.rs, which
// knows the shared memory below. Meaning: src/moe/plan.rs.
#pragma once

#include "abi/plan.h"
#include "common/fault.cuh"
#include "common/search.cuh"
#include "common/warp.cuh"
#include "ptx/cluster.cuh"

namespace moekit::kernels {

constexpr uint32_t kPlanMaxThreads = 1024;
constexpr uint32_t kPlanMaxCtas = 8;
// Loads that a lane has on their way at a time.
constexpr uint32_t kPlanBatch = 4;

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

// Writes the expert of every row, and -1 as the slot of padding rows; the others' slots come from `place_slots`. A
// thread has four neighbouring rows.
MK_DEVICE void write_rows(const abi::PlanParams& p, const PlanSmem& smem) {
    constexpr uint32_t kRows = 4;
    const bool is_aligned =
        (reinterpret_cast<uint64_t>(p.grouped_layout) | reinterpret_cast<uint64_t>(p.src_info)) % 16 == 0;
    const uint32_t num_threads = ptx::cluster_nctarank() * blockDim.x;
    const uint32_t thread = ptx::cluster_ctarank() * blockDim.x + threadIdx.x;
    for (uint64_t first = kRows * thread; first < p.num_rows; first += kRows * num_threads) {
        const uint32_t num_rows = min(p.num_rows - static_cast<uint32_t>(first), kRows);
        // Behind the last expert that starts at or before the row.
        uint32_t after = common::num_at_most(smem.ends, p.num_local_experts + 1, first);
        int32_t experts[kRows];
        bool are_padding = true;
#pragma unroll
        for (uint32_t i = 0; i < kRows; ++i) {
            const uint64_t row = first + i;
            while (after <= p.num_local_experts and smem.ends[after] <= row)
                ++after;
            const bool has_token =
                after <= p.num_local_experts and row - smem.ends[after - 1] < smem.num_recv[after - 1];
            experts[i] = has_token ? static_cast<int32_t>(after - 1) : -1;
            are_padding = are_padding and not has_token;
        }
        if (is_aligned and num_rows == kRows) {
            *reinterpret_cast<int4*>(p.grouped_layout + first) = {experts[0], experts[1], experts[2], experts[3]};
            if (are_padding) {
                *reinterpret_cast<int4*>(p.src_info + first) = {-1, -1, -1, -1};
                continue;
            }
        }
#pragma unroll
        for (uint32_t i = 0; i < kRows; ++i) {
            if (i < num_rows and not(is_aligned and num_rows == kRows))
                p.grouped_layout[first + i] = experts[i];
            if (i < num_rows and experts[i] < 0)
                p.src_info[first + i] = -1;
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
