// Products of warpgroups. CCCL's cuda::ptx has none of them.
#pragma once

#include "common/macros.cuh"

#include <cstdint>

namespace moekit::ptx {

// PTX ISA, `wgmma.fence`. Orders this warpgroup's accesses to accumulators before the products that follow.
MK_DEVICE void wgmma_fence() {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

// PTX ISA, `wgmma.commit_group`. Closes the group of all products issued before it by this warpgroup.
MK_DEVICE void wgmma_commit_group() {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

// PTX ISA, `wgmma.wait_group`. Until at most kNumPending groups of this warpgroup are under way.
template <uint32_t kNumPending>
MK_DEVICE void wgmma_wait_group() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kNumPending) : "memory");
}

// Nothing at run time. NOTE: the products write registers behind the compiler's back; it must not move accesses to
// them over this place.
template <uint32_t kLen>
MK_DEVICE void wgmma_pin(float (&d)[kLen]) {
#pragma unroll
    for (uint32_t i = 0; i < kLen; ++i)
        asm volatile("" : "+f"(d[i])::"memory");
}

// Operands of the inline assembly: ten names from %{t}0 on, and accumulators from d[i] on.
#define MK_NAMES_10(t) \
    "%" #t "0, %" #t "1, %" #t "2, %" #t "3, %" #t "4, %" #t "5, %" #t "6, %" #t "7, %" #t "8, %" #t "9, "
#define MK_SUMS_4(d, i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define MK_SUMS_8(d, i) MK_SUMS_4(d, i), MK_SUMS_4(d, i + 4)
#define MK_SUMS_16(d, i) MK_SUMS_8(d, i), MK_SUMS_8(d, i + 8)
#define MK_SUMS_32(d, i) MK_SUMS_16(d, i), MK_SUMS_16(d, i + 16)
#define MK_SUMS_64(d, i) MK_SUMS_32(d, i), MK_SUMS_32(d, i + 32)
#define MK_SUMS_96(d, i) MK_SUMS_64(d, i), MK_SUMS_32(d, i + 64)

// d[64, n] (+)= a[64, 32] @ b[n, 32]^T in E4M3, both operands in shared memory, K-major.
template <uint32_t kN>
struct WgmmaE4m3;

// PTX ISA, `wgmma.mma_async`. Asynchronous: `d` is the hardware's until the wait. d[4j + i] of a thread is row
// 16 * warp + lane / 4 + 8 * (i / 2), column 8j + 2 * (lane % 4) + i % 2. Without `adds`, d is overwritten.
#define MK_WGMMA_E4M3(n, names, sums, a_name, b_name, adds_name)                                               \
    template <>                                                                                                \
    struct WgmmaE4m3<n> {                                                                                      \
        static MK_DEVICE void issue(float (&d)[n / 2], uint64_t a, uint64_t b, bool adds) {                    \
            asm volatile("{\n.reg .pred adds;\nsetp.ne.b32 adds, " adds_name                                   \
                         ", 0;\nwgmma.mma_async.sync.aligned.m64n" #n "k32.f32.e4m3.e4m3 {" names "}, " a_name \
                         ", " b_name ", adds, 1, 1;\n}\n"                                                      \
                         : sums                                                                                \
                         : "l"(a), "l"(b), "r"(static_cast<int32_t>(adds)));                                   \
        }                                                                                                      \
    };

MK_WGMMA_E4M3(8, "%0, %1, %2, %3", MK_SUMS_4(d, 0), "%4", "%5", "%6")
MK_WGMMA_E4M3(16, "%0, %1, %2, %3, %4, %5, %6, %7", MK_SUMS_8(d, 0), "%8", "%9", "%10")
MK_WGMMA_E4M3(32, MK_NAMES_10() "%10, %11, %12, %13, %14, %15", MK_SUMS_16(d, 0), "%16", "%17", "%18")
MK_WGMMA_E4M3(64, MK_NAMES_10() MK_NAMES_10(1) MK_NAMES_10(2) "%30, %31", MK_SUMS_32(d, 0), "%32", "%33", "%34")
MK_WGMMA_E4M3(128,
              MK_NAMES_10() MK_NAMES_10(1) MK_NAMES_10(2) MK_NAMES_10(3) MK_NAMES_10(4)
                  MK_NAMES_10(5) "%60, %61, %62, %63",
              MK_SUMS_64(d, 0), "%64", "%65", "%66")
MK_WGMMA_E4M3(192,
              MK_NAMES_10() MK_NAMES_10(1) MK_NAMES_10(2) MK_NAMES_10(3) MK_NAMES_10(4) MK_NAMES_10(5) MK_NAMES_10(6)
                  MK_NAMES_10(7) MK_NAMES_10(8) "%90, %91, %92, %93, %94, %95",
              MK_SUMS_96(d, 0), "%96", "%97", "%98")

#undef MK_WGMMA_E4M3

}  // namespace moekit::ptx
