// build: ptx=compute_90a
// Products in E4M3, one at a time.
#include "kernels/gemm/fp8.cuh"
#include "sched/dense.cuh"

using namespace moekit;

constexpr layout::GemmTile kM128N128 = {128, 128, 2, false};

MK_INSTANCE(gemm_fp8_dense_m128_n128, abi::GemmParams, kM128N128.num_threads(),
            kernels::gemm_fp8<kM128N128, sched::Dense<128, 128>>)
