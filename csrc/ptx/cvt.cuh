// Conversions that CCCL's cuda::ptx lacks.
#pragma once

#include "common/macros.cuh"

#include <cstdint>

namespace moekit::ptx {

// PTX ISA, `cvt`. Two E4M3 codes, `lo` in the low byte; to nearest even, beyond 448 (infinity too) to 448,
// NaN to 0x7f. NOTE: the instruction names the upper half first.
MK_DEVICE uint16_t cvt_rn_satfinite_e4m3x2_f32(float lo, float hi) {
    uint16_t codes;
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(codes) : "f"(hi), "f"(lo));
    return codes;
}

// PTX ISA, `cvt`. Two BF16 numbers, `lo` in the low half; to nearest even, NaN to 0x7fff.
MK_DEVICE uint32_t cvt_rn_bf16x2_f32(float lo, float hi) {
    uint32_t pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(hi), "f"(lo));
    return pair;
}

}  // namespace moekit::ptx
