// E4M3 codes and UE8M0 scales as FP32: src/num/e4m3.rs, src/num/ue8m0.rs.
#pragma once

#include "common/bits.cuh"

namespace moekit::common {

// The exact value; NaN for the two NaN codes.
MK_HOST_DEVICE float e4m3_to_f32(uint32_t code) {
    const uint32_t magnitude = code & 0x7f;
    // Exponent and mantissa at the top of FP32's fields are 2^120 too small, subnormal codes included.
    const float value = from_bits(magnitude << 20) * from_bits((120 + 127) << 23);
    return from_bits((code & 0x80) << 24 | (magnitude == 0x7f ? 0x7fc00000 : to_bits(value)));
}

// The code of the next power of two: 0 up to 2^-127, 254 from 2^127 on, 255 for NaN and negative values.
MK_HOST_DEVICE uint32_t ue8m0_of_f32_ceil(float x) {
    const uint32_t bits = to_bits(x);
    if (is_nan(x) or (bits >> 31 != 0 and x != 0.0f))
        return 255;
    if ((bits & 0x7fffffff) <= 0x00400000)
        return 0;
    const uint32_t code = (bits >> 23) + ((bits & 0x007fffff) != 0 ? 1 : 0);
    return code > 254 ? 254 : code;
}

// 2^(code - 127), or NaN for 255.
MK_HOST_DEVICE float ue8m0_to_f32(uint32_t code) {
    return from_bits(code == 0 ? 0x00400000 : code == 255 ? 0x7fc00000 : code << 23);
}

}  // namespace moekit::common
