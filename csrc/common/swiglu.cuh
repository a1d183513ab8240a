// One activation and its gradients: src/moe/swiglu.rs, operation by operation.
#pragma once

#include "common/exp.cuh"

namespace moekit::common {

// The gate, cut above; NaN stays.
MK_HOST_DEVICE float clamp_gate(float gate, float limit) {
    return gate > limit ? limit : gate;
}

// The up-projection, cut on both sides; NaN stays.
MK_HOST_DEVICE float clamp_up(float up, float limit) {
    const float below = up > limit ? limit : up;
    return below < -limit ? -limit : below;
}

// Gates from which on `silu_near` has all quotients and remainders within normal numbers.
constexpr float kSiluLeast = 0x1p-60f;

// Whether `silu_near` takes the gate; not a NaN.
MK_HOST_DEVICE bool is_near(float g) {
    return fabsf(g) >= kSiluLeast and fabsf(g) <= kExpReach;
}

// g / (1 + e^-g) for gates that are near: the bits of `silu` in fewer operations and without a branch.
MK_HOST_DEVICE float silu_near(float g) {
    const float denominator = 1.0f + exp_near(-g);
    return divide_normal(g, denominator, reciprocal_estimate(denominator));
}

// g / (1 + e^-g)
MK_HOST_DEVICE float silu(float g) {
    return g / (1.0f + exp(-g));
}

// (g / (1 + e^-g)) * u
MK_HOST_DEVICE float swiglu_unweighted(float gate, float up, float limit) {
    return silu(clamp_gate(gate, limit)) * clamp_up(up, limit);
}

MK_HOST_DEVICE float swiglu_activation(float gate, float up, float limit, float weight) {
    return swiglu_unweighted(gate, up, limit) * weight;
}

struct SwigluGradients {
    float gate, up;
};

// From the sigmoid of the cut gate.
MK_HOST_DEVICE SwigluGradients swiglu_gradients(float gate, float up, float sigmoid, float grad_out, float limit,
                                                float weight) {
    const float g = clamp_gate(gate, limit);
    const float d = (grad_out * weight) * sigmoid;
    const float grad_gate = (d * clamp_up(up, limit)) * fmaf(g, 1.0f - sigmoid, 1.0f);
    return {gate > limit ? 0.0f : grad_gate, fabsf(up) > limit ? 0.0f : d * g};
}

}  // namespace moekit::common
