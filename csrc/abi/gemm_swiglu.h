// Matrix products whose result is activated and quantised. Meaning: src/gemm/swiglu.rs.
#pragma once

#include "abi/gemm.h"

namespace moekit::abi {

// kernels/gemm/swiglu_gemm.cuh
struct GemmSwigluParams {
    GemmParams product;  // B has 2 * n rows in each group: gate, then up; `d`, `out` and `row_weights` are not used,
                         // `kind` is kBf16
    QuantOut act;        // [num_a_groups, m, n], n % 128 == 0
    const float* row_weights;  // FP32 [num_a_groups * m]; null = 1
    float limit;               // at least 0; infinity = none
    uint32_t reserved[11];
};
static_assert(sizeof(GemmSwigluParams) == 960);
static_assert(offsetof(GemmSwigluParams, act) == 832);
static_assert(offsetof(GemmSwigluParams, limit) == 912);

}  // namespace moekit::abi
