// SwiGLU. Meaning: src/moe/swiglu.rs.
#pragma once

#include "abi/rows.h"
#include "abi/tensor.h"

namespace moekit::abi {

struct SwigluInput {
    StackIn gate_up;           // BF16 or FP32 [num_groups, m, 2 * half]: gate, then up
    const float* row_weights;  // FP32 [num_groups * m]; null = 1
    RowsParams rows;
    float limit;                   // at least 0; infinity = none
    uint32_t num_groups, m, half;  // half = intermediate_hidden
    uint32_t is_half_aligned;      // 1 if gate and up of every row start at multiples of 16 bytes
    uint32_t reserved;
};
static_assert(sizeof(SwigluInput) == 88);
static_assert(offsetof(SwigluInput, limit) == 64);

// kernels/swiglu/forward.cuh, `swiglu`
struct SwigluParams {
    SwigluInput input;
    StackOut out;         // BF16 or FP32 [num_groups, m, half]
    uint32_t num_pieces;  // ceil_div(half, 16); num_groups * m * num_pieces < 2^32
    uint32_t reserved;
};
static_assert(sizeof(SwigluParams) == 128);

// kernels/swiglu/forward.cuh, `swiglu_quantize`
struct SwigluQuantizeParams {
    SwigluInput input;
    QuantOut out;
    uint32_t num_blocks;  // ceil_div(half, 128); num_groups * m * num_blocks < 2^32
    uint32_t reserved;
};
static_assert(sizeof(SwigluQuantizeParams) == 168);

// kernels/swiglu/backward.cuh
struct SwigluBackwardParams {
    SwigluInput input;
    StackIn grad_out;         // BF16 or FP32 [num_groups, m, half]
    StackOut grad_gate_up;    // as grad_out, [num_groups, m, 2 * half]
    float* grad_row_weights;  // FP32 [num_groups * m]; null = not wanted
};
static_assert(sizeof(SwigluBackwardParams) == 160);

}  // namespace moekit::abi
