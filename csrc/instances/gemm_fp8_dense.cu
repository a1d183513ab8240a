// build: ptx=compute_90a
// Products in E4M3, one at a time.
#include "kernels/gemm/gemm.cuh"
#include "kernels/gemm/tiles.cuh"
#include "sched/dense.cuh"

using namespace moekit;
using kernels::gemm;
using sched::Dense;

MK_INSTANCE(gemm_fp8_dense_m128_n128, abi::GemmParams, kernels::kM128N128.num_threads(),
            gemm<kernels::kM128N128, Dense<128, 128>>)
MK_INSTANCE(gemm_fp8_dense_m128_n192, abi::GemmParams, kernels::kM128N192.num_threads(),
            gemm<kernels::kM128N192, Dense<128, 192>>)
MK_INSTANCE(gemm_fp8_dense_m256_n128, abi::GemmParams, kernels::kM256N128.num_threads(),
            gemm<kernels::kM256N128, Dense<256, 128>>)
MK_INSTANCE(gemm_fp8_dense_swapped_m8_n64, abi::GemmParams, kernels::kSwappedM8N64.num_threads(),
            gemm<kernels::kSwappedM8N64, Dense<8, 64>>)
MK_INSTANCE(gemm_fp8_dense_swapped_m16_n64, abi::GemmParams, kernels::kSwappedM16N64.num_threads(),
            gemm<kernels::kSwappedM16N64, Dense<16, 64>>)
MK_INSTANCE(gemm_fp8_dense_swapped_m32_n64, abi::GemmParams, kernels::kSwappedM32N64.num_threads(),
            gemm<kernels::kSwappedM32N64, Dense<32, 64>>)
MK_INSTANCE(gemm_fp8_dense_swapped_m64_n64, abi::GemmParams, kernels::kSwappedM64N64.num_threads(),
            gemm<kernels::kSwappedM64N64, Dense<64, 64>>)
MK_INSTANCE(gemm_fp8_dense_swapped_m8_n128, abi::GemmParams, kernels::kSwappedM8N128.num_threads(),
            gemm<kernels::kSwappedM8N128, Dense<8, 128>>)
MK_INSTANCE(gemm_fp8_dense_swapped_m16_n128, abi::GemmParams, kernels::kSwappedM16N128.num_threads(),
            gemm<kernels::kSwappedM16N128, Dense<16, 128>>)
MK_INSTANCE(gemm_fp8_dense_swapped_m32_n128, abi::GemmParams, kernels::kSwappedM32N128.num_threads(),
            gemm<kernels::kSwappedM32N128, Dense<32, 128>>)
MK_INSTANCE(gemm_fp8_dense_swapped_m64_n128, abi::GemmParams, kernels::kSwappedM64N128.num_threads(),
            gemm<kernels::kSwappedM64N128, Dense<64, 128>>)
