// Writes 64 rows of a block of D, rounded to BF16, by way of shared memory: with TMA where D allows it and all rows
// of the slice are to be written, row by row otherwise.
#pragma once

#include "abi/gemm.h"
#include "layout/gemm_smem.cuh"
#include "ptx/cvt.cuh"
#include "ptx/stmatrix.cuh"
#include "ptx/sync.cuh"
#include "sched/block.cuh"

#include <cuda/ptx>

namespace moekit::epilogue {

constexpr uint32_t kSliceRows = 64;
constexpr uint32_t kBoxBytes = kSliceRows * 128;

// Byte offset of 16 bytes, columns 8 * chunk.., of row `row` in [columns / 64][64 rows][128 bytes], swizzled.
MK_DEVICE uint32_t slice_offset(uint32_t row, uint32_t chunk) {
    return chunk / 8 * kBoxBytes + row * 128 + (chunk % 8 ^ row % 8) * 16;
}

// A warp's 16 rows, from the layout of the products.
template <uint32_t kN>
MK_DEVICE void slice_to_shared(const float (&accum)[kN / 2], uint32_t slice_smem, uint32_t warp_in_group) {
    const uint32_t lane = threadIdx.x % 32;
    const uint32_t row = warp_in_group * 16 + lane % 16;
#pragma unroll
    for (uint32_t j = 0; j < kN / 8; j += 2) {
        const float* x = accum + 4 * j;
        ptx::stmatrix_x4(slice_smem + slice_offset(row, j + lane / 16), ptx::cvt_rn_bf16x2_f32(x[0], x[1]),
                         ptx::cvt_rn_bf16x2_f32(x[2], x[3]), ptx::cvt_rn_bf16x2_f32(x[4], x[5]),
                         ptx::cvt_rn_bf16x2_f32(x[6], x[7]));
    }
}

// All of the slice that D has, by one thread, as part of its open bulk group.
template <uint32_t kN>
MK_DEVICE void store_slice(const abi::GemmParams& p, const sched::Block& block, uint32_t first_row,
                           uint32_t slice_smem) {
#pragma unroll
    for (uint32_t box = 0; box < kN / layout::kStoreColumns; ++box) {
        const int32_t at[3] = {static_cast<int32_t>(block.column + box * layout::kStoreColumns),
                               static_cast<int32_t>(first_row), static_cast<int32_t>(block.a_group)};
        cuda::ptx::cp_async_bulk_tensor(cuda::ptx::space_global, cuda::ptx::space_shared, &p.d, at,
                                        __cvta_shared_to_generic(slice_smem + box * kBoxBytes));
    }
}

// Rows 0..num_rows of the slice, by the warpgroup's threads.
template <uint32_t kN>
MK_DEVICE void copy_rows(const abi::GemmParams& p, const sched::Block& block, uint32_t first_row, uint32_t num_rows,
                         uint32_t slice_smem) {
    constexpr uint32_t kChunks = kN / 8;
    for (uint32_t i = threadIdx.x % 128; i < num_rows * kChunks; i += 128) {
        const uint32_t row = i / kChunks, chunk = i % kChunks;
        const uint32_t column = block.column + chunk * 8;
        if (column >= p.n)
            continue;
        const auto& bytes = *static_cast<const uint4*>(__cvta_shared_to_generic(slice_smem + slice_offset(row, chunk)));
        auto* out = static_cast<uint16_t*>(p.out.data) + block.a_group * p.out.group_stride +
                    (first_row + row) * p.out.row_stride + column;
        if (p.out.is_aligned and column + 8 <= p.n) {
            *reinterpret_cast<uint4*>(out) = bytes;
        } else {
            const uint32_t words[4] = {bytes.x, bytes.y, bytes.z, bytes.w};
#pragma unroll
            for (uint32_t c = 0; c < 8; ++c)
                if (column + c < p.n)
                    out[c] = static_cast<uint16_t>(words[c / 2] >> (16 * (c % 2)));
        }
    }
}

}  // namespace moekit::epilogue
