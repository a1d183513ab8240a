// Routes tokens: logits FP32 [num_tokens, num_experts], bias FP32 [num_experts] to topk_idx INT32 and topk_weights FP32
// [num_tokens, num_topk], for more experts than lanes.cuh keeps in registers. One warp has one token and shares nothing
// with the others; a token's scores and the keys of its biased scores lie in shared memory, `token_bytes` of it. Ties
// go to the lower index; sums run in ascending index in every lane alike. Meaning: src/moe/gate.rs.
#pragma once

#include "abi/gate.h"
#include "common/exp.cuh"
#include "common/fault.cuh"
#include "common/float_key.cuh"
#include "common/warp.cuh"
#include "layout/elements.cuh"

namespace moekit::kernels {

constexpr uint32_t kGateMaxThreads = 256;

static_assert(kGateMaxThreads % 32 == 0, "a token has a whole warp");

// Shared memory of one token: three arrays, each of num_experts words rounded up to 16 bytes.
struct GateSmem {
    float* scores;     // [num_experts], later unbiased scores
    uint32_t* keys;    // [num_experts], biased scores as keys; kNoKey = taken
    uint32_t* choice;  // [num_experts], of which the first are the groups' keys, then the chosen experts

    MK_DEVICE GateSmem(const abi::GateParams& p, uint8_t* memory) {
        const uint32_t stride = p.token_bytes / (3 * sizeof(uint32_t));
        scores = reinterpret_cast<float*>(memory + threadIdx.x / 32 * p.token_bytes);
        keys = reinterpret_cast<uint32_t*>(scores) + stride;
        choice = keys + stride;
    }
};

// Position of the first largest key; 0 if all are taken.
MK_DEVICE uint32_t first_max(const uint32_t* keys, uint32_t num_keys) {
    uint32_t best_key = common::kNoKey, best_idx = 0;
    for (uint32_t i = common::lane_idx(); i < num_keys; i += 32) {
        if (keys[i] > best_key) {
            best_key = keys[i];
            best_idx = i;
        }
    }
    const uint32_t key = __reduce_max_sync(common::kFullWarp, best_key);
    const uint32_t idx = best_key == key ? best_idx : UINT32_MAX;
    return key == common::kNoKey ? 0 : __reduce_min_sync(common::kFullWarp, idx);
}

// Copies the logits, NaN included, and returns the largest number; records a NaN.
MK_DEVICE float load_logits(const abi::GateParams& p, uint32_t token, GateSmem& smem) {
    const float* logits = p.logits + token * p.logits_row_stride;
    float largest = -INFINITY;
    bool has_nan = false;
    for (uint32_t i = common::lane_idx() * 4; i < p.num_experts; i += 128) {
        float x[4];
        const uint32_t num_valid = min(p.num_experts - i, 4u);
        if (p.is_aligned and num_valid == 4)
            layout::unpack(__ldg(reinterpret_cast<const uint4*>(logits + i)), x, float{});
        else
            layout::load_each(logits + i, num_valid, x);
        *reinterpret_cast<float4*>(smem.scores + i) = {x[0], x[1], x[2], x[3]};
#pragma unroll
        for (uint32_t j = 0; j < 4; ++j) {
            largest = fmaxf(largest, j < num_valid ? x[j] : -INFINITY);
            has_nan |= common::is_nan(x[j]);
        }
    }
    if (__any_sync(common::kFullWarp, has_nan) and common::lane_idx() == 0)
        common::claim_fault(p.faults, abi::FaultKind::kGateLogits, 2 * token);
    __syncwarp();
    return common::warp_max(largest);
}

// Turns logits into scores and the keys of biased scores; a NaN has score 0, ranks as -infinity and is recorded.
MK_DEVICE void score(const abi::GateParams& p, uint32_t token, float largest, GateSmem& smem) {
    float sum = 0.0f;
    if (p.scoring == abi::Scoring::kSoftmax) {
        for (uint32_t i = common::lane_idx(); i < p.num_experts; i += 32) {
            const float logit = smem.scores[i];
            // The keys' memory holds the exponentials for now: the logits are still asked whether they are NaN.
            smem.keys[i] = common::to_bits(common::is_nan(logit) ? 0.0f : common::exp(logit - largest));
        }
        __syncwarp();
        for (uint32_t i = 0; i < p.num_experts; ++i)
            sum += common::from_bits(smem.keys[i]);
        __syncwarp();
    }
    bool has_nan = false;
    for (uint32_t i = common::lane_idx(); i < p.num_experts; i += 32) {
        const float logit = smem.scores[i];
        const float unbiased =
            p.scoring == abi::Scoring::kSoftmax ? common::from_bits(smem.keys[i]) / sum : common::sigmoid(logit);
        const float biased = p.bias == nullptr ? unbiased : unbiased + p.bias[i];
        const bool is_nan = common::is_nan(logit) or common::is_nan(biased);
        has_nan |= is_nan;
        smem.scores[i] = is_nan ? 0.0f : unbiased;
        smem.keys[i] = is_nan ? common::kLowestKey : common::float_key(biased);
    }
    if (__any_sync(common::kFullWarp, has_nan) and common::lane_idx() == 0)
        common::claim_fault(p.faults, abi::FaultKind::kGateLogits, 2 * token + 1);
    __syncwarp();
}

// Sum of a group's two largest biased scores; the largest alone in a group of one. NaN if they are opposite infinities.
MK_DEVICE float top2_sum(const uint32_t* keys, uint32_t group_len) {
    uint32_t first = common::kLowestKey, second = common::kLowestKey;
    const auto insert = [&](uint32_t key) {
        second = max(second, min(first, key));
        first = max(first, key);
    };
    for (uint32_t i = common::lane_idx(); i < group_len; i += 32)
        insert(keys[i]);
#pragma unroll
    for (uint32_t distance = 16; distance > 0; distance /= 2) {
        const uint32_t other_first = __shfl_xor_sync(common::kFullWarp, first, distance);
        const uint32_t other_second = __shfl_xor_sync(common::kFullWarp, second, distance);
        insert(other_first);
        insert(other_second);
    }
    const float largest = common::float_of_key(first);
    return group_len == 1 ? largest : largest + common::float_of_key(second);
}

// Gives the experts outside the best groups the key of -infinity.
MK_DEVICE void mask_groups(const abi::GateParams& p, GateSmem& smem) {
    if (p.num_topk_groups == p.num_expert_groups)
        return;
    const uint32_t group_len = p.num_experts / p.num_expert_groups;
    uint32_t* group_keys = smem.choice;
    for (uint32_t group = 0; group < p.num_expert_groups; ++group) {
        const float sum = top2_sum(smem.keys + group * group_len, group_len);
        if (common::lane_idx() == 0)
            group_keys[group] = common::is_nan(sum) ? common::kLowestKey : common::float_key(sum);
    }
    __syncwarp();
    for (uint32_t i = 0; i < p.num_topk_groups; ++i) {
        const uint32_t best = first_max(group_keys, p.num_expert_groups);
        __syncwarp();
        if (common::lane_idx() == 0)
            group_keys[best] = common::kNoKey;
        __syncwarp();
    }
    for (uint32_t group = 0; group < p.num_expert_groups; ++group) {
        if (group_keys[group] == common::kNoKey)
            continue;
        for (uint32_t i = common::lane_idx(); i < group_len; i += 32)
            smem.keys[group * group_len + i] = common::kLowestKey;
    }
    __syncwarp();
}

// Picks experts by descending biased score, and weighs them by their unbiased score.
MK_DEVICE void choose(const abi::GateParams& p, uint32_t token, GateSmem& smem) {
    float sum = 0.0f;
    for (uint32_t i = 0; i < p.num_topk; ++i) {
        const uint32_t best = first_max(smem.keys, p.num_experts);
        sum += smem.scores[best];
        __syncwarp();
        if (common::lane_idx() == 0) {
            smem.keys[best] = common::kNoKey;
            smem.choice[i] = best;
        }
        __syncwarp();
    }
    const uint64_t first = static_cast<uint64_t>(token) * p.num_topk;
    for (uint32_t i = common::lane_idx(); i < p.num_topk; i += 32) {
        const uint32_t expert = smem.choice[i];
        const float weight = p.renormalize != 0 ? smem.scores[expert] / (sum + 1e-20f) : smem.scores[expert];
        p.topk_idx[first + i] = static_cast<int32_t>(expert);
        p.topk_weights[first + i] = weight * p.routed_scaling_factor;
    }
}

MK_DEVICE void gate_shared(const abi::GateParams& p) {
    extern __shared__ __align__(16) uint8_t gate_memory[];
    GateSmem smem(p, gate_memory);
    const uint32_t token = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (token >= p.num_tokens)
        return;
    const float largest = load_logits(p, token, smem);
    score(p, token, largest, smem);
    mask_groups(p, smem);
    choose(p, token, smem);
}

}  // namespace moekit::kernels
