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

// (g / (1 + e^-g)) * u
MK_HOST_DEVICE float swiglu_unweighted(float gate, float up, float limit) {
    const float g = clamp_gate(gate, limit);
    return (g / (1.0f + exp(-g))) * clamp_up(up, limit);
}

MK_HOST_DEVICE float swiglu_activation(float gate, float up, float limit, float weight) {
    return swiglu_unweighted(gate, up, limit) * weight;
}

struct SwigluGradients {
    float gate, up;
};

MK_HOST_DEVICE SwigluGradients swiglu_gradients(float gate, float up, float grad_out, float limit, float weight) {
    const float g = clamp_gate(gate, limit);
    const float s = 1.0f / (1.0f + exp(-g));
    const float d = (grad_out * weight) * s;
    const float grad_gate = (d * clamp_up(up, limit)) * fmaf(g, 1.0f - s, 1.0f);
    return {gate > limit ? 0.0f : grad_gate, fabsf(up) > limit ? 0.0f : d * g};
}

}  // namespace moekit::common
