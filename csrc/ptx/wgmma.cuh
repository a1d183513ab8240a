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
#define MK_SUMS_128(d, i) MK_SUMS_64(d, i), MK_SUMS_64(d, i + 64)

// d[64, n] (+)= a[64, 32] @ b[n, 32]^T in E4M3, both operands in shared memory, K-major.
template <uint32_t kN>
struct WgmmaE4m3;

// d[64, n] (+)= a[64, 16] @ b[n, 16]^T in BF16, both operands in shared memory, K-major.
template <uint32_t kN>
struct WgmmaBf16;

// PTX ISA, `wgmma.mma_async`. Asynchronous: `d` is the hardware's until the wait. d[4j + i] of a thread is row
// 16 * warp + lane / 4 + 8 * (i / 2), column 8j + 2 * (lane % 4) + i % 2. Without `adds`, d is overwritten.
#define MK_WGMMA_ISSUE(type, n, suffix, flags, names, num_sums, a_name, b_name, adds_name)                       \
    template <>                                                                                                  \
    struct type<n> {                                                                                             \
        static MK_DEVICE void issue(float (&d)[n / 2], uint64_t a, uint64_t b, bool adds) {                      \
            asm volatile("{\n.reg .pred adds;\nsetp.ne.b32 adds, " adds_name                                     \
                         ", 0;\nwgmma.mma_async.sync.aligned.m64n" #n suffix " {" names "}, " a_name ", " b_name \
                         ", adds, " flags ";\n}\n"                                                               \
                         : MK_SUMS_##num_sums(d, 0)                                                              \
                         : "l"(a), "l"(b), "r"(static_cast<int32_t>(adds)));                                     \
        }                                                                                                        \
    };

#define MK_WGMMA(n, names, num_sums, a_name, b_name, adds_name)                                           \
    MK_WGMMA_ISSUE(WgmmaE4m3, n, "k32.f32.e4m3.e4m3", "1, 1", names, num_sums, a_name, b_name, adds_name) \
    MK_WGMMA_ISSUE(WgmmaBf16, n, "k16.f32.bf16.bf16", "1, 1, 0, 0", names, num_sums, a_name, b_name, adds_name)

MK_WGMMA(8, "%0, %1, %2, %3", 4, "%4", "%5", "%6")
MK_WGMMA(16, "%0, %1, %2, %3, %4, %5, %6, %7", 8, "%8", "%9", "%10")
MK_WGMMA(32, MK_NAMES_10() "%10, %11, %12, %13, %14, %15", 16, "%16", "%17", "%18")
MK_WGMMA(64, MK_NAMES_10() MK_NAMES_10(1) MK_NAMES_10(2) "%30, %31", 32, "%32", "%33", "%34")
MK_WGMMA(128,
         MK_NAMES_10() MK_NAMES_10(1) MK_NAMES_10(2) MK_NAMES_10(3) MK_NAMES_10(4) MK_NAMES_10(5) "%60, %61, %62, %63",
         64, "%64", "%65", "%66")
MK_WGMMA(192,
         MK_NAMES_10() MK_NAMES_10(1) MK_NAMES_10(2) MK_NAMES_10(3) MK_NAMES_10(4) MK_NAMES_10(5) MK_NAMES_10(6)
             MK_NAMES_10(7) MK_NAMES_10(8) "%90, %91, %92, %93, %94, %95",
         96, "%96", "%97", "%98")
MK_WGMMA(256,
         MK_NAMES_10() MK_NAMES_10(1) MK_NAMES_10(2) MK_NAMES_10(3) MK_NAMES_10(4) MK_NAMES_10(5) MK_NAMES_10(6)
             MK_NAMES_10(7) MK_NAMES_10(8) MK_NAMES_10(9) MK_NAMES_10(10) MK_NAMES_10(11) "%120, %121, %122, %123, "
                                                                                        "%124, %125, %126, %127",
         128, "%128", "%129", "%130")

#undef MK_WGMMA
#undef MK_WGMMA_ISSUE

}  // namespace moekit::ptx
