// build: ptx=compute_90a
// Products in E4M3, grouped along M, a matrix for each group.
#include "kernels/gemm/gemm.cuh"
#include "kernels/gemm/tiles.cuh"
#include "sched/masked.cuh"

using namespace moekit;
using kernels::gemm;
using sched::Masked;

MK_INSTANCE(gemm_fp8_masked_m128_n128, abi::GemmParams, kernels::kM128N128.num_threads(),
            gemm<kernels::kM128N128, Masked<128, 128>>)
MK_INSTANCE(gemm_fp8_masked_m128_n192, abi::GemmParams, kernels::kM128N192.num_threads(),
            gemm<kernels::kM128N192, Masked<128, 192>>)
MK_INSTANCE(gemm_fp8_masked_m256_n128, abi::GemmParams, kernels::kM256N128.num_threads(),
            gemm<kernels::kM256N128, Masked<256, 128>>)
MK_INSTANCE(gemm_fp8_masked_swapped_m8_n64, abi::GemmParams, kernels::kSwappedM8N64.num_threads(),
            gemm<kernels::kSwappedM8N64, Masked<8, 64>>)
MK_INSTANCE(gemm_fp8_masked_swapped_m16_n64, abi::GemmParams, kernels::kSwappedM16N64.num_threads(),
            gemm<kernels::kSwappedM16N64, Masked<16, 64>>)
MK_INSTANCE(gemm_fp8_masked_swapped_m32_n64, abi::GemmParams, kernels::kSwappedM32N64.num_threads(),
            gemm<kernels::kSwappedM32N64, Masked<32, 64>>)
MK_INSTANCE(gemm_fp8_masked_swapped_m64_n64, abi::GemmParams, kernels::kSwappedM64N64.num_threads(),
            gemm<kernels::kSwappedM64N64, Masked<64, 64>>)
MK_INSTANCE(gemm_fp8_masked_swapped_m8_n128, abi::GemmParams, kernels::kSwappedM8N128.num_threads(),
            gemm<kernels::kSwappedM8N128, Masked<8, 128>>)
MK_INSTANCE(gemm_fp8_masked_swapped_m16_n128, abi::GemmParams, kernels::kSwappedM16N128.num_threads(),
            gemm<kernels::kSwappedM16N128, Masked<16, 128>>)
MK_INSTANCE(gemm_fp8_masked_swapped_m32_n128, abi::GemmParams, kernels::kSwappedM32N128.num_threads(),
            gemm<kernels::kSwappedM32N128, Masked<32, 128>>)
MK_INSTANCE(gemm_fp8_masked_swapped_m64_n128, abi::GemmParams, kernels::kSwappedM64N128.num_threads(),
            gemm<kernels::kSwappedM64N128, Masked<64, 128>>)
