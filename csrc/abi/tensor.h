// Matrices and stacks of them, rows contiguous. Strides count elements.
#pragma once

#include <cstddef>
#include <cstdint>

namespace moekit::abi {

// A BF16 number as its bits.
struct Bf16 {
    uint16_t bits;
};
static_assert(sizeof(Bf16) == 2);

// [num_groups, m, k] for reading.
struct StackIn {
    const void* data;
    uint64_t group_stride;
    uint64_t row_stride;
    uint32_t is_aligned;  // 1 if every row starts at a multiple of 16 bytes
    uint32_t reserved;
};
static_assert(sizeof(StackIn) == 32);

// [num_groups, m, k] for writing.
struct StackOut {
    void* data;
    uint64_t group_stride;
    uint64_t row_stride;
    uint32_t is_aligned;  // 1 if every row starts at a multiple of 16 bytes
    uint32_t reserved;
};
static_assert(sizeof(StackOut) == 32);

enum class ScaleFormat : uint32_t { kFp32 = 0, kUe8m0 = 1 };

// E4M3 [num_groups, m, k] with FP32 [num_groups, m, ceil_div(k, 128)] scales of any strides.
struct QuantOut {
    StackOut values;
    float* scales;
    uint64_t scales_group_stride;
    uint64_t scales_row_stride;
    uint64_t scales_block_stride;
    ScaleFormat format;
    uint32_t reserved;
};
static_assert(sizeof(QuantOut) == 72);
static_assert(offsetof(QuantOut, format) == 64);

}  // namespace moekit::abi
