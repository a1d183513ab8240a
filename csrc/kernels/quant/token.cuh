// Quantises activations per token x 128 of K: x [num_groups, m, k] BF16 or FP32 to E4M3 with one FP32 scale per row
// and 128 columns. k is a multiple of 16; padding rows are not read and become the codes and scales of zeros.
// One thread has 16 elements, eight lanes share a scale, a CTA has 32 blocks of a flat walk; nothing is shared between
// warps. Meaning: src/moe/quant/token.rs.
#pragma once

#include "abi/quant.h"
#include "epilogue/quantize.cuh"
#include "layout/elements.cuh"
#include "layout/rows.cuh"
#include "sched/row_pieces.cuh"

namespace moekit::kernels {

constexpr uint32_t kQuantizeThreads = 256;

static_assert(kQuantizeThreads % 32 == 0, "the eight lanes of a block are in one warp");

template <typename T>
MK_DEVICE void quantize(const abi::QuantizeParams& p) {
    constexpr uint32_t kLanes = epilogue::kLanesPerBlock;
    const uint32_t flat_block = blockIdx.x * (kQuantizeThreads / kLanes) + threadIdx.x / kLanes;
    const uint32_t piece = threadIdx.x % kLanes;
    const sched::RowPiece at = sched::row_piece(flat_block, p.num_groups, p.m, p.num_blocks);
    const uint32_t column = at.unit * common::kGranK + piece * layout::kPiece;
    const bool has_piece = at.is_valid and column < p.k;

    float x[layout::kPiece] = {};
    if (has_piece and layout::has_token(p.rows, at.group, at.row, p.m)) {
        const T* row = static_cast<const T*>(p.x.data) + at.group * p.x.group_stride + at.row * p.x.row_stride;
        if (p.x.is_aligned)
            layout::RawPiece<T>(row + column).unpack_to(x);
        else
            layout::load_each(row + column, layout::kPiece, x);
    }
    epilogue::quantize_block(p.out, at.group, at.row, at.unit, piece, has_piece, x);
}

}  // namespace moekit::kernels
