// Approximations that CCCL's cuda::ptx lacks.
#pragma once

#include "common/macros.cuh"

namespace moekit::ptx {

// PTX ISA, `rcp`. The reciprocal within 1 ulp; a subnormal one is zero.
MK_DEVICE float rcp_approx_ftz_f32(float x) {
    float reciprocal;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(reciprocal) : "f"(x));
    return reciprocal;
}

}  // namespace moekit::ptx
