// Routes tokens: logits FP32 [num_tokens, num_experts], bias FP32 [num_experts] to topk_idx INT32 and topk_weights FP32
// [num_tokens, num_topk]. One warp has one token and keeps it in registers: a lane has kPerLane neighbouring experts at
// most, a group of experts whole lanes, so lanes ascend with the experts. Ties go to the lower index; sums run in
// ascending index in every lane alike. More experts or choices: shared.cuh. Meaning: src/moe/gate.rs.
#pragma once

#include "abi/gate.h"
#include "common/exp.cuh"
#include "common/fault.cuh"
#include "common/float_key.cuh"
#include "common/warp.cuh"
#include "layout/elements.cuh"

namespace moekit::kernels {

constexpr uint32_t kGateLanesThreads = 256;

static_assert(kGateLanesThreads % 32 == 0, "a token has a whole warp");

// Shared memory: a token's exponentials, which softmax adds up in their order.
template <uint32_t kPerLane>
struct GateLanesSmem {
    alignas(16) float exponentials[kGateLanesThreads / 32][32 * kPerLane];
};

// The experts of one lane; those behind `num` have kNoKey.
template <uint32_t kPerLane>
struct LaneExperts {
    uint32_t group, first, num;
    float scores[kPerLane];   // logits at first
    uint32_t keys[kPerLane];  // of biased scores

    MK_DEVICE explicit LaneExperts(const abi::GateParams& p) {
        const uint32_t group_len = p.num_experts / p.num_expert_groups;
        group = common::lane_idx() / p.lanes_per_group;
        const uint32_t first_in_group = common::lane_idx() % p.lanes_per_group * p.experts_per_lane;
        first = group * group_len + first_in_group;
        const bool has_experts = group < p.num_expert_groups and first_in_group < group_len;
        num = has_experts ? min(group_len - first_in_group, p.experts_per_lane) : 0;
    }
};

// The first `num` of some words, then zeros; four at a time where `is_wide`, and then `num` is a multiple of four.
template <uint32_t kPerLane>
MK_DEVICE void load_lane(const float* src, uint32_t num, bool is_wide, float (&x)[kPerLane]) {
    if (not is_wide)
        return layout::load_each(src, num, x);
#pragma unroll
    for (uint32_t j = 0; j < kPerLane; j += 4) {
        const uint4 raw = j < num ? __ldg(reinterpret_cast<const uint4*>(src + j)) : uint4{0, 0, 0, 0};
        layout::unpack(raw, x + j, float{});
    }
}

// Turns logits into softmax's scores; a NaN stays one.
template <uint32_t kPerLane>
MK_DEVICE void softmax_lane(const abi::GateParams& p, LaneExperts<kPerLane>& experts, float* exponentials) {
    float largest = -INFINITY;
#pragma unroll
    for (uint32_t j = 0; j < kPerLane; ++j)
        largest = fmaxf(largest, j < experts.num ? experts.scores[j] : -INFINITY);
    largest = common::warp_max(largest);
#pragma unroll
    for (uint32_t j = 0; j < kPerLane; ++j) {
        const bool is_nan = common::is_nan(experts.scores[j]);
        const float exponential = is_nan ? 0.0f : common::exp(experts.scores[j] - largest);
        if (j < experts.num)
            exponentials[experts.first + j] = exponential;
        experts.scores[j] = is_nan ? experts.scores[j] : exponential;
    }
    __syncwarp();
    float sum = 0.0f;
#pragma unroll 8
    for (uint32_t i = 0; i < p.num_experts; ++i)
        sum += exponentials[i];
#pragma unroll
    for (uint32_t j = 0; j < kPerLane; ++j)
        experts.scores[j] /= sum;
}

// Turns logits into scores and the keys of biased scores; a NaN has score 0, ranks as -infinity and is recorded.
template <uint32_t kPerLane>
MK_DEVICE void score_lane(const abi::GateParams& p, uint32_t token, LaneExperts<kPerLane>& experts,
                          float* exponentials) {
    float bias[kPerLane] = {};
    if (p.bias != nullptr)
        load_lane(p.bias + experts.first, experts.num, p.is_aligned != 0, bias);
    bool has_nan_logit = false, has_nan = false;
#pragma unroll
    for (uint32_t j = 0; j < kPerLane; ++j)
        has_nan_logit |= common::is_nan(experts.scores[j]);
    if (p.scoring == abi::Scoring::kSoftmax) {
        softmax_lane(p, experts, exponentials);
    } else {
#pragma unroll
        for (uint32_t j = 0; j < kPerLane; ++j)
            experts.scores[j] = common::sigmoid(experts.scores[j]);
    }
#pragma unroll
    for (uint32_t j = 0; j < kPerLane; ++j) {
        const float biased = p.bias == nullptr ? experts.scores[j] : experts.scores[j] + bias[j];
        const bool is_nan = common::is_nan(biased);
        const uint32_t key = is_nan ? common::kLowestKey : common::float_key(biased);
        experts.keys[j] = j < experts.num ? key : common::kNoKey;
        experts.scores[j] = is_nan ? 0.0f : experts.scores[j];
        has_nan |= is_nan and j < experts.num;
    }
    if (not __any_sync(common::kFullWarp, has_nan))
        return;
    const uint32_t cause = __any_sync(common::kFullWarp, has_nan_logit) ? 0 : 1;
    if (common::lane_idx() == 0)
        common::claim_fault(p.faults, abi::FaultKind::kGateLogits, 2 * token + cause);
}

// The key of this lane's group: of the sum of its two largest biased scores, or of the largest alone in a group of one.
template <uint32_t kPerLane>
MK_DEVICE uint32_t group_key(const abi::GateParams& p, const LaneExperts<kPerLane>& experts) {
    uint32_t largest = common::kLowestKey, second = common::kLowestKey;
    const auto insert = [&](uint32_t key) {
        second = max(second, min(largest, key));
        largest = max(largest, key);
    };
#pragma unroll
    for (uint32_t j = 0; j < kPerLane; ++j)
        insert(experts.keys[j]);
    for (uint32_t distance = p.lanes_per_group / 2; distance > 0; distance /= 2) {
        const uint32_t other_largest = __shfl_xor_sync(common::kFullWarp, largest, distance);
        const uint32_t other_second = __shfl_xor_sync(common::kFullWarp, second, distance);
        insert(other_largest);
        insert(other_second);
    }
    float sum = common::float_of_key(largest);
    if (p.num_experts > p.num_expert_groups)
        sum += common::float_of_key(second);
    return common::is_nan(sum) ? common::kLowestKey : common::float_key(sum);
}

// Gives the experts outside the best groups the key of -infinity.
template <uint32_t kPerLane>
MK_DEVICE void mask_lanes(const abi::GateParams& p, LaneExperts<kPerLane>& experts) {
    if (p.num_topk_groups == p.num_expert_groups)
        return;
    const uint32_t mine = group_key(p, experts);
    uint32_t num_before = 0;
    for (uint32_t group = 0; group < p.num_expert_groups; ++group) {
        const uint32_t other = __shfl_sync(common::kFullWarp, mine, group * p.lanes_per_group);
        num_before += other > mine or (other == mine and group < experts.group);
    }
#pragma unroll
    for (uint32_t j = 0; j < kPerLane; ++j) {
        if (num_before >= p.num_topk_groups and j < experts.num)
            experts.keys[j] = common::kLowestKey;
    }
}

// Picks experts by descending biased score, and weighs them by their unbiased score; choice i is lane i's to write.
template <uint32_t kPerLane>
MK_DEVICE void choose_of_lanes(const abi::GateParams& p, uint32_t token, LaneExperts<kPerLane>& experts) {
    float sum = 0.0f, my_score = 0.0f;
    uint32_t my_expert = 0;
    for (uint32_t i = 0; i < p.num_topk; ++i) {
        uint32_t lane_key = common::kNoKey;
#pragma unroll
        for (uint32_t j = 0; j < kPerLane; ++j)
            lane_key = max(lane_key, experts.keys[j]);
        const uint32_t key = __reduce_max_sync(common::kFullWarp, lane_key);
        // The first lane with this key, and there the first expert.
        const uint32_t owner = __ffs(__ballot_sync(common::kFullWarp, lane_key == key)) - 1;
        uint32_t expert = experts.first;
        float score = experts.scores[0];
#pragma unroll
        for (uint32_t j = kPerLane; j-- > 0;) {
            expert = experts.keys[j] == key ? experts.first + j : expert;
            score = experts.keys[j] == key ? experts.scores[j] : score;
        }
#pragma unroll
        for (uint32_t j = 0; j < kPerLane; ++j) {
            const bool is_taken = common::lane_idx() == owner and experts.first + j == expert;
            experts.keys[j] = is_taken ? common::kNoKey : experts.keys[j];
        }
        expert = __shfl_sync(common::kFullWarp, expert, owner);
        score = __shfl_sync(common::kFullWarp, score, owner);
        sum += score;
        my_expert = i == common::lane_idx() ? expert : my_expert;
        my_score = i == common::lane_idx() ? score : my_score;
    }
    if (common::lane_idx() >= p.num_topk)
        return;
    const uint64_t at = static_cast<uint64_t>(token) * p.num_topk + common::lane_idx();
    const float weight = p.renormalize != 0 ? my_score / (sum + 1e-20f) : my_score;
    p.topk_idx[at] = static_cast<int32_t>(my_expert);
    p.topk_weights[at] = weight * p.routed_scaling_factor;
}

template <uint32_t kPerLane>
MK_DEVICE void gate_lanes(const abi::GateParams& p) {
    __shared__ GateLanesSmem<kPerLane> smem;
    const uint32_t token = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (token >= p.num_tokens)
        return;
    LaneExperts<kPerLane> experts(p);
    load_lane(p.logits + token * p.logits_row_stride + experts.first, experts.num, p.is_aligned != 0, experts.scores);
    score_lane(p, token, experts, smem.exponentials[threadIdx.x / 32]);
    mask_lanes(p, experts);
    choose_of_lanes(p, token, experts);
}

}  // namespace moekit::kernels
