// BF16 products of 64 values of K, added to FP32.
#pragma once

#include "mma/block.cuh"

namespace moekit::mma {

// Issues accum[64, n] += a[64, 64] @ b[n, 64]^T, in a group that the caller closes.
template <uint32_t kN>
MK_DEVICE void add_block(float (&accum)[kN / 2], uint32_t a, uint32_t b) {
    ptx::wgmma_pin(accum);
    issue_block<ptx::WgmmaBf16<kN>>(accum, a, b, true);
    ptx::wgmma_pin(accum);
}

}  // namespace moekit::mma
