// Division without the checks that a compiler has to make.
#pragma once

#include "common/macros.cuh"

#include <cmath>

#ifdef __CUDACC__
#    include "ptx/rcp.cuh"
#endif

namespace moekit::common {

// Within 1 ulp.
MK_HOST_DEVICE float reciprocal_estimate(float x) {
#ifdef __CUDA_ARCH__
    return ptx::rcp_approx_ftz_f32(x);
#else
    return 1.0f / x;
#endif
}

// The IEEE quotient from an estimate of 1 / b, by Markstein's steps: the reciprocal is refined once, the quotient twice
// by its exact remainder. NOTE: b, 1 / b and the quotient must be normal and |a| at least 2^-100, so that remainders
// are too.
MK_HOST_DEVICE float divide_normal(float a, float b, float estimate) {
    const float reciprocal = fmaf(estimate, fmaf(-b, estimate, 1.0f), estimate);
    float quotient = a * reciprocal;
    quotient = fmaf(reciprocal, fmaf(-b, quotient, a), quotient);
    return fmaf(reciprocal, fmaf(-b, quotient, a), quotient);
}

}  // namespace moekit::common
