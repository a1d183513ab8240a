// build: ptx=compute_90 bitwise
// Quantisation, all of whose bytes are a contract between backends.
#include "kernels/quant/dequantize.cuh"
#include "kernels/quant/pack.cuh"
#include "kernels/quant/scales.cuh"
#include "kernels/quant/tiles.cuh"
#include "kernels/quant/token.cuh"
#include "kernels/quant/transpose.cuh"

using namespace moekit;

MK_INSTANCE(quantize_bf16, abi::QuantizeParams, kernels::kQuantizeThreads, kernels::quantize<abi::Bf16>)
MK_INSTANCE(quantize_f32, abi::QuantizeParams, kernels::kQuantizeThreads, kernels::quantize<float>)
MK_INSTANCE(quantize_transpose_bf16, abi::QuantizeTransposeParams, kernels::kTransposeThreads,
            kernels::quantize_transpose<abi::Bf16>)
MK_INSTANCE(quantize_transpose_f32, abi::QuantizeTransposeParams, kernels::kTransposeThreads,
            kernels::quantize_transpose<float>)
MK_INSTANCE(quantize_block_bf16, abi::QuantizeTilesParams, kernels::kBlockThreads, kernels::quantize_block<abi::Bf16>)
MK_INSTANCE(quantize_block_f32, abi::QuantizeTilesParams, kernels::kBlockThreads, kernels::quantize_block<float>)
MK_INSTANCE(quantize_channel_bf16, abi::QuantizeTilesParams, layout::kChannelThreads,
            kernels::quantize_channel<abi::Bf16>)
MK_INSTANCE(quantize_channel_f32, abi::QuantizeTilesParams, layout::kChannelThreads, kernels::quantize_channel<float>)
MK_INSTANCE(dequantize_bf16, abi::DequantizeParams, kernels::kDequantizeThreads, kernels::dequantize<abi::Bf16>)
MK_INSTANCE(dequantize_f32, abi::DequantizeParams, kernels::kDequantizeThreads, kernels::dequantize<float>)
MK_INSTANCE(relayout_scales, abi::ScalesParams, kernels::kScalesThreads, kernels::relayout_scales)
MK_INSTANCE(unpack_scales, abi::ScalesParams, kernels::kScalesThreads, kernels::unpack_scales)
MK_INSTANCE(pack_scales, abi::PackScalesParams, kernels::kPackThreads, kernels::pack_scales)
MK_INSTANCE(explain_pack_scales, abi::PackScalesParams, 32, kernels::explain_pack_scales)
