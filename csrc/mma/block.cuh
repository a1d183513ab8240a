// Products of one block of K: 128 bytes of it, in four instructions.
#pragma once

#include "common/macros.cuh"
#include "ptx/wgmma.cuh"

namespace moekit::mma {

// The lower word of a descriptor, which alone changes from place to place. PTX ISA, "Matrix Descriptor Format": rows of
// 128 bytes, K-major, swizzled within 128 bytes; eight rows are 1024 bytes. The leading offset does not count in this
// layout.
MK_DEVICE uint32_t k_major_descriptor(uint32_t shared_address) {
    constexpr uint32_t kLeading = 1;
    return shared_address >> 4 | kLeading << 16;
}

// What a descriptor changes by from a ring's first stage to its present one.
template <typename Ring>
MK_DEVICE uint32_t descriptor_step(const Ring& ring) {
    return ring.stage * (Ring::kBytesOfStage >> 4);
}

MK_DEVICE uint64_t whole_descriptor(uint32_t lower) {
    constexpr uint32_t kStride = 1024 >> 4, kSwizzle128B = 1;
    return lower | static_cast<uint64_t>(kStride | kSwizzle128B << 30) << 32;
}

// Issues d[64, n] (+)= a[64, block_k] @ b[n, block_k]^T.
template <typename Wgmma, uint32_t kLen>
MK_DEVICE void issue_block(float (&d)[kLen], uint32_t a, uint32_t b, bool adds) {
    constexpr uint32_t kSteps = 4, kStepBytes = 32;
#pragma unroll
    for (uint32_t step = 0; step < kSteps; ++step)
        Wgmma::issue(d, whole_descriptor(a + step * (kStepBytes >> 4)), whole_descriptor(b + step * (kStepBytes >> 4)),
                     adds or step > 0);
}

}  // namespace moekit::mma
