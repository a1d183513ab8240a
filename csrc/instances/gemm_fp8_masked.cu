// build: ptx=compute_90a
// Products in E4M3, grouped along M, in the masked layout.
#include "kernels/gemm/fp8.cuh"
#include "sched/masked.cuh"

using namespace moekit;

constexpr layout::GemmTile kM128N128 = {128, 128, 2, false};

MK_INSTANCE(gemm_fp8_masked_m128_n128, abi::GemmParams, kM128N128.num_threads(),
            kernels::gemm_fp8<kM128N128, sched::Masked<128, 128>>)
