// Kernels whose PTX exercises the front end: printf, assert, shared, local and constant memory,
// atomics, shuffles, a call that is not inlined, a lock.
#include <cassert>
#include <cstdint>
#include <cstdio>
#include <cuda_fp8.h>

__constant__ float weights[8] = {1, 2, 3, 4, 5, 6, 7, 8};
__device__ int counter;
__device__ const char* names[2] = {"first", "second"};

__device__ __noinline__ float weighted(const float* values, int n, int from) {
    float sum = 0;
    for (int i = from; i < n; ++i)
        sum += values[i] * weights[i & 7];
    return sum;
}

extern "C" __global__ void sums(const float* in, float* out, int n) {
    __shared__ float partial[32];
    const int tid = threadIdx.x;
    float sum = weighted(in, n, tid);
    for (int offset = 16; offset > 0; offset /= 2)
        sum += __shfl_xor_sync(0xffffffffu, sum, offset);
    if (tid % 32 == 0)
        partial[tid / 32] = sum;
    __syncthreads();
    if (tid == 0) {
        float total = 0;
        for (int warp = 0; warp < blockDim.x / 32; ++warp)
            total += partial[warp];
        out[blockIdx.x] = total;
        atomicAdd(&counter, 1);
    }
}

extern "C" __global__ void speaks(const int* in, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) {
        assert(in[i] >= 0);
        printf("%s: %d of %d, %f, %s\n", names[i & 1], in[i], n, in[i] * 0.5, "done");
    }
}

extern "C" __global__ void quantise(const float* in, __nv_fp8_e4m3* out, float* scales) {
    const int row = blockIdx.x, lane = threadIdx.x;
    float values[4], largest = 0;
    for (int i = 0; i < 4; ++i) {
        values[i] = in[row * 128 + lane * 4 + i];
        largest = fmaxf(largest, fabsf(values[i]));
    }
    for (int offset = 16; offset > 0; offset /= 2)
        largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, offset));
    const float scale = fmaxf(largest, 1e-4f) / 448.0f;
    for (int i = 0; i < 4; ++i)
        out[row * 128 + lane * 4 + i] = __nv_fp8_e4m3(values[i] * (1.0f / scale));
    if (lane == 0)
        scales[row] = scale;
}

extern "C" __global__ void spins(int* lock, int* value, int rounds) {
    int local[16];
    for (int i = 0; i < 16; ++i)
        local[i] = i * rounds;
    for (int round = 0; round < rounds; ++round) {
        while (atomicCAS(lock, 0, 1) != 0) {
        }
        __threadfence();
        *value += local[(threadIdx.x + round) & 15];
        __threadfence();
        atomicExch(lock, 0);
    }
}
