// build: ptx=compute_90a
// Products in BF16, grouped along M, in the contiguous layout.
#include "kernels/gemm/bf16.cuh"
#include "sched/contiguous.cuh"

using namespace moekit;

constexpr layout::GemmTile kM128N128 = {128, 128, 2, false, layout::GemmFormat::kBf16};

MK_INSTANCE(gemm_bf16_contiguous_m128_n128, abi::GemmParams, kM128N128.num_threads(),
            kernels::gemm_bf16<kM128N128, sched::Contiguous<128, 128>>)
