// Writes 64 rows of a block of D in FP32, or adds to them, straight from the products' registers: four lanes have 32
// neighbouring bytes of a row, a whole sector, so shared memory would gain nothing and cost stages.
#pragma once

#include "abi/gemm.h"
#include "sched/block.cuh"

namespace moekit::epilogue {

// Columns `column` and the next, as far as D has them.
MK_DEVICE void store_pair(float* out, float x, float y, bool adds, bool has_both, bool is_aligned) {
    if (has_both and is_aligned) {
        auto& pair = *reinterpret_cast<float2*>(out);
        const float2 before = adds ? pair : make_float2(0.0f, 0.0f);
        pair = adds ? make_float2(before.x + x, before.y + y) : make_float2(x, y);
        return;
    }
    out[0] = adds ? out[0] + x : x;
    if (has_both)
        out[1] = adds ? out[1] + y : y;
}

// Rows up to `num_rows` of the slice and columns up to `end_n` of D, from the layout of the products; rows from
// `num_computed` on are set, not added to.
template <uint32_t kN>
MK_DEVICE void store_f32(const abi::GemmParams& p, const sched::Block& block, uint32_t first_row, uint32_t num_computed,
                         uint32_t num_rows, const float (&accum)[kN / 2], uint32_t warp_in_group,
                         uint32_t end_n) {
    const uint32_t lane = threadIdx.x % 32;
#pragma unroll
    for (uint32_t half = 0; half < 2; ++half) {
        const uint32_t row = warp_in_group * 16 + half * 8 + lane / 4;
        if (row >= num_rows)
            continue;
        const bool adds = p.kind == abi::GemmOut::kF32Accumulate and row < num_computed;
        float* out =
            static_cast<float*>(p.out.data) + block.a_group * p.out.group_stride + (first_row + row) * p.out.row_stride;
#pragma unroll
        for (uint32_t j = 0; j < kN / 8; ++j) {
            const uint32_t column = block.column + 8 * j + 2 * (lane % 4);
            if (column < end_n)
                store_pair(out + column, accum[4 * j + 2 * half], accum[4 * j + 2 * half + 1], adds, column + 1 < end_n,
                           p.out.is_aligned);
        }
    }
}

// Rows up to `num_rows` of the block and a warp's 16 columns from `first_column` on, as far as `end_n`, from products whose M side is D's
// columns: eight lanes have 32 neighbouring bytes.
template <uint32_t kN>
MK_DEVICE void store_f32_swapped(const abi::GemmParams& p, const sched::Block& block, uint32_t first_column,
                                 uint32_t num_rows, const float (&accum)[kN / 2], uint32_t end_n) {
    const uint32_t lane = threadIdx.x % 32;
#pragma unroll
    for (uint32_t i = 0; i < kN / 2; ++i) {
        const uint32_t row = i / 4 * 8 + 2 * (lane % 4) + i % 2;
        const uint32_t column = first_column + lane / 4 + i / 2 % 2 * 8;
        if (row >= num_rows or column >= end_n)
            continue;
        float* out = static_cast<float*>(p.out.data) + block.a_group * p.out.group_stride +
                     (block.row + row) * p.out.row_stride + column;
        const bool adds = p.kind == abi::GemmOut::kF32Accumulate and row < block.num_rows;
        *out = adds ? *out + accum[i] : accum[i];
    }
}

}  // namespace moekit::epilogue
