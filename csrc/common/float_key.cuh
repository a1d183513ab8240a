// Floats as integers of the same order, so that a warp finds a maximum in one instruction.
#pragma once

#include "common/bits.cuh"

namespace moekit::common {

// Below every number, NaN and what was taken.
constexpr uint32_t kNoKey = 0;
// The key of -infinity.
constexpr uint32_t kLowestKey = 0x007fffff;

// Ascends with x; -0 and 0 have one key, NaN has kNoKey.
MK_HOST_DEVICE uint32_t float_key(float x) {
    if (is_nan(x))
        return kNoKey;
    const uint32_t bits = to_bits(x + 0.0f);
    return bits ^ (bits >> 31 != 0 ? 0xffffffff : 0x80000000);
}

// The number with this key; kNoKey has none.
MK_HOST_DEVICE float float_of_key(uint32_t key) {
    return from_bits(key ^ (key >> 31 != 0 ? 0x80000000 : 0xffffffff));
}

}  // namespace moekit::common
