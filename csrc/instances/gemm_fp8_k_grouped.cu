// build: ptx=compute_90a
// Products in E4M3, grouped along K: one launch a group, with scales per row on both sides.
#include "kernels/gemm/gemm.cuh"
#include "kernels/gemm/tiles.cuh"
#include "sched/dense.cuh"

using namespace moekit;
using kernels::gemm;
using sched::Dense;

MK_INSTANCE(gemm_fp8_k_grouped_m128_n64, abi::GemmParams, kernels::kKGroupedM128N64.num_threads(),
            gemm<kernels::kKGroupedM128N64, Dense<128, 64>>)
MK_INSTANCE(gemm_fp8_k_grouped_m128_n128, abi::GemmParams, kernels::kKGroupedM128N128.num_threads(),
            gemm<kernels::kKGroupedM128N128, Dense<128, 128>>)
