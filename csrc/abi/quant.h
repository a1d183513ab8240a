// Quantisation. Meaning: src/moe/quant.rs.
#pragma once

#include "abi/fault.h"
#include "abi/rows.h"
#include "abi/tensor.h"

namespace moekit::abi {

// kernels/quant/token.cuh
struct QuantizeParams {
    StackIn x;     // BF16 or FP32 [num_groups, m, k]
    QuantOut out;  // E4M3 and FP32, per token x 128
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

// kernels/quant/tiles.cuh, `quantize_block` and `quantize_channel`
struct QuantizeTilesParams {
    StackIn x;     // BF16 or FP32 [num_groups, m, n]
    QuantOut out;  // E4M3 [num_groups, m, n]; the scales' rows are tiles of 128 rows, their blocks columns of tiles
    uint32_t num_groups, m, n;
    uint32_t num_row_tiles, num_column_tiles;  // num_groups * num_row_tiles * num_column_tiles < 2^31
    uint32_t reserved;
};
static_assert(sizeof(QuantizeTilesParams) == 128);

// kernels/quant/dequantize.cuh
struct DequantizeParams {
    StackIn values;       // E4M3 [num_groups, m, k]
    StackOut out;         // BF16 or FP32 [num_groups, m, k]
    const float* scales;  // FP32 [num_groups, ceil_div(m, tile_rows), ceil_div(k, tile_columns)]
    uint64_t scales_group_stride;
    uint64_t scales_row_stride;
    uint64_t scales_column_stride;
    uint32_t num_groups, m, k;
    uint32_t tile_rows, tile_columns;  // of one scale; tile_columns is 1 or a multiple of 16
    uint32_t num_pieces;               // ceil_div(k, 16); num_groups * m * num_pieces < 2^32
};
static_assert(sizeof(DequantizeParams) == 120);

// [num_groups, num_rows, num_columns] with any strides, in elements.
struct Strides {
    uint64_t group, row, column;
};
static_assert(sizeof(Strides) == 24);

// kernels/quant/scales.cuh
struct ScalesParams {
    const void* source;  // FP32 [num_groups, num_rows, num_blocks], or four UE8M0 bytes a word
    float* destination;  // FP32 [num_groups, num_rows, num_blocks]
    Strides source_strides, destination_strides;
    uint32_t num_groups, num_rows, num_blocks;
    uint32_t num_units;  // scales, below 2^32
};
static_assert(sizeof(ScalesParams) == 80);

// kernels/quant/pack.cuh
struct PackScalesParams {
    const float* scales;  // FP32 [num_groups, num_rows, num_blocks]
    uint32_t* out;        // four UE8M0 bytes each [num_groups, num_rows, ceil_div(num_blocks, 4)]
    Strides in_strides, out_strides;
    FaultSink faults;
    uint32_t num_groups, num_rows, num_blocks;
    uint32_t num_row_tiles, num_word_tiles;  // tiles of 32 x 32 words, less than 2^20 in all groups
    uint32_t reserved;
};
static_assert(sizeof(PackScalesParams) == 104);

}  // namespace moekit::abi
