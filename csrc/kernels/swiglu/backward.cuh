// SwiGLU's gradients: grad_out [num_groups, m, half] to grad_gate_up [num_groups, m, 2 * half], BF16 or FP32, and
// the row weights' gradients FP32 [num_groups * m]. One warp has one row, and a lane the columns that are congruent to
// it modulo 32: the contract adds them up in that order, then the lanes by halves. Accesses are as wide as an element
// for that reason. Padding rows are not read and become zeros. Meaning: src/moe/swiglu/backward.rs.
#pragma once

#include "abi/swiglu.h"
#include "common/swiglu.cuh"
#include "common/warp.cuh"
#include "layout/elements.cuh"
#include "layout/rows.cuh"
#include "sched/row_pieces.cuh"

namespace moekit::kernels {

constexpr uint32_t kSwigluBackwardThreads = 256;

static_assert(kSwigluBackwardThreads % 32 == 0, "a row has a whole warp");

// What a lane has of one column.
template <typename T, typename D>
struct SwigluColumn {
    float gate, up, grad_out;

    MK_DEVICE SwigluColumn(const T* gate_up, const D* grad, uint32_t half, uint32_t column)
        : gate(layout::to_f32(gate_up[column])),
          up(layout::to_f32(gate_up[half + column])),
          grad_out(layout::to_f32(grad[column])) {}
};

// Writes both gradients of the row's columns; returns this lane's part of the weight's gradient.
template <typename T, typename D>
MK_DEVICE float write_gradients(const abi::SwigluBackwardParams& p, uint32_t group, uint32_t row, D* grads) {
    const abi::SwigluInput& in = p.input;
    const T* gate_up =
        static_cast<const T*>(in.gate_up.data) + group * in.gate_up.group_stride + row * in.gate_up.row_stride;
    const D* grad_out =
        static_cast<const D*>(p.grad_out.data) + group * p.grad_out.group_stride + row * p.grad_out.row_stride;
    const float weight = in.row_weights == nullptr ? 1.0f : in.row_weights[static_cast<uint64_t>(group) * in.m + row];
    float sum = 0.0f;
#pragma unroll 4
    for (uint32_t column = common::lane_idx(); column < in.half; column += 32) {
        const SwigluColumn<T, D> x(gate_up, grad_out, in.half, column);
        const common::SwigluGradients grad = common::swiglu_gradients(x.gate, x.up, x.grad_out, in.limit, weight);
        layout::store_element(grads + column, grad.gate);
        layout::store_element(grads + in.half + column, grad.up);
        sum = fmaf(x.grad_out, common::swiglu_unweighted(x.gate, x.up, in.limit), sum);
    }
    return sum;
}

template <typename T, typename D>
MK_DEVICE void swiglu_backward(const abi::SwigluBackwardParams& p) {
    const abi::SwigluInput& in = p.input;
    const uint32_t flat_row = blockIdx.x * (kSwigluBackwardThreads / 32) + threadIdx.x / 32;
    const sched::RowPiece at = sched::row_piece(flat_row, in.num_groups, in.m, 1);
    if (not at.is_valid)
        return;
    D* grads = static_cast<D*>(p.grad_gate_up.data) + at.group * p.grad_gate_up.group_stride +
               at.row * p.grad_gate_up.row_stride;
    float sum = 0.0f;
    if (layout::has_token(in.rows, at.group, at.row, in.m)) {
        sum = write_gradients<T>(p, at.group, at.row, grads);
    } else {
        for (uint32_t column = common::lane_idx(); column < 2 * in.half; column += 32)
            layout::store_element(grads + column, 0.0f);
    }
#pragma unroll
    for (uint32_t distance = 16; distance > 0; distance /= 2)
        sum += __shfl_down_sync(common::kFullWarp, sum, distance);
    if (common::lane_idx() == 0 and p.grad_row_weights != nullptr)
        layout::store_element(p.grad_row_weights + flat_row, sum);
}

}  // namespace moekit::kernels
