// build: ptx=compute_90a bitwise
// The experts' first products in E4M3 with their activation, rows of all groups in one matrix.
#include "kernels/gemm/swiglu_gemm.cuh"
#include "kernels/gemm/tiles.cuh"
#include "sched/contiguous.cuh"

using namespace moekit;
using kernels::swiglu_gemm;
using sched::Contiguous;

MK_INSTANCE(gemm_fp8_swiglu_contiguous_m128_n256, abi::GemmSwigluParams, kernels::kGatedM128.num_threads(),
            swiglu_gemm<kernels::kGatedM128, Contiguous<128, 128>>)
MK_INSTANCE(gemm_fp8_swiglu_contiguous_swapped_m16_n256, abi::GemmSwigluParams, kernels::kGatedSwappedM16.num_threads(),
            swiglu_gemm<kernels::kGatedSwappedM16, Contiguous<16, 128>>)
MK_INSTANCE(gemm_fp8_swiglu_contiguous_swapped_m32_n256, abi::GemmSwigluParams, kernels::kGatedSwappedM32.num_threads(),
            swiglu_gemm<kernels::kGatedSwappedM32, Contiguous<32, 128>>)
MK_INSTANCE(gemm_fp8_swiglu_contiguous_swapped_m64_n256, abi::GemmSwigluParams, kernels::kGatedSwappedM64.num_threads(),
            swiglu_gemm<kernels::kGatedSwappedM64, Contiguous<64, 128>>)
