// E4M3 products of 128 values of K, and their promotion to FP32.
#pragma once

#include "common/macros.cuh"
#include "mma/block.cuh"

namespace moekit::mma {

// Starts sum[64, n] = a[64, 128] @ b[n, 128]^T.
template <uint32_t kN>
MK_DEVICE void start_block(float (&sum)[kN / 2], uint32_t a, uint32_t b) {
    ptx::wgmma_pin(sum);
    ptx::wgmma_fence();
    issue_block<ptx::WgmmaE4m3<kN>>(sum, a, b, false);
    ptx::wgmma_commit_group();
    ptx::wgmma_pin(sum);
}

// accum += sum * (sfa of the row) * (sfb of the column), one fused operation an element: src/backend/cpu/gemm.
// A thread's rows are lane / 4 and 8 below. B's scales: one for as many columns each, or the thread's own, two in each
// eight columns.
template <uint32_t kLen, uint32_t kNumB>
MK_DEVICE void promote(float (&accum)[kLen], const float (&sum)[kLen], const float (&a_scales)[2],
                       const float (&b_scales)[kNumB]) {
    constexpr bool kEachColumn = kNumB == kLen / 2;
#pragma unroll
    for (uint32_t i = 0; i < kLen; ++i) {
        const uint32_t b = kEachColumn ? i / 4 * 2 + i % 2 : i * kNumB / kLen;
        accum[i] = fmaf(sum[i], a_scales[i / 2 % 2] * b_scales[b], accum[i]);
    }
}

// As above, of products whose M side is weights: tokens are the columns, two of each eight a thread's.
template <uint32_t kN>
MK_DEVICE void promote_swapped(float (&accum)[kN / 2], const float (&sum)[kN / 2], const float2 (&a_scales)[kN / 8],
                               float b_scale) {
#pragma unroll
    for (uint32_t i = 0; i < kN / 2; ++i) {
        const float scale = (i % 2 == 0 ? a_scales[i / 4].x : a_scales[i / 4].y) * b_scale;
        accum[i] = fmaf(sum[i], scale, accum[i]);
    }
}

}  // namespace moekit::mma
