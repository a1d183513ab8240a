// SwiGLU's gradients: grad_out [num_groups, m, half] to grad_gate_up [num_groups, m, 2 * half], BF16 or FP32, and
// the row weights' gradients FP32 [num_groups * m]. One CTA has one row, a thread eight neighbouring columns at a time.
// The contract adds up the weight's gradient in 32 sums, of the columns that are congruent modulo 32, and those by
// halves: the factors go through shared memory to the lanes of the first warp. Padding rows are not read and become
// zeros. Meaning: src/moe/swiglu/backward.rs.
#pragma once

#include "abi/swiglu.h"
#include "common/swiglu.cuh"
#include "common/warp.cuh"
#include "layout/elements.cuh"
#include "layout/rows.cuh"
#include "sched/row_pieces.cuh"

namespace moekit::kernels {

constexpr uint32_t kSwigluBackwardThreads = 256;
// Columns of a thread.
constexpr uint32_t kSwigluColumns = 8;

static_assert(kSwigluBackwardThreads % 32 == 0, "the sums are a warp's");

// Factors of the weight's gradient, column by column of a round.
struct SwigluBackwardSmem {
    alignas(16) float grad_out[kSwigluBackwardThreads * kSwigluColumns];
    alignas(16) float unweighted[kSwigluBackwardThreads * kSwigluColumns];
};

// What a thread has of a row.
template <typename T, typename D>
struct SwigluColumns {
    float gate[kSwigluColumns], up[kSwigluColumns], grad_out[kSwigluColumns];

    MK_DEVICE SwigluColumns(const T* gate_src, const T* up_src, const D* grad_src, uint32_t num_valid, bool is_aligned,
                            bool is_grad_aligned) {
        if (is_aligned and is_grad_aligned and num_valid == kSwigluColumns) {
            const layout::RawPiece<T, kSwigluColumns> raw_gate(gate_src), raw_up(up_src);
            const layout::RawPiece<D, kSwigluColumns> raw_grad(grad_src);
            raw_gate.unpack_to(gate);
            raw_up.unpack_to(up);
            raw_grad.unpack_to(grad_out);
        } else {
            layout::load_each(gate_src, num_valid, gate);
            layout::load_each(up_src, num_valid, up);
            layout::load_each(grad_src, num_valid, grad_out);
        }
    }

    // The sigmoids of the cut gates, and these times them. NOTE: where all gates are near nothing branches in between.
    MK_DEVICE void activate(float limit, float (&sigmoids)[kSwigluColumns], float (&silus)[kSwigluColumns]) const {
        bool are_near = true;
#pragma unroll
        for (uint32_t i = 0; i < kSwigluColumns; ++i)
            are_near &= common::is_near(common::clamp_gate(gate[i], limit));
        if (are_near) {
#pragma unroll
            for (uint32_t i = 0; i < kSwigluColumns; ++i) {
                sigmoids[i] = common::sigmoid_near(common::clamp_gate(gate[i], limit));
                silus[i] = common::silu_near(common::clamp_gate(gate[i], limit));
            }
        } else {
#pragma unroll
            for (uint32_t i = 0; i < kSwigluColumns; ++i) {
                sigmoids[i] = common::sigmoid(common::clamp_gate(gate[i], limit));
                silus[i] = common::silu(common::clamp_gate(gate[i], limit));
            }
        }
    }
};

// The first lanes' sums, added up by halves, in lane 0.
MK_DEVICE float sum_of_lanes(float sum) {
#pragma unroll
    for (uint32_t distance = 16; distance > 0; distance /= 2)
        sum += __shfl_down_sync(common::kFullWarp, sum, distance);
    return sum;
}

// One row's gradients; returns this lane's part of the weight's gradient in the first warp, if that is wanted.
template <typename T, typename D>
MK_DEVICE float write_gradients(const abi::SwigluBackwardParams& p, uint32_t group, uint32_t row, D* grads,
                                bool are_grads_aligned, SwigluBackwardSmem& smem) {
    const abi::SwigluInput& in = p.input;
    const T* gate =
        static_cast<const T*>(in.gate_up.data) + group * in.gate_up.group_stride + row * in.gate_up.row_stride;
    const D* grad_out =
        static_cast<const D*>(p.grad_out.data) + group * p.grad_out.group_stride + row * p.grad_out.row_stride;
    const float weight = in.row_weights == nullptr ? 1.0f : in.row_weights[static_cast<uint64_t>(group) * in.m + row];
    const uint32_t round = blockDim.x * kSwigluColumns;
    float sum = 0.0f;
    for (uint32_t first = 0; first < in.half; first += round) {
        const uint32_t column = first + threadIdx.x * kSwigluColumns;
        const uint32_t num_valid = column < in.half ? min(in.half - column, kSwigluColumns) : 0;
        const SwigluColumns<T, D> x(gate + column, gate + in.half + column, grad_out + column, num_valid,
                                    in.is_half_aligned != 0, p.grad_out.is_aligned != 0);
        float sigmoids[kSwigluColumns], silus[kSwigluColumns], grad_gate[kSwigluColumns], grad_up[kSwigluColumns];
        x.activate(in.limit, sigmoids, silus);
#pragma unroll
        for (uint32_t i = 0; i < kSwigluColumns; ++i) {
            const common::SwigluGradients grad =
                common::swiglu_gradients(x.gate[i], x.up[i], sigmoids[i], x.grad_out[i], in.limit, weight);
            grad_gate[i] = grad.gate;
            grad_up[i] = grad.up;
        }
        layout::store_piece(grads + column, grad_gate, num_valid, are_grads_aligned);
        layout::store_piece(grads + in.half + column, grad_up, num_valid, are_grads_aligned);
        if (p.grad_row_weights == nullptr)
            continue;
#pragma unroll
        for (uint32_t i = 0; i < kSwigluColumns; i += 4) {
            float unweighted[4];
#pragma unroll
            for (uint32_t j = 0; j < 4; ++j)
                unweighted[j] = silus[i + j] * common::clamp_up(x.up[i + j], in.limit);
            const uint32_t at = threadIdx.x * kSwigluColumns + i;
            *reinterpret_cast<float4*>(smem.grad_out + at) = {x.grad_out[i], x.grad_out[i + 1], x.grad_out[i + 2],
                                                              x.grad_out[i + 3]};
            *reinterpret_cast<float4*>(smem.unweighted + at) = {unweighted[0], unweighted[1], unweighted[2],
                                                                unweighted[3]};
        }
        __syncthreads();
        const uint32_t num_columns = threadIdx.x < 32 ? min(in.half - first, round) : 0;
#pragma unroll 4
        for (uint32_t i = threadIdx.x; i < num_columns; i += 32)
            sum = fmaf(smem.grad_out[i], smem.unweighted[i], sum);
        __syncthreads();
    }
    return sum;
}

template <typename T, typename D>
MK_DEVICE void swiglu_backward(const abi::SwigluBackwardParams& p) {
    __shared__ SwigluBackwardSmem smem;
    const abi::SwigluInput& in = p.input;
    const sched::RowPiece at = sched::row_piece(blockIdx.x, in.num_groups, in.m, 1);
    D* grads = static_cast<D*>(p.grad_gate_up.data) + at.group * p.grad_gate_up.group_stride +
               at.row * p.grad_gate_up.row_stride;
    const bool are_grads_aligned = p.grad_gate_up.is_aligned != 0 and in.half * sizeof(D) % 16 == 0;
    float sum = 0.0f;
    if (layout::has_token(in.rows, at.group, at.row, in.m)) {
        sum = write_gradients<T>(p, at.group, at.row, grads, are_grads_aligned, smem);
    } else {
        const float zeros[kSwigluColumns] = {};
        for (uint32_t column = threadIdx.x * kSwigluColumns; column < 2 * in.half;
             column += blockDim.x * kSwigluColumns) {
            const uint32_t num_valid = min(2 * in.half - column, kSwigluColumns);
            layout::store_piece(grads + column, zeros, num_valid, p.grad_gate_up.is_aligned != 0);
        }
    }
    if (threadIdx.x >= 32 or p.grad_row_weights == nullptr)
        return;
    sum = sum_of_lanes(sum);
    if (threadIdx.x == 0)
        layout::store_element(p.grad_row_weights + blockIdx.x, sum);
}

}  // namespace moekit::kernels
