// build: ptx=compute_90 bitwise
// SwiGLU, all of whose bits are a contract between backends.
#include "kernels/swiglu/backward.cuh"
#include "kernels/swiglu/forward.cuh"

using namespace moekit;

MK_INSTANCE(swiglu_bf16_bf16, abi::SwigluParams, kernels::kSwigluThreads, kernels::swiglu<abi::Bf16, abi::Bf16>)
MK_INSTANCE(swiglu_bf16_f32, abi::SwigluParams, kernels::kSwigluThreads, kernels::swiglu<abi::Bf16, float>)
MK_INSTANCE(swiglu_f32_bf16, abi::SwigluParams, kernels::kSwigluThreads, kernels::swiglu<float, abi::Bf16>)
MK_INSTANCE(swiglu_f32_f32, abi::SwigluParams, kernels::kSwigluThreads, kernels::swiglu<float, float>)
MK_INSTANCE(swiglu_quantize_bf16, abi::SwigluQuantizeParams, kernels::kSwigluThreads,
            kernels::swiglu_quantize<abi::Bf16>)
MK_INSTANCE(swiglu_quantize_f32, abi::SwigluQuantizeParams, kernels::kSwigluThreads, kernels::swiglu_quantize<float>)
MK_INSTANCE(swiglu_backward_bf16_bf16, abi::SwigluBackwardParams, kernels::kSwigluBackwardThreads,
            kernels::swiglu_backward<abi::Bf16, abi::Bf16>)
MK_INSTANCE(swiglu_backward_bf16_f32, abi::SwigluBackwardParams, kernels::kSwigluBackwardThreads,
            kernels::swiglu_backward<abi::Bf16, float>)
MK_INSTANCE(swiglu_backward_f32_bf16, abi::SwigluBackwardParams, kernels::kSwigluBackwardThreads,
            kernels::swiglu_backward<float, abi::Bf16>)
MK_INSTANCE(swiglu_backward_f32_f32, abi::SwigluBackwardParams, kernels::kSwigluBackwardThreads,
            kernels::swiglu_backward<float, float>)
