// Quantisation. Meaning: src/moe/quant.rs.
#pragma once

#include "abi/fault.h"
#include "abi/rows.h"
#include "abi/tensor.h"

namespace moekit::abi {

// kernels/quant/token.cuh
struct QuantizeParams {
    StackIn x;       // BF16 or FP32 [num_groups, m, k]
    QuantOut out;    // E4M3 and FP32, per token x 128
    RowsParams rows;
    uint32_t num_groups, m, k;
    uint32_t num_blocks;  // ceil_div(k, 128); num_groups * m * num_blocks < 2^32
};
static_assert(sizeof(QuantizeParams) == 144);
static_assert(offsetof(QuantizeParams, num_groups) == 128);

// kernels/quant/transpose.cuh
struct QuantizeTransposeParams {
    StackIn x;                                  // BF16 or FP32 [1, m, num_features], m % 128 == 0
    const int32_t* expert_offsets;              // INT32 [num_groups + 1]
    const int32_t* num_recv_tokens_per_expert;  // INT32 [num_groups]
    uint8_t* values;                            // E4M3 [num_features * m]
    float* scales;                              // FP32 [num_features * m / 128]
    FaultSink faults;
    uint32_t m, num_features, num_groups;
    uint32_t num_feature_tiles;  // CTAs side by side; (m / 128) * num_feature_tiles < 2^31
    ScaleFormat format;
    uint32_t is_aligned;  // 1 if `values` is aligned to 16 bytes
};
static_assert(sizeof(QuantizeTransposeParams) == 104);
static_assert(offsetof(QuantizeTransposeParams, m) == 80);

}  // namespace moekit::abi
