// d = a * b^T with TMA, mbarriers and wgmma: one warp loads a ring of stages, warpgroups multiply 64 rows
// each, and tiles go back through shared memory. Factors are K-major; rows of a box hold `span` bytes,
// in which the TMA unit swizzles, or 16 without a swizzle. Blocks walk the tiles until there are none.
#include <cstdint>
#include <cuda_bf16.h>

struct Map { alignas(64) char bytes[128]; };
struct Params {
    Map a, b, d;
    uint32_t num_m, num_n, num_k;  // tiles, and steps of 128 bytes
    uint32_t span;                 // 16 (no swizzle), 32, 64, 128
};

constexpr uint32_t kStages = 3, kDepth = 128;

__device__ uint32_t shared(const void* p) { return static_cast<uint32_t>(__cvta_generic_to_shared(p)); }

__device__ void init(uint64_t* bar, uint32_t count) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared(bar)), "r"(count) : "memory");
}
__device__ void wait(uint64_t* bar, uint32_t parity) {
    uint32_t done = 0;
    while (!done)
        asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
                     : "=r"(done) : "r"(shared(bar)), "r"(parity) : "memory");
}
__device__ void expect(uint64_t* bar, uint32_t bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared(bar)), "r"(bytes) : "memory");
}
__device__ void arrive(uint64_t* bar) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared(bar)) : "memory");
}
__device__ void load(const Map* map, uint64_t* bar, uint32_t to, uint32_t x, uint32_t y) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];"
                 ::"r"(to), "l"(map), "r"(x), "r"(y), "r"(shared(bar)) : "memory");
}
__device__ uint64_t descriptor(uint32_t at, uint32_t leading, uint32_t span) {
    const uint64_t mode = span == 128 ? 1 : span == 64 ? 2 : span == 32 ? 3 : 0;
    return mode << 62 | static_cast<uint64_t>(8 * span / 16) << 32 | static_cast<uint64_t>(leading / 16) << 16 | at >> 4;
}

#define S4(i) "%" #i "0, %" #i "1, %" #i "2, %" #i "3, %" #i "4, %" #i "5, %" #i "6, %" #i "7, %" #i "8, %" #i "9"
#define SUMS "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, " S4(1) ", " S4(2) ", %30, %31"
#define R4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define R16(i) R4(i), R4(i + 4), R4(i + 8), R4(i + 12)

template <typename T> __device__ void multiply(float* d, uint64_t a, uint64_t b);
template <> __device__ void multiply<__nv_bfloat16>(float* d, uint64_t a, uint64_t b) {
    asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" SUMS "}, %32, %33, 1, 1, 1, 0, 0;"
                 : R16(0), R16(16) : "l"(a), "l"(b));
}
template <> __device__ void multiply<uint8_t>(float* d, uint64_t a, uint64_t b) {
    asm volatile("wgmma.mma_async.sync.aligned.m64n64k32.f32.e4m3.e4m3 {" SUMS "}, %32, %33, 1, 1, 1;"
                 : R16(0), R16(16) : "l"(a), "l"(b));
}

template <typename T, uint32_t kM, uint32_t kN>
__device__ void load_tiles(const Params& p, uint8_t* ring, uint64_t* full, uint64_t* empty) {
    uint32_t step = 0;
    for (uint32_t tile = blockIdx.x; tile < p.num_m * p.num_n; tile += gridDim.x)
        for (uint32_t k = 0; k < p.num_k; ++k, ++step) {
            const uint32_t stage = step % kStages, at = shared(ring) + stage * (kM + kN) * kDepth;
            wait(&empty[stage], step / kStages & 1 ^ 1);
            expect(&full[stage], (kM + kN) * kDepth);
            for (uint32_t byte = 0; byte < kDepth; byte += p.span) {
                const uint32_t x = (k * kDepth + byte) / sizeof(T);
                load(&p.a, &full[stage], at + byte * kM, x, tile / p.num_n * kM);
                load(&p.b, &full[stage], at + (kM * kDepth + byte * kN), x, tile % p.num_n * kN);
            }
        }
}

template <typename T, uint32_t kM, uint32_t kN>
__device__ void multiply_tiles(const Params& p, uint8_t* ring, float* out, uint64_t* full, uint64_t* empty) {
    constexpr uint32_t kThreads = 2 * kM;
    const uint32_t thread = threadIdx.x - 128, group = thread / 128, warp = thread / 32 % 4, lane = thread % 32;
    uint32_t step = 0;
    for (uint32_t tile = blockIdx.x; tile < p.num_m * p.num_n; tile += gridDim.x) {
        float d[kN / 64][32] = {};
        for (uint32_t k = 0; k < p.num_k; ++k, ++step) {
            const uint32_t stage = step % kStages, at = shared(ring) + stage * (kM + kN) * kDepth;
            wait(&full[stage], step / kStages & 1);
            asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
            for (uint32_t byte = 0; byte < kDepth; byte += 32) {
                const uint32_t box = byte / p.span * p.span, in_box = byte % p.span;
                const uint32_t a = at + box * kM + group * 64 * p.span + in_box;
                const uint32_t b = at + kM * kDepth + box * kN + in_box;
#pragma unroll
                for (uint32_t i = 0; i < kN / 64; ++i)
                    multiply<T>(d[i], descriptor(a, kM * 16, p.span), descriptor(b + i * 64 * p.span, kN * 16, p.span));
            }
            asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
            asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
            arrive(&empty[stage]);
        }
        if (thread == 0)
            asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
        asm volatile("bar.sync 1, %0;" ::"n"(kThreads) : "memory");
#pragma unroll
        for (uint32_t i = 0; i < kN / 2; ++i) {
            const uint32_t row = group * 64 + warp * 16 + lane / 4 + i / 2 % 2 * 8;
            out[row * kN + i / 4 * 8 + lane % 4 * 2 + i % 2] = d[i / 32][i % 32];
        }
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
        asm volatile("bar.sync 2, %0;" ::"n"(kThreads) : "memory");
        if (thread == 0) {
            asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%1, %2}], [%3];"
                         ::"l"(&p.d), "r"(tile % p.num_n * kN), "r"(tile / p.num_n * kM), "r"(shared(out)) : "memory");
            asm volatile("cp.async.bulk.commit_group;" ::: "memory");
        }
    }
    if (thread == 0)
        asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
}

template <typename T, uint32_t kM, uint32_t kN>
__device__ void gemm(const Params& p) {
    extern __shared__ __align__(1024) uint8_t ring[];
    __shared__ uint64_t full[kStages], empty[kStages];
    float* out = reinterpret_cast<float*>(ring + kStages * (kM + kN) * kDepth);
    if (threadIdx.x == 0) {
        for (uint32_t i = 0; i < kStages; ++i)
            init(&full[i], 1), init(&empty[i], 2 * kM);
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    __syncthreads();
    if (threadIdx.x < 128) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
        if (threadIdx.x == 0)
            load_tiles<T, kM, kN>(p, ring, full, empty);
    } else {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 200;");
        multiply_tiles<T, kM, kN>(p, ring, out, full, empty);
    }
}

#define GEMM(name, T, kM, kN) \
    extern "C" __global__ void __launch_bounds__(128 + 2 * kM, 128 / kM) name(const __grid_constant__ Params p) { gemm<T, kM, kN>(p); }
GEMM(gemm_bf16_64x64, __nv_bfloat16, 64, 64)
GEMM(gemm_fp8_64x64, uint8_t, 64, 64)
GEMM(gemm_bf16_128x128, __nv_bfloat16, 128, 128)
GEMM(gemm_fp8_128x64, uint8_t, 128, 64)
