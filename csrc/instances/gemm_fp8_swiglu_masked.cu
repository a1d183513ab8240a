// build: ptx=compute_90a bitwise
// The experts' first products in E4M3 with their activation, a matrix for each group.
#include "kernels/gemm/swiglu_gemm.cuh"
#include "kernels/gemm/tiles.cuh"
#include "sched/masked.cuh"

using namespace moekit;
using kernels::swiglu_gemm;
using sched::Masked;

MK_INSTANCE(gemm_fp8_swiglu_masked_m128_n256, abi::GemmSwigluParams, kernels::kGatedM128.num_threads(),
            swiglu_gemm<kernels::kGatedM128, Masked<128, 128>>)
MK_INSTANCE(gemm_fp8_swiglu_masked_swapped_m16_n256, abi::GemmSwigluParams, kernels::kGatedSwappedM16.num_threads(),
            swiglu_gemm<kernels::kGatedSwappedM16, Masked<16, 128>>)
MK_INSTANCE(gemm_fp8_swiglu_masked_swapped_m32_n256, abi::GemmSwigluParams, kernels::kGatedSwappedM32.num_threads(),
            swiglu_gemm<kernels::kGatedSwappedM32, Masked<32, 128>>)
MK_INSTANCE(gemm_fp8_swiglu_masked_swapped_m64_n256, abi::GemmSwigluParams, kernels::kGatedSwappedM64.num_threads(),
            swiglu_gemm<kernels::kGatedSwappedM64, Masked<64, 128>>)
