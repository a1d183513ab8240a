// Words of the house, for nvcc and, where a header holds plain arithmetic, for a C++ host compiler.
#pragma once

#ifdef __CUDACC__
// A function of a kernel; plain arithmetic also for the host.
#    define MK_DEVICE __device__ __forceinline__
#    define MK_HOST_DEVICE __host__ __device__ __forceinline__

// A compiled kernel: the function named last, with its parameters by value. The build finds instances by this word.
#    define MK_INSTANCE(name, Params, num_threads, ...)                                                         \
        extern "C" __global__ void __launch_bounds__(num_threads) name(const __grid_constant__ Params params) { \
            __VA_ARGS__(params);                                                                                \
        }
#else
#    define MK_HOST_DEVICE inline
#endif
