// Writes a part of D, rounded to BF16, by way of shared memory: with TMA where D allows it and all rows of the part are
// to be written, row by row otherwise.
#pragma once

#include "abi/gemm.h"
#include "layout/gemm_smem.cuh"
#include "ptx/cvt.cuh"
#include "ptx/stmatrix.cuh"

#include <cuda/ptx>

namespace moekit::epilogue {

// Byte offset of 16 bytes, columns 8 * chunk.., of row `row` in [columns / 64][kRows][128 bytes], swizzled.
template <uint32_t kRows>
MK_DEVICE uint32_t chunk_offset(uint32_t row, uint32_t chunk) {
    return chunk / 8 * kRows * 128 + row * 128 + (chunk % 8 ^ row % 8) * 16;
}

// A warp's 16 rows of 64, from the layout of the products. Row and column in the swizzle meet all banks.
template <uint32_t kN>
MK_DEVICE void rows_to_shared(const float (&accum)[kN / 2], uint32_t smem, uint32_t warp_in_group) {
    const uint32_t lane = threadIdx.x % 32;
    const uint32_t row = warp_in_group * 16 + lane % 16;
#pragma unroll
    for (uint32_t j = 0; j < kN / 8; j += 2) {
        const float* x = accum + 4 * j;
        ptx::stmatrix_x4(smem + chunk_offset<64>(row, j + lane / 16), ptx::cvt_rn_bf16x2_f32(x[0], x[1]),
                         ptx::cvt_rn_bf16x2_f32(x[2], x[3]), ptx::cvt_rn_bf16x2_f32(x[4], x[5]),
                         ptx::cvt_rn_bf16x2_f32(x[6], x[7]));
    }
}

// A warp's 16 columns of 64 and all kN rows, from products whose M side is D's columns.
template <uint32_t kN>
MK_DEVICE void columns_to_shared(const float (&accum)[kN / 2], uint32_t smem, uint32_t warp_in_group) {
    const uint32_t lane = threadIdx.x % 32;
    const uint32_t chunk = warp_in_group * 2 + lane / 8 % 2;
    if constexpr (kN == 8) {
        ptx::stmatrix_x2_trans(smem + chunk_offset<kN>(lane % 8, chunk), ptx::cvt_rn_bf16x2_f32(accum[0], accum[1]),
                               ptx::cvt_rn_bf16x2_f32(accum[2], accum[3]));
    } else {
#pragma unroll
        for (uint32_t j = 0; j < kN / 8; j += 2) {
            const float* x = accum + 4 * j;
            const uint32_t row = 8 * (j + lane / 16) + lane % 8;
            ptx::stmatrix_x4_trans(smem + chunk_offset<kN>(row, chunk), ptx::cvt_rn_bf16x2_f32(x[0], x[1]),
                                   ptx::cvt_rn_bf16x2_f32(x[2], x[3]), ptx::cvt_rn_bf16x2_f32(x[4], x[5]),
                                   ptx::cvt_rn_bf16x2_f32(x[6], x[7]));
        }
    }
}

// A part of D that a warpgroup stores, as it lies in shared memory.
template <uint32_t kRows, uint32_t kColumns>
struct Bf16Box {
    static constexpr uint32_t kBytes = kRows * kColumns * 2;

    uint32_t smem;
    uint32_t group;        // of D
    uint32_t row, column;  // of D, first of the part

    // All of it that D has, by one thread, as part of its open bulk group.
    MK_DEVICE void store(const abi::GemmParams& p) const {
#pragma unroll
        for (uint32_t i = 0; i < kColumns / layout::kStoreColumns; ++i) {
            const int32_t at[3] = {static_cast<int32_t>(column + i * layout::kStoreColumns), static_cast<int32_t>(row),
                                   static_cast<int32_t>(group)};
            cuda::ptx::cp_async_bulk_tensor(cuda::ptx::space_global, cuda::ptx::space_shared, &p.d, at,
                                            __cvta_shared_to_generic(smem + i * kRows * 128));
        }
    }

    // Its first rows up to column `end_n` of D, by the warpgroup's threads.
    MK_DEVICE void copy_rows(const abi::GemmParams& p, uint32_t num_rows, uint32_t end_n) const {
        constexpr uint32_t kChunks = kColumns / 8;
        for (uint32_t i = threadIdx.x % 128; i < num_rows * kChunks; i += 128) {
            const uint32_t in_row = i % kChunks, at_column = column + in_row * 8;
            if (at_column >= end_n)
                continue;
            const uint32_t source = smem + chunk_offset<kRows>(i / kChunks, in_row);
            const uint4 bytes = *static_cast<const uint4*>(__cvta_shared_to_generic(source));
            auto* out = static_cast<uint16_t*>(p.out.data) + group * p.out.group_stride +
                        (row + i / kChunks) * p.out.row_stride + at_column;
            if (p.out.is_aligned and at_column + 8 <= end_n)
                *reinterpret_cast<uint4*>(out) = bytes;
            else
                copy_each(out, bytes, min(end_n - at_column, 8));
        }
    }

private:
    static MK_DEVICE void copy_each(uint16_t* out, const uint4& bytes, uint32_t num_columns) {
        const uint32_t words[4] = {bytes.x, bytes.y, bytes.z, bytes.w};
#pragma unroll
        for (uint32_t c = 0; c < 8; ++c)
            if (c < num_columns)
                out[c] = static_cast<uint16_t>(words[c / 2] >> (16 * (c % 2)));
    }
};

}  // namespace moekit::epilogue
