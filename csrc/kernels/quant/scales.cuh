// Scales in other orders and forms: FP32 to FP32 of other strides (`relayout_scales`), and four UE8M0 bytes of a word
// back to FP32 (`unpack_scales`). One thread has one scale; neighbouring threads have neighbouring rows, which lie
// together on the MN-major side. Meaning: src/moe/quant/scales.rs.
#pragma once

#include "abi/quant.h"
#include "common/e4m3.cuh"

namespace moekit::kernels {

constexpr uint32_t kScalesThreads = 256;

// Which scale a thread has.
struct ScaleIdx {
    uint32_t group, row, block;
    bool is_valid;

    MK_DEVICE explicit ScaleIdx(const abi::ScalesParams& p) {
        const uint32_t flat = blockIdx.x * kScalesThreads + threadIdx.x;
        is_valid = flat < p.num_units;
        row = flat % p.num_rows;
        block = flat / p.num_rows % p.num_blocks;
        group = flat / p.num_rows / p.num_blocks;
    }
};

MK_DEVICE uint64_t offset(const abi::Strides& strides, uint32_t group, uint32_t row, uint32_t column) {
    return group * strides.group + row * strides.row + column * strides.column;
}

MK_DEVICE void relayout_scales(const abi::ScalesParams& p) {
    const ScaleIdx at(p);
    if (not at.is_valid)
        return;
    const uint64_t from = offset(p.source_strides, at.group, at.row, at.block);
    p.destination[offset(p.destination_strides, at.group, at.row, at.block)] =
        static_cast<const float*>(p.source)[from];
}

MK_DEVICE void unpack_scales(const abi::ScalesParams& p) {
    const ScaleIdx at(p);
    if (not at.is_valid)
        return;
    const uint64_t from = offset(p.source_strides, at.group, at.row, at.block / 4);
    const uint32_t word = static_cast<const uint32_t*>(p.source)[from];
    p.destination[offset(p.destination_strides, at.group, at.row, at.block)] =
        common::ue8m0_to_f32(word >> (8 * (at.block % 4)) & 0xff);
}

}  // namespace moekit::kernels
