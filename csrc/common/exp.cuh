// The crate's exponential, the second time: src/num/exp.rs in the same operations, so in the same bits.
// Instances that use it compile without contraction (-fmad=false), flushing or approximate division.
#pragma once

#include "common/bits.cuh"
#include "common/divide.cuh"

#include <cmath>

namespace moekit::common {

MK_HOST_DEVICE float power_of_two(int32_t n) {
    return from_bits(static_cast<uint32_t>(n + 127) << 23);
}

// NOTE: adding 1.5 * 2^23 rounds to an integer, ties to even, and leaves it in the low mantissa bits.
constexpr float kRoundMagic = 12582912.0f;

// x = n ln 2 + r, by n = rn(x log2 e).
struct ReducedExp {
    float shifted;  // n + kRoundMagic
    float e_to_r;   // a Taylor polynomial to r^7

    MK_HOST_DEVICE explicit ReducedExp(float x) {
        constexpr float kLog2E = 1.44269504f;
        // ln 2 in two parts; the first has 9 significant bits, so n times it is exact.
        constexpr float kLn2Hi = 0.6933594f;
        constexpr float kLn2Lo = -2.1219444e-4f;
        shifted = fmaf(x, kLog2E, kRoundMagic);
        const float n = shifted - kRoundMagic;
        float r = fmaf(n, -kLn2Hi, x);
        r = fmaf(n, -kLn2Lo, r);
        float p = 1.0f / 5040.0f;
        p = fmaf(p, r, 1.0f / 720.0f);
        p = fmaf(p, r, 1.0f / 120.0f);
        p = fmaf(p, r, 1.0f / 24.0f);
        p = fmaf(p, r, 1.0f / 6.0f);
        p = fmaf(p, r, 1.0f / 2.0f);
        const float r2 = r * r;
        e_to_r = fmaf(p, r2, r) + 1.0f;
    }
};

// e^x, as a polynomial times 2^n in two factors.
MK_HOST_DEVICE float exp(float x) {
    const float above = x < -104.0f ? -104.0f : x;
    const float clamped = above > 88.8f ? 88.8f : above;
    const ReducedExp reduced(clamped);
    // NOTE: two factors, because n reaches -150 and 128 where one has no float.
    const int32_t n = static_cast<int32_t>(to_bits(reduced.shifted) - to_bits(kRoundMagic));
    const int32_t half = n >> 1;
    return reduced.e_to_r * power_of_two(half) * power_of_two(n - half);
}

// How far from zero `exp_near` reaches: n stays within -124 and 124.
constexpr float kExpReach = 86.0f;

// e^x for |x| <= kExpReach: the bits of `exp`, because a product with 2^n that stays a normal number is exact. So n can
// be added to the exponent; the magic number's own bits are shifted out.
MK_HOST_DEVICE float exp_near(float x) {
    const ReducedExp reduced(x);
    return from_bits(to_bits(reduced.e_to_r) + (to_bits(reduced.shifted) << 23));
}

// 1 / (1 + e^-x), with one IEEE division.
MK_HOST_DEVICE float sigmoid(float x) {
    return 1.0f / (1.0f + exp(-x));
}

// The bits of `sigmoid` for |x| <= kExpReach, without a branch.
MK_HOST_DEVICE float sigmoid_near(float x) {
    const float denominator = 1.0f + exp_near(-x);
    return divide_normal(1.0f, denominator, reciprocal_estimate(denominator));
}

}  // namespace moekit::common
