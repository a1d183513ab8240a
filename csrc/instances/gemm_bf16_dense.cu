// build: ptx=compute_90a
// Products in BF16, one at a time.
#include "kernels/gemm/bf16.cuh"
#include "sched/dense.cuh"

using namespace moekit;

constexpr layout::GemmTile kM128N128 = {128, 128, 2, false, layout::GemmFormat::kBf16};

MK_INSTANCE(gemm_bf16_dense_m128_n128, abi::GemmParams, kM128N128.num_threads(),
            kernels::gemm_bf16<kM128N128, sched::Dense<128, 128>>)
