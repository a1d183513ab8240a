// 128 rows of 64 (BF16) or 32 (FP32) features, each feature with its own scale; a CTA of 256 threads holds them in
// registers, four rows of a vector each.
#pragma once

#include "abi/tensor.h"
#include "common/scale.cuh"
#include "layout/elements.cuh"

namespace moekit::layout {

constexpr uint32_t kChannelThreads = 256;

template <typename T>
struct ChannelTile {
    static constexpr uint32_t kRows = common::kGranK;
    static constexpr uint32_t kLanesPerRow = 8;
    static constexpr uint32_t kFeatures = kLanesPerRow * kVector<T>;
    static constexpr uint32_t kWarps = kChannelThreads / 32;
    static_assert(kRows * kLanesPerRow == 4 * kChannelThreads, "each thread has four rows of a vector");
};

// Which vector of the tile, and which four rows, this thread has.
MK_DEVICE uint32_t channel_vector() {
    return threadIdx.x % 8;
}

MK_DEVICE uint32_t channel_rows() {
    return threadIdx.x / 8 * 4;
}

template <typename T>
struct ChannelSmem {
    float amax[ChannelTile<T>::kWarps][ChannelTile<T>::kFeatures];
    float inverse[ChannelTile<T>::kFeatures];
};

// Loads this thread's four rows; rows from `num_rows` on, and features past the last, are zeros.
template <typename T>
MK_DEVICE void load_channels(const abi::StackIn& in, uint32_t first_row, uint32_t num_rows, uint32_t first_feature,
                             uint32_t num_features, float (&x)[4][kVector<T>]) {
    const uint32_t feature = first_feature + channel_vector() * kVector<T>;
    const uint32_t num_valid = feature < num_features ? num_features - feature : 0;
    const T* src = static_cast<const T*>(in.data) + (first_row + channel_rows()) * in.row_stride + feature;
    if (not in.is_aligned or num_valid < kVector<T>) {
#pragma unroll
        for (uint32_t i = 0; i < 4; ++i)
            load_each(src + i * in.row_stride, channel_rows() + i < num_rows ? num_valid : 0, x[i]);
        return;
    }
    uint4 raw[4] = {};
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i) {
        if (channel_rows() + i < num_rows)
            raw[i] = __ldg(reinterpret_cast<const uint4*>(src + i * in.row_stride));
    }
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i)
        unpack(raw[i], x[i], T{});
}

// Finds every feature's scale, leaves the reciprocals in shared memory, and writes the first `num_features` scales
// `scale_stride` apart.
template <typename T>
MK_DEVICE void find_channel_scales(const float (&x)[4][kVector<T>], abi::ScaleFormat format, uint32_t num_features,
                                   float* scales, uint64_t scale_stride, ChannelSmem<T>& smem) {
    const uint32_t lane = threadIdx.x % 32;
#pragma unroll
    for (uint32_t j = 0; j < kVector<T>; ++j) {
        // NOTE: from zero on, because fmaxf passes over NaN only where the other side is a number.
        float amax = 0.0f;
#pragma unroll
        for (uint32_t i = 0; i < 4; ++i)
            amax = fmaxf(amax, fabsf(x[i][j]));
        amax = fmaxf(amax, __shfl_xor_sync(0xffffffff, amax, 8));
        amax = fmaxf(amax, __shfl_xor_sync(0xffffffff, amax, 16));
        if (lane < 8)
            smem.amax[threadIdx.x / 32][lane * kVector<T> + j] = amax;
    }
    __syncthreads();
    if (threadIdx.x < ChannelTile<T>::kFeatures) {
        float amax = 0.0f;
#pragma unroll
        for (uint32_t warp = 0; warp < ChannelTile<T>::kWarps; ++warp)
            amax = fmaxf(amax, smem.amax[warp][threadIdx.x]);
        const common::Scale scale = common::scale_of(amax, format);
        smem.inverse[threadIdx.x] = scale.inverse;
        if (threadIdx.x < num_features)
            scales[threadIdx.x * scale_stride] = scale.sf;
    }
    __syncthreads();
}

}  // namespace moekit::layout
