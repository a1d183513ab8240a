// Stores of 8 x 8 matrices of 16-bit elements, spread over a warp, to shared memory.
#pragma once

#include "common/macros.cuh"

#include <cstdint>

namespace moekit::ptx {

// A generic address of shared memory as the 32-bit address within its window.
MK_DEVICE uint32_t shared_address(const void* ptr) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(ptr));
}

// PTX ISA, `stmatrix`. Lane 8i + r gives the address of row r of matrix i, 16 bytes; register i of lane t holds
// elements 2 * (t % 4) and the next of row t / 4 of matrix i.
MK_DEVICE void stmatrix_x4(uint32_t row_address, uint32_t m0, uint32_t m1, uint32_t m2, uint32_t m3) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(row_address), "r"(m0),
                 "r"(m1), "r"(m2), "r"(m3)
                 : "memory");
}

// As above, and each matrix is stored transposed.
MK_DEVICE void stmatrix_x4_trans(uint32_t row_address, uint32_t m0, uint32_t m1, uint32_t m2, uint32_t m3) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(row_address), "r"(m0),
                 "r"(m1), "r"(m2), "r"(m3)
                 : "memory");
}

// As above, two matrices; lanes 0 to 15 give addresses.
MK_DEVICE void stmatrix_x2_trans(uint32_t row_address, uint32_t m0, uint32_t m1) {
    asm volatile("stmatrix.sync.aligned.m8n8.x2.trans.shared.b16 [%0], {%1, %2};" ::"r"(row_address), "r"(m0), "r"(m1)
                 : "memory");
}

}  // namespace moekit::ptx
