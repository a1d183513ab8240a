// The scale of quantised elements: src/moe/quant.rs, "One rule everywhere".
#pragma once

#include "abi/tensor.h"
#include "common/bits.cuh"

#include <cmath>

namespace moekit::common {

// Elements of K that one scale covers.
constexpr uint32_t kGranK = 128;

struct Scale {
    float sf;
    float inverse;
};

// From the largest magnitude; infinity counts as the largest finite value, and fmaxf has passed over NaN. Dividends are
// 1 or at least 1e-4, divisors 448 or scales: normal numbers.
template <typename Divide>
MK_HOST_DEVICE Scale scale_of(float amax, abi::ScaleFormat format, Divide divide) {
    const float finite = fminf(amax, kFloatMax);
    float sf = divide(finite > 1e-4f ? finite : 1e-4f, 448.0f);
    // Up to a power of two; sf is normal, and far from the largest float.
    if (format == abi::ScaleFormat::kUe8m0)
        sf = from_bits((to_bits(sf) + 0x007fffff) & kInfBits);
    return {sf, divide(1.0f, sf)};
}

MK_HOST_DEVICE Scale scale_of(float amax, abi::ScaleFormat format) {
    return scale_of(amax, format, [](float a, float b) { return a / b; });
}

}  // namespace moekit::common
