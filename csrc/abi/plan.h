// Plan. Meaning: src/moe/plan.rs.
#pragma once

#include "abi/fault.h"

namespace moekit::abi {

enum class RowLayout : uint32_t { kContiguous = 0, kMasked = 1 };

// kernels/plan/plan.cuh
struct PlanParams {
    const int32_t* topk_idx;              // INT32 [num_slots]; physical expert, -1 = not selected
    int32_t* expert_offsets;              // INT32 [num_local_experts + 1]
    int32_t* num_recv_tokens_per_expert;  // INT32 [num_local_experts]
    int32_t* expert_load;                 // INT32 [num_local_experts], added to; null = none
    int32_t* grouped_layout;              // INT32 [num_rows]
    int32_t* src_info;                    // INT32 [num_rows]
    int32_t* slot_rows;                   // INT32 [num_slots]
    const float* topk_weights;            // FP32 [num_slots]; used if `row_weights` is not null
    float* row_weights;                   // FP32 [num_rows]; null = not wanted
    FaultSink faults;
    uint64_t expert_alignment;  // contiguous layout: at least 1
    RowLayout layout;
    uint32_t max_m;                // masked layout: rows of each expert
    uint32_t num_slots, num_rows;  // below 2^31
    uint32_t num_experts;          // of all ranks, at most 2^31
    uint32_t first_local_expert, num_local_experts;
    uint32_t reserved;
};
static_assert(sizeof(PlanParams) == 128);
static_assert(offsetof(PlanParams, layout) == 96);

}  // namespace moekit::abi
