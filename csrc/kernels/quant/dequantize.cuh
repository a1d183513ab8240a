// Multiplies codes and scales out: E4M3 [num_groups, m, k] with FP32 scales per tile_rows x tile_columns to BF16 or
// FP32. One thread has 16 elements of a flat walk over the rows; tile_columns is 1 or a multiple of 16.
// Meaning: src/moe/quant/dequantize.rs.
#pragma once

#include "abi/quant.h"
#include "common/e4m3.cuh"
#include "layout/elements.cuh"
#include "sched/row_pieces.cuh"

namespace moekit::kernels {

constexpr uint32_t kDequantizeThreads = 256;

// The first `num_valid` of 16 codes as values, then zeros.
MK_DEVICE void load_codes(const uint8_t* src, uint32_t num_valid, bool is_aligned, float (&x)[layout::kPiece]) {
    if (is_aligned and num_valid == layout::kPiece) {
        const uint4 raw = __ldg(reinterpret_cast<const uint4*>(src));
        const uint32_t words[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
        for (uint32_t i = 0; i < layout::kPiece; ++i)
            x[i] = common::e4m3_to_f32(words[i / 4] >> (8 * (i % 4)) & 0xff);
        return;
    }
#pragma unroll
    for (uint32_t i = 0; i < layout::kPiece; ++i)
        x[i] = i < num_valid ? common::e4m3_to_f32(src[i]) : 0.0f;
}

template <typename T>
MK_DEVICE void dequantize(const abi::DequantizeParams& p) {
    const uint32_t flat_piece = blockIdx.x * kDequantizeThreads + threadIdx.x;
    const sched::RowPiece at = sched::row_piece(flat_piece, p.num_groups, p.m, p.num_pieces);
    if (not at.is_valid)
        return;
    const uint32_t column = at.unit * layout::kPiece;
    const uint32_t num_valid = min(p.k - column, layout::kPiece);
    const auto* codes = static_cast<const uint8_t*>(p.values.data) + at.group * p.values.group_stride +
                        at.row * p.values.row_stride + column;
    const float* scales = p.scales + at.group * p.scales_group_stride + at.row / p.tile_rows * p.scales_row_stride;

    float x[layout::kPiece];
    load_codes(codes, num_valid, p.values.is_aligned, x);
    float sf = scales[column / p.tile_columns * p.scales_column_stride];
#pragma unroll
    for (uint32_t i = 0; i < layout::kPiece; ++i) {
        if (p.tile_columns == 1 and i < num_valid)
            sf = scales[(column + i) * p.scales_column_stride];
        x[i] *= sf;
    }
    T* out = static_cast<T*>(p.out.data) + at.group * p.out.group_stride + at.row * p.out.row_stride + column;
    layout::store_piece(out, x, num_valid, p.out.is_aligned);
}

}  // namespace moekit::kernels
