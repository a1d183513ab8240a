// Matrix products. Meaning: src/gemm.
#pragma once

#include "abi/fault.h"
#include "abi/rows.h"
#include "abi/tensor.h"

namespace moekit::abi {

// What the driver encodes of a tensor for TMA (CUtensorMap).
struct alignas(64) TensorMap {
    uint64_t words[16];
};
static_assert(sizeof(TensorMap) == 128);

// FP32 [num_groups, num_rows, num_blocks] with any strides, in elements.
struct ScalesIn {
    const float* data;
    uint64_t group_stride;
    uint64_t row_stride;
    uint64_t block_stride;
};
static_assert(sizeof(ScalesIn) == 32);

enum class GemmOut : uint32_t { kBf16 = 0, kF32 = 1, kF32Accumulate = 2 };

// What the CTAs of a cluster share: an operand that two load once for both, B if their blocks lie one below the other,
// A if side by side; or the block of D itself, of which each of two, four or eight sums a part of K.
enum class ClusterShares : uint32_t { kNothing = 0, kA = 1, kB = 2, kD = 3 };

// Which scales lie side by side, so that TMA can load them: none, those of neighbouring rows in a block of K, or those
// of neighbouring blocks in a row.
enum class ScaleOrder : uint32_t { kAny = 0, kRows = 1, kBlocks = 2 };

// kernels/gemm
struct GemmParams {
    TensorMap a;                         // E4M3 or BF16 [num_a_groups, m, k]
    TensorMap b;                         // E4M3 or BF16 [num_groups, n, k]
    TensorMap d;                         // BF16 [num_a_groups, m, n]; used if `stores_by_tma`
    TensorMap a_scale_map, b_scale_map;  // as below, inner extent first as the order says; used if both have one; of
                                         // gated weights [num_groups, n / 128, 2, ceil_div(k, 128)]
    ScalesIn a_scales;                   // E4M3 only: [num_a_groups, m, ceil_div(k, 128)]
    ScalesIn b_scales;                   // E4M3 only: [num_groups, ceil_div(n, 128), ceil_div(k, 128)]
    StackOut out;                        // BF16 or FP32 [num_a_groups, m, n]
    RowsParams rows;                     // kMasked: num_a_groups = num_groups; otherwise 1
    FaultSink faults;
    const float* row_weights;  // FP32 [num_a_groups * m]; null = 1
    uint32_t m, n, k, num_groups;
    uint32_t num_stages;  // of the ring in shared memory
    uint32_t band_width;  // blocks along M that are walked together along N, so that B stays in the L2 cache
    GemmOut kind;
    ClusterShares cluster_shares;
    uint32_t stores_by_tma;
    ScaleOrder a_scale_order, b_scale_order;  // both kAny, or neither; then blocks of K come in fours
    uint32_t reserved;
};
static_assert(sizeof(GemmParams) == 832);
static_assert(offsetof(GemmParams, a_scales) == 640);
static_assert(offsetof(GemmParams, m) == 784);

}  // namespace moekit::abi
