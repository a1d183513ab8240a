// Products of one block of K: 128 bytes of it, in four instructions.
#pragma once

#include "common/macros.cuh"
#include "ptx/wgmma.cuh"

namespace moekit::mma {

// PTX ISA, "Matrix Descriptor Format": rows of 128 bytes, K-major, swizzled within 128 bytes; eight rows are 1024
// bytes. The leading offset does not count in this layout.
MK_DEVICE uint64_t k_major_descriptor(uint32_t shared_address) {
    constexpr uint64_t kLeading = 1, kStride = 1024 >> 4, kSwizzle128B = 1;
    return (shared_address >> 4) | kLeading << 16 | kStride << 32 | kSwizzle128B << 62;
}

// Issues d[64, n] (+)= a[64, block_k] @ b[n, block_k]^T.
template <typename Wgmma, uint32_t kLen>
MK_DEVICE void issue_block(float (&d)[kLen], uint64_t a, uint64_t b, bool adds) {
    constexpr uint32_t kSteps = 4, kStepBytes = 32;
#pragma unroll
    for (uint32_t step = 0; step < kSteps; ++step)
        Wgmma::issue(d, a + step * (kStepBytes >> 4), b + step * (kStepBytes >> 4), adds or step > 0);
}

}  // namespace moekit::mma
