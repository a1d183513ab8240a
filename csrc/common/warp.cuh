// What the 32 lanes of a warp find together.
#pragma once

#include "common/bits.cuh"

#include <cuda/ptx>

namespace moekit::common {

constexpr uint32_t kFullWarp = 0xffffffff;

MK_DEVICE uint32_t lane_idx() {
    return threadIdx.x % 32;
}

// True for one lane. All lanes call. NOTE: what it alone does, the compiler keeps in registers of the warp.
MK_DEVICE bool elect_lane() {
    return cuda::ptx::elect_sync(uint32_t{kFullWarp});
}

MK_DEVICE float warp_max(float x) {
#pragma unroll
    for (uint32_t distance = 16; distance > 0; distance /= 2)
        x = fmaxf(x, __shfl_xor_sync(kFullWarp, x, distance));
    return x;
}

// The largest of this and all lower lanes.
MK_DEVICE uint32_t warp_inclusive_max(uint32_t x) {
#pragma unroll
    for (uint32_t distance = 1; distance < 32; distance *= 2)
        x = max(x, __shfl_up_sync(kFullWarp, x, distance));
    return x;
}

// The sum of this and all lower lanes.
template <typename T>
MK_DEVICE T warp_inclusive_sum(T x) {
#pragma unroll
    for (uint32_t distance = 1; distance < 32; distance *= 2) {
        const T below = __shfl_up_sync(kFullWarp, x, distance);
        if (lane_idx() >= distance)
            x += below;
    }
    return x;
}

}  // namespace moekit::common
