// Quantises 128 elements of a row, held by eight neighbouring lanes, 16 each.
#pragma once

#include "abi/tensor.h"
#include "common/scale.cuh"
#include "layout/elements.cuh"
#include "ptx/cvt.cuh"

namespace moekit::epilogue {

// Lanes that share a scale.
constexpr uint32_t kLanesPerBlock = common::kGranK / layout::kPiece;

// Four codes, the first in the low byte.
MK_DEVICE uint32_t encode4(const float* x, float inverse) {
    const uint32_t lo = ptx::cvt_rn_satfinite_e4m3x2_f32(x[0] * inverse, x[1] * inverse);
    const uint32_t hi = ptx::cvt_rn_satfinite_e4m3x2_f32(x[2] * inverse, x[3] * inverse);
    return lo | hi << 16;
}

// As above, each with a reciprocal of its own.
MK_DEVICE uint32_t encode4(const float* x, const float* inverse) {
    const uint32_t lo = ptx::cvt_rn_satfinite_e4m3x2_f32(x[0] * inverse[0], x[1] * inverse[1]);
    const uint32_t hi = ptx::cvt_rn_satfinite_e4m3x2_f32(x[2] * inverse[2], x[3] * inverse[3]);
    return lo | hi << 16;
}

MK_DEVICE uint4 encode16(const float (&x)[layout::kPiece], float inverse) {
    return {encode4(x, inverse), encode4(x + 4, inverse), encode4(x + 8, inverse), encode4(x + 12, inverse)};
}

// Writes the codes of this lane's piece if `has_piece`, and the block's scale if this lane has its first piece.
// All 32 lanes call; a lane without a piece holds zeros.
MK_DEVICE void quantize_block(const abi::QuantOut& out, uint32_t group, uint32_t row, uint32_t block, uint32_t piece,
                              bool has_piece, const float (&x)[layout::kPiece]) {
    float amax = 0.0f;
#pragma unroll
    for (uint32_t i = 0; i < layout::kPiece; ++i)
        amax = fmaxf(amax, fabsf(x[i]));
#pragma unroll
    for (uint32_t distance = kLanesPerBlock / 2; distance > 0; distance /= 2)
        amax = fmaxf(amax, __shfl_xor_sync(0xffffffff, amax, distance));
    const common::Scale scale = common::scale_of(amax, out.format);
    if (not has_piece)
        return;

    auto* values = static_cast<uint8_t*>(out.values.data) + group * out.values.group_stride +
                   row * out.values.row_stride + block * common::kGranK + piece * layout::kPiece;
    layout::store_16_bytes(values, encode16(x, scale.inverse), out.values.is_aligned);
    if (piece == 0)
        out.scales[group * out.scales_group_stride + row * out.scales_row_stride + block * out.scales_block_stride] =
            scale.sf;
}

}  // namespace moekit::epilogue
