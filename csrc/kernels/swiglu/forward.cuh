// SwiGLU forward: gate_up [num_groups, m, 2 * half] BF16 or FP32 to act [num_groups, m, half], rounded to BF16 or FP32
// (`swiglu`), or quantised per token x 128 without a rounding in between (`swiglu_quantize`; half % 16 == 0). Padding
// rows are not read and become those of zeros. One thread has 16 activations of a flat walk over the rows; nothing is
// shared between warps. Meaning: src/moe/swiglu.rs.
#pragma once

#include "abi/swiglu.h"
#include "common/swiglu.cuh"
#include "epilogue/quantize.cuh"
#include "layout/elements.cuh"
#include "layout/rows.cuh"
#include "sched/row_pieces.cuh"

namespace moekit::kernels {

constexpr uint32_t kSwigluThreads = 256;

static_assert(kSwigluThreads % 32 == 0, "the eight lanes of a block are in one warp");

// Activations of gates and up-projections. NOTE: where all gates are near, as nearly always, nothing branches in
// between and the steps of all 16 overlap.
MK_DEVICE void activate(const abi::SwigluInput& in, float (&g)[layout::kPiece], float (&u)[layout::kPiece],
                        float weight, float (&act)[layout::kPiece]) {
    if (in.limit < INFINITY) {
#pragma unroll
        for (uint32_t i = 0; i < layout::kPiece; ++i) {
            g[i] = common::clamp_gate(g[i], in.limit);
            u[i] = common::clamp_up(u[i], in.limit);
        }
    }
    bool are_near = true;
#pragma unroll
    for (uint32_t i = 0; i < layout::kPiece; ++i)
        are_near = are_near and common::is_near(g[i]);
    if (are_near) {
#pragma unroll
        for (uint32_t i = 0; i < layout::kPiece; ++i)
            act[i] = common::silu_near(g[i]) * u[i] * weight;
    } else {
#pragma unroll
        for (uint32_t i = 0; i < layout::kPiece; ++i)
            act[i] = common::silu(g[i]) * u[i] * weight;
    }
}

// The `num_valid` activations from `column` on, then zeros; zeros for a padding row.
template <typename T>
MK_DEVICE void load_activations(const abi::SwigluInput& in, uint32_t group, uint32_t row, uint32_t column,
                                uint32_t num_valid, float (&act)[layout::kPiece]) {
    if (num_valid == 0 or not layout::has_token(in.rows, group, row, in.m))
        return;
    const T* gate =
        static_cast<const T*>(in.gate_up.data) + group * in.gate_up.group_stride + row * in.gate_up.row_stride + column;
    const float weight = in.row_weights == nullptr ? 1.0f : in.row_weights[static_cast<uint64_t>(group) * in.m + row];
    float g[layout::kPiece], u[layout::kPiece];
    if (in.is_half_aligned and num_valid == layout::kPiece) {
        const layout::RawPiece<T> raw_gate(gate), raw_up(gate + in.half);
        raw_gate.unpack_to(g);
        raw_up.unpack_to(u);
    } else {
        layout::load_each(gate, num_valid, g);
        layout::load_each(gate + in.half, num_valid, u);
    }
    activate(in, g, u, weight, act);
}

template <typename T, typename U>
MK_DEVICE void swiglu(const abi::SwigluParams& p) {
    const uint32_t flat_piece = blockIdx.x * kSwigluThreads + threadIdx.x;
    const sched::RowPiece at = sched::row_piece(flat_piece, p.input.num_groups, p.input.m, p.num_pieces);
    if (not at.is_valid)
        return;
    const uint32_t column = at.unit * layout::kPiece;
    const uint32_t num_valid = min(p.input.half - column, layout::kPiece);
    float act[layout::kPiece] = {};
    load_activations<T>(p.input, at.group, at.row, column, num_valid, act);
    U* out = static_cast<U*>(p.out.data) + at.group * p.out.group_stride + at.row * p.out.row_stride + column;
    layout::store_piece(out, act, num_valid, p.out.is_aligned);
}

template <typename T>
MK_DEVICE void swiglu_quantize(const abi::SwigluQuantizeParams& p) {
    constexpr uint32_t kLanes = epilogue::kLanesPerBlock;
    const uint32_t flat_block = blockIdx.x * (kSwigluThreads / kLanes) + threadIdx.x / kLanes;
    const uint32_t piece = threadIdx.x % kLanes;
    const sched::RowPiece at = sched::row_piece(flat_block, p.input.num_groups, p.input.m, p.num_blocks);
    const uint32_t column = at.unit * common::kGranK + piece * layout::kPiece;
    const bool has_piece = at.is_valid and column < p.input.half;

    float act[layout::kPiece] = {};
    load_activations<T>(p.input, at.group, at.row, column, has_piece ? layout::kPiece : 0, act);
    epilogue::quantize_block(p.out, at.group, at.row, at.unit, piece, has_piece, act);
}

}  // namespace moekit::kernels
