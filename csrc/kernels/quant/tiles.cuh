// Quantises x [num_groups, m, n] BF16 or FP32 to E4M3 with one FP32 scale per 128 x 128 block (`quantize_block`; n is a
// multiple of 16), or per 128 rows and column (`quantize_channel`; m is a multiple of 128). A CTA has one block, or 128
// rows of 64 (BF16) or 32 (FP32) columns, and holds it in registers while the scales are found.
// Meaning: src/moe/quant/tiles.rs.
#pragma once

#include "abi/quant.h"
#include "common/warp.cuh"
#include "epilogue/quantize.cuh"
#include "layout/channels.cuh"
#include "layout/elements.cuh"

namespace moekit::kernels {

// Config checks.
constexpr uint32_t kBlockThreads = 512;
constexpr uint32_t kBlockRows = 128;
constexpr uint32_t kPiecesPerRow = common::kGranK / layout::kPiece;
constexpr uint32_t kPiecesPerThread = kBlockRows * kPiecesPerRow / kBlockThreads;

static_assert(kPiecesPerThread * kBlockThreads == kBlockRows * kPiecesPerRow, "threads share a block evenly");
static_assert(kBlockThreads % 32 == 0 and kBlockThreads / 32 <= 32, "one warp adds up the warps");

// Shared memory.
struct BlockSmem {
    float amax[kBlockThreads / 32];
};

// Which tile a CTA has.
struct QuantTile {
    uint32_t group, row_tile, column_tile;

    MK_DEVICE explicit QuantTile(const abi::QuantizeTilesParams& p) {
        column_tile = blockIdx.x % p.num_column_tiles;
        row_tile = blockIdx.x / p.num_column_tiles % p.num_row_tiles;
        group = blockIdx.x / p.num_column_tiles / p.num_row_tiles;
    }
};

// The largest magnitude that any thread of the CTA has.
MK_DEVICE float block_max(float amax, BlockSmem& smem) {
    amax = common::warp_max(amax);
    if (common::lane_idx() == 0)
        smem.amax[threadIdx.x / 32] = amax;
    __syncthreads();
    return common::warp_max(common::lane_idx() < kBlockThreads / 32 ? smem.amax[common::lane_idx()] : 0.0f);
}

// Loads this thread's pieces; where the block is whole, all are on their way before one is used.
template <typename T>
MK_DEVICE void load_block(const abi::QuantizeTilesParams& p, const T* src, uint32_t column, uint32_t first_row,
                          float (&x)[kPiecesPerThread][layout::kPiece]) {
    constexpr uint32_t kRowStep = kBlockThreads / kPiecesPerRow;
    if (column >= p.n)
        return;
    if (p.x.is_aligned and first_row + (kPiecesPerThread - 1) * kRowStep < p.m) {
        uint4 raw[kPiecesPerThread][layout::kPiece / layout::kVector<T>];
#pragma unroll
        for (uint32_t i = 0; i < kPiecesPerThread; ++i) {
            const auto* row = reinterpret_cast<const uint4*>(src + (first_row + i * kRowStep) * p.x.row_stride);
#pragma unroll
            for (uint32_t v = 0; v < layout::kPiece / layout::kVector<T>; ++v)
                raw[i][v] = __ldg(row + v);
        }
#pragma unroll
        for (uint32_t i = 0; i < kPiecesPerThread; ++i) {
#pragma unroll
            for (uint32_t v = 0; v < layout::kPiece / layout::kVector<T>; ++v)
                layout::unpack(raw[i][v], x[i] + v * layout::kVector<T>, T{});
        }
        return;
    }
#pragma unroll
    for (uint32_t i = 0; i < kPiecesPerThread; ++i) {
        const uint32_t row = first_row + i * kRowStep;
        if (row < p.m)
            layout::load_each(src + row * p.x.row_stride, layout::kPiece, x[i]);
    }
}

template <typename T>
MK_DEVICE void quantize_block(const abi::QuantizeTilesParams& p) {
    __shared__ BlockSmem smem;
    const QuantTile tile(p);
    const uint32_t column = tile.column_tile * common::kGranK + threadIdx.x % kPiecesPerRow * layout::kPiece;
    const uint32_t first_row = tile.row_tile * kBlockRows + threadIdx.x / kPiecesPerRow;
    const T* src = static_cast<const T*>(p.x.data) + tile.group * p.x.group_stride + column;

    float x[kPiecesPerThread][layout::kPiece] = {};
    load_block(p, src, column, first_row, x);
    float amax = 0.0f;
#pragma unroll
    for (uint32_t i = 0; i < kPiecesPerThread; ++i) {
#pragma unroll
        for (uint32_t j = 0; j < layout::kPiece; ++j)
            amax = fmaxf(amax, fabsf(x[i][j]));
    }
    const common::Scale scale = common::scale_of(block_max(amax, smem), p.out.format);
    if (threadIdx.x == 0)
        p.out.scales[tile.group * p.out.scales_group_stride + tile.row_tile * p.out.scales_row_stride +
                     tile.column_tile * p.out.scales_block_stride] = scale.sf;

    auto* values = static_cast<uint8_t*>(p.out.values.data) + tile.group * p.out.values.group_stride + column;
#pragma unroll
    for (uint32_t i = 0; i < kPiecesPerThread; ++i) {
        const uint32_t row = first_row + i * (kBlockThreads / kPiecesPerRow);
        if (row < p.m and column < p.n)
            layout::store_16_bytes(values + row * p.out.values.row_stride, epilogue::encode16(x[i], scale.inverse),
                                   p.out.values.is_aligned);
    }
}

template <typename T>
MK_DEVICE void quantize_channel(const abi::QuantizeTilesParams& p) {
    constexpr uint32_t kVector = layout::kVector<T>;
    __shared__ layout::ChannelSmem<T> smem;
    const QuantTile tile(p);
    const uint32_t first_row = tile.row_tile * kBlockRows;
    const uint32_t first_column = tile.column_tile * layout::ChannelTile<T>::kFeatures;

    float x[4][kVector];
    layout::load_channels<T>(p.x, first_row, kBlockRows, first_column, p.n, x);
    float* scales = p.out.scales + tile.row_tile * p.out.scales_row_stride + first_column * p.out.scales_block_stride;
    layout::find_channel_scales<T>(x, p.out.format, p.n - first_column, scales, p.out.scales_block_stride, smem);

    const uint32_t column = first_column + layout::channel_vector() * kVector;
    const uint32_t num_valid = column < p.n ? min(p.n - column, kVector) : 0;
    auto* values = static_cast<uint8_t*>(p.out.values.data) + column;
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i) {
        auto* row = values + (first_row + layout::channel_rows() + i) * p.out.values.row_stride;
        uint32_t words[kVector / 4];
#pragma unroll
        for (uint32_t j = 0; j < kVector; j += 4) {
            const float* inverse = smem.inverse + layout::channel_vector() * kVector + j;
            words[j / 4] = epilogue::encode4(x[i] + j, inverse);
        }
        layout::store_codes(row, words, num_valid, p.out.values.is_aligned);
    }
}

}  // namespace moekit::kernels
