// Transposes each expert's rows and quantises them along the tokens: x [m, num_features] BF16 or FP32 to one E4M3
// matrix [num_features, k_g] after another, with one FP32 scale per feature and 128 tokens; m % 128 == 0. Offsets that
// break their rule are recorded, and nothing is written. A CTA has 128 rows of 64 (BF16) or 32 (FP32) features: the
// rows stay in registers while the columns' scales are found, and the codes turn in shared memory.
// Meaning: src/moe/quant/transpose.rs.
#pragma once

#include "abi/quant.h"
#include "common/fault.cuh"
#include "common/scale.cuh"
#include "epilogue/quantize.cuh"
#include "layout/channels.cuh"

namespace moekit::kernels {

constexpr uint32_t kTransposeThreads = layout::kChannelThreads;

// Config checks.
template <typename T>
using TransposeTile = layout::ChannelTile<T>;

// Shared memory.
template <typename T>
struct TransposeSmem {
    // [feature][token / 4], each word at `code_word`.
    alignas(16) uint32_t codes[TransposeTile<T>::kFeatures][TransposeTile<T>::kRows / 4];
    layout::ChannelSmem<T> channels;
    uint32_t first_fault;
    // The expert that has this CTA's rows, if one has: its rows, and how many hold tokens.
    uint32_t has_segment;
    uint32_t segment_start, segment_end, num_tokens;
};

// NOTE: features of one vector lie 32 banks apart; turning the words by the vector spreads a warp's stores.
template <typename T>
MK_DEVICE uint32_t code_word(uint32_t feature, uint32_t word) {
    return word ^ (4 * (feature / layout::kVector<T> % 8));
}

// All threads check the offsets, each some; the one that finds this CTA's rows between two of them keeps the segment.
template <typename T>
MK_DEVICE void find_segment(const abi::QuantizeTransposeParams& p, uint32_t first_row, TransposeSmem<T>& smem) {
    if (threadIdx.x == 0) {
        smem.first_fault = UINT32_MAX;
        smem.has_segment = 0;
    }
    __syncthreads();
    for (uint32_t idx = threadIdx.x; idx <= p.num_groups; idx += kTransposeThreads) {
        const int32_t offset = p.expert_offsets[idx];
        const int32_t previous = idx == 0 ? 0 : p.expert_offsets[idx - 1];
        const bool is_in_range = offset >= 0 and static_cast<uint32_t>(offset) <= p.m;
        if (not is_in_range or offset % common::kGranK != 0 or offset < previous or (idx == 0 and offset != 0)) {
            atomicMin(&smem.first_fault, idx);
        } else if (idx > 0 and previous >= 0 and static_cast<uint32_t>(previous) <= first_row and
                   first_row < static_cast<uint32_t>(offset)) {
            const int32_t num_tokens = max(p.num_recv_tokens_per_expert[idx - 1], 0);
            smem.has_segment = 1;
            smem.segment_start = previous;
            smem.segment_end = offset;
            smem.num_tokens = min(num_tokens, offset - previous);
        }
    }
    __syncthreads();
}

// Codes and scales of zeros, where no expert has the rows.
template <typename T>
MK_DEVICE void write_tail(const abi::QuantizeTransposeParams& p, uint32_t first_row, uint32_t first_feature,
                          uint32_t num_features) {
    const uint64_t first = static_cast<uint64_t>(p.num_features) * first_row + first_feature * common::kGranK;
    for (uint32_t i = threadIdx.x; i < num_features * common::kGranK / 16; i += kTransposeThreads)
        layout::store_16_bytes(p.values + first + 16 * i, {0, 0, 0, 0}, p.is_aligned);
    if (threadIdx.x < num_features)
        p.scales[first / common::kGranK + threadIdx.x] = common::scale_of(0.0f, p.format).sf;
}

// Encodes four tokens of each feature to a word, turns the tile, and writes 16 tokens of a feature at a time.
template <typename T>
MK_DEVICE void write_codes(const abi::QuantizeTransposeParams& p, uint64_t first_code, uint64_t feature_stride,
                           uint32_t num_features, const float (&x)[4][layout::kVector<T>], TransposeSmem<T>& smem) {
    const uint32_t vector = layout::channel_vector();
    const uint32_t word = layout::channel_rows() / 4;
#pragma unroll
    for (uint32_t j = 0; j < layout::kVector<T>; ++j) {
        const uint32_t feature = vector * layout::kVector<T> + j;
        const float four[4] = {x[0][j], x[1][j], x[2][j], x[3][j]};
        smem.codes[feature][code_word<T>(feature, word)] = epilogue::encode4(four, smem.channels.inverse[feature]);
    }
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < num_features * 8; i += kTransposeThreads) {
        const uint32_t feature = i / 8, first_word = i % 8 * 4;
        const auto& codes = *reinterpret_cast<const uint4*>(&smem.codes[feature][code_word<T>(feature, first_word)]);
        layout::store_16_bytes(p.values + first_code + feature * feature_stride + first_word * 4, codes, p.is_aligned);
    }
}

template <typename T>
MK_DEVICE void quantize_transpose(const abi::QuantizeTransposeParams& p) {
    using Tile = TransposeTile<T>;
    __shared__ TransposeSmem<T> smem;
    const uint32_t row_block = blockIdx.x / p.num_feature_tiles;
    const uint32_t first_row = row_block * Tile::kRows;
    const uint32_t first_feature = blockIdx.x % p.num_feature_tiles * Tile::kFeatures;

    find_segment(p, first_row, smem);
    if (smem.first_fault != UINT32_MAX) {
        if (blockIdx.x == 0 and threadIdx.x == 0) {
            const uint32_t idx = smem.first_fault;
            common::claim_fault(p.faults, abi::FaultKind::kTransposeOffsets, idx);
            common::explain_fault(p.faults, abi::FaultKind::kTransposeOffsets, idx, p.expert_offsets[idx], idx, p.m);
        }
        return;
    }
    // A launch has at least one CTA, for the check above.
    if (first_row >= p.m or first_feature >= p.num_features)
        return;
    const uint32_t num_features = min(p.num_features - first_feature, Tile::kFeatures);
    if (smem.has_segment == 0)
        return write_tail<T>(p, first_row, first_feature, num_features);

    const uint32_t k = smem.segment_end - smem.segment_start;
    const uint32_t row_in_segment = first_row - smem.segment_start;
    const uint32_t num_rows = smem.num_tokens > row_in_segment ? smem.num_tokens - row_in_segment : 0;
    const uint64_t segment_codes = static_cast<uint64_t>(p.num_features) * smem.segment_start;
    const uint64_t first_code = segment_codes + static_cast<uint64_t>(first_feature) * k + row_in_segment;

    float x[4][layout::kVector<T>];
    layout::load_channels<T>(p.x, first_row, num_rows, first_feature, p.num_features, x);
    float* scales = p.scales + first_code / common::kGranK;
    layout::find_channel_scales<T>(x, p.format, num_features, scales, k / common::kGranK, smem.channels);
    write_codes<T>(p, first_code, k, num_features, x, smem);
}

}  // namespace moekit::kernels
