// Gate. Meaning: src/moe/gate.rs.
#pragma once

#include "abi/fault.h"

namespace moekit::abi {

enum class Scoring : uint32_t { kSoftmax = 0, kSigmoid = 1 };

// kernels/gate/lanes.cuh and kernels/gate/shared.cuh
struct GateParams {
    const float* logits;  // FP32 [num_tokens, num_experts]
    uint64_t logits_row_stride;
    const float* bias;    // FP32 [num_experts]; null = 0
    int32_t* topk_idx;    // INT32 [num_tokens, num_topk]
    float* topk_weights;  // FP32 [num_tokens, num_topk]
    FaultSink faults;
    uint32_t num_tokens, num_experts, num_topk;
    uint32_t num_expert_groups, num_topk_groups;
    Scoring scoring;
    uint32_t renormalize;
    float routed_scaling_factor;
    // 1 if every row of logits starts at a multiple of 16 bytes; lanes.cuh: if what each lane has of logits and bias
    // does
    uint32_t is_aligned;
    uint32_t token_bytes;  // shared.cuh: shared memory of one token, 12 * align(num_experts, 4)
    // lanes.cuh: the power of two, at most 32 / num_expert_groups; of a group's experts each lane has so many.
    uint32_t lanes_per_group, experts_per_lane;
};
static_assert(sizeof(GateParams) == 104);
static_assert(offsetof(GateParams, num_tokens) == 56);

}  // namespace moekit::abi
