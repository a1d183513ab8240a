// build: ptx=compute_90a
// Products in BF16, grouped along M, in the contiguous layout.
#include "kernels/gemm/gemm.cuh"
#include "kernels/gemm/tiles.cuh"
#include "sched/contiguous.cuh"

using namespace moekit;
using kernels::gemm, kernels::in_bf16;
using sched::Contiguous;

MK_INSTANCE(gemm_bf16_contiguous_m128_n128, abi::GemmParams, kernels::kM128N128.num_threads(),
            gemm<in_bf16(kernels::kM128N128), Contiguous<128, 128>>)
MK_INSTANCE(gemm_bf16_contiguous_m128_n192, abi::GemmParams, kernels::kM128N192.num_threads(),
            gemm<in_bf16(kernels::kM128N192), Contiguous<128, 192>>)
MK_INSTANCE(gemm_bf16_contiguous_m128_n256, abi::GemmParams, kernels::kM128N256.num_threads(),
            gemm<in_bf16(kernels::kM128N256), Contiguous<128, 256>>)
MK_INSTANCE(gemm_bf16_contiguous_m256_n128, abi::GemmParams, kernels::kM256N128.num_threads(),
            gemm<in_bf16(kernels::kM256N128), Contiguous<256, 128>>)
MK_INSTANCE(gemm_bf16_contiguous_swapped_m8_n64, abi::GemmParams, kernels::kSwappedM8N64.num_threads(),
            gemm<in_bf16(kernels::kSwappedM8N64), Contiguous<8, 64>>)
MK_INSTANCE(gemm_bf16_contiguous_swapped_m16_n64, abi::GemmParams, kernels::kSwappedM16N64.num_threads(),
            gemm<in_bf16(kernels::kSwappedM16N64), Contiguous<16, 64>>)
MK_INSTANCE(gemm_bf16_contiguous_swapped_m32_n64, abi::GemmParams, kernels::kSwappedM32N64.num_threads(),
            gemm<in_bf16(kernels::kSwappedM32N64), Contiguous<32, 64>>)
MK_INSTANCE(gemm_bf16_contiguous_swapped_m64_n64, abi::GemmParams, kernels::kSwappedM64N64.num_threads(),
            gemm<in_bf16(kernels::kSwappedM64N64), Contiguous<64, 64>>)
MK_INSTANCE(gemm_bf16_contiguous_swapped_m16_n128, abi::GemmParams, kernels::kSwappedM16N128.num_threads(),
            gemm<in_bf16(kernels::kSwappedM16N128), Contiguous<16, 128>>)
MK_INSTANCE(gemm_bf16_contiguous_swapped_m32_n128, abi::GemmParams, kernels::kSwappedM32N128.num_threads(),
            gemm<in_bf16(kernels::kSwappedM32N128), Contiguous<32, 128>>)
MK_INSTANCE(gemm_bf16_contiguous_swapped_m64_n128, abi::GemmParams, kernels::kSwappedM64N128.num_threads(),
            gemm<in_bf16(kernels::kSwappedM64N128), Contiguous<64, 128>>)
