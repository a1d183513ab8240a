// build: ptx=compute_90 bitwise
// Quantisation, all of whose bytes are a contract between backends.
#include "kernels/quant/token.cuh"
#include "kernels/quant/transpose.cuh"

using namespace moekit;

MK_INSTANCE(quantize_bf16, abi::QuantizeParams, kernels::kQuantizeThreads, kernels::quantize<abi::Bf16>)
MK_INSTANCE(quantize_f32, abi::QuantizeParams, kernels::kQuantizeThreads, kernels::quantize<float>)
MK_INSTANCE(quantize_transpose_bf16, abi::QuantizeTransposeParams, kernels::kTransposeThreads,
            kernels::quantize_transpose<abi::Bf16>)
MK_INSTANCE(quantize_transpose_f32, abi::QuantizeTransposeParams, kernels::kTransposeThreads,
            kernels::quantize_transpose<float>)
