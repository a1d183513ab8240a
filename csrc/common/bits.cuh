// Floats as their bits, on both sides.
#pragma once

#include "common/macros.cuh"

#include <cstdint>
#include <cstring>

namespace moekit::common {

MK_HOST_DEVICE uint32_t to_bits(float x) {
#ifdef __CUDA_ARCH__
    return __float_as_uint(x);
#else
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof(bits));
    return bits;
#endif
}

MK_HOST_DEVICE float from_bits(uint32_t bits) {
#ifdef __CUDA_ARCH__
    return __uint_as_float(bits);
#else
    float x;
    std::memcpy(&x, &bits, sizeof(x));
    return x;
#endif
}

constexpr uint32_t kInfBits = 0x7f800000;
constexpr float kFloatMax = 3.402823466e+38f;

MK_HOST_DEVICE bool is_nan(float x) {
    return (to_bits(x) & 0x7fffffff) > kInfBits;
}

MK_HOST_DEVICE uint32_t ceil_div(uint32_t a, uint32_t b) {
    return (a + b - 1) / b;
}

}  // namespace moekit::common
