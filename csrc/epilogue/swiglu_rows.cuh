// Activates and quantises the rows of a gated block, whose gate and up-projection lie in shared memory in BF16: what
// `swiglu_quantize` makes of them, in the same operations and so in the same bits.
#pragma once

#include "abi/gemm_swiglu.h"
#include "common/divide.cuh"
#include "common/swiglu.cuh"
#include "common/warp.cuh"
#include "epilogue/quantize.cuh"
#include "epilogue/store_bf16.cuh"
#include "sched/block.cuh"

namespace moekit::epilogue {

// Where gate and up lie: for each, boxes of 64 columns and of a product's rows.
template <layout::GemmTile kTile>
struct GatedTile {
    static constexpr uint32_t kBoxRows = kTile.swaps_operands ? kTile.block_m : 64;
    static constexpr uint32_t kHalfBytes = kTile.block_m * kTile.out_n() * 2;

    static_assert(kTile.out_n() == common::kGranK, "a row of a block has one scale");

    // Columns 8 * chunk.. of row `row`.
    static MK_DEVICE uint32_t chunk(uint32_t row, uint32_t chunk) {
        return row / kBoxRows * kBoxRows * kTile.out_n() * 2 + chunk_offset<kBoxRows>(row % kBoxRows, chunk);
    }
};

// Columns of a row that a lane has, and rows that a warp has under way at once.
constexpr uint32_t kLaneColumns = common::kGranK / 32;
constexpr uint32_t kRowsAtOnce = 2;

using LaneActivations = float[kRowsAtOnce][kLaneColumns];

// silu(gate) of a lane's columns, which `act` holds. NOTE: where all gates of the warp are near, as nearly always, the
// steps of all overlap.
MK_DEVICE void activate_gates(LaneActivations& act, float limit) {
    bool are_near = true;
    const auto for_each = [&](auto visit) {
#pragma unroll
        for (uint32_t r = 0; r < kRowsAtOnce; ++r)
#pragma unroll
            for (uint32_t c = 0; c < kLaneColumns; ++c)
                visit(act[r][c]);
    };
    for_each([&](float& g) {
        g = common::clamp_gate(g, limit);
        are_near = are_near and common::is_near(g);
    });
    if (__all_sync(common::kFullWarp, are_near))
        for_each([](float& g) { g = common::silu_near(g); });
    else
        for_each([](float& g) { g = common::silu(g); });
}

// The rows of a block that a warp activates at once: `first` and every `step` behind it.
template <layout::GemmTile kTile>
struct RowsAtOnce {
    const abi::GemmSwigluParams& p;
    const sched::Block& block;
    uint32_t tile_smem;
    uint32_t first, step;

    // In the block.
    MK_DEVICE uint32_t row(uint32_t r) const { return first + r * step; }

    // This lane's activations; zeros in rows without a token.
    MK_DEVICE void load(LaneActivations& act) const {
        uint2 up[kRowsAtOnce];
#pragma unroll
        for (uint32_t r = 0; r < kRowsAtOnce; ++r) {
            const uint32_t lane = common::lane_idx();
            // NOTE: a row behind the last is read too, where there is memory, and not stored.
            const uint32_t in_tile = min(row(r), kTile.block_m - 1);
            const uint32_t at = tile_smem + GatedTile<kTile>::chunk(in_tile, lane / 2) + lane % 2 * 8;
            unpack(*static_cast<const uint2*>(__cvta_shared_to_generic(at)), act[r]);
            up[r] = *static_cast<const uint2*>(__cvta_shared_to_generic(at + GatedTile<kTile>::kHalfBytes));
        }
        activate_gates(act, p.limit);
#pragma unroll
        for (uint32_t r = 0; r < kRowsAtOnce; ++r) {
            float ups[kLaneColumns];
            unpack(up[r], ups);
            const float weight = p.row_weights == nullptr ? 1.0f : weight_of(r);
#pragma unroll
            for (uint32_t c = 0; c < kLaneColumns; ++c) {
                const float product = act[r][c] * common::clamp_up(ups[c], p.limit) * weight;
                act[r][c] = row(r) < block.num_rows ? product : 0.0f;
            }
        }
    }

    MK_DEVICE void store(const LaneActivations& act) const {
        common::Scale scales[kRowsAtOnce];
        uint32_t codes[kRowsAtOnce];
#pragma unroll
        for (uint32_t r = 0; r < kRowsAtOnce; ++r) {
            float amax = 0.0f;
#pragma unroll
            for (uint32_t c = 0; c < kLaneColumns; ++c)
                amax = fmaxf(amax, fabsf(act[r][c]));
            // NOTE: no NaN passes fmaxf, and numbers that are not negative have the order of their bits.
            amax = common::from_bits(__reduce_max_sync(common::kFullWarp, common::to_bits(amax)));
            scales[r] = common::scale_of(amax, p.act.format, divide);
            codes[r] = encode4(act[r], scales[r].inverse);
        }
#pragma unroll
        for (uint32_t r = 0; r < kRowsAtOnce; ++r)
            if (row(r) < block.num_rows + block.num_zero_rows)
                store_row(block.row + row(r), codes[r], scales[r].sf);
    }

private:
    MK_DEVICE float weight_of(uint32_t r) const {
        const uint64_t flat_row = static_cast<uint64_t>(block.a_group) * p.product.m + block.row + row(r);
        return row(r) < block.num_rows ? p.row_weights[flat_row] : 0.0f;
    }

    static MK_DEVICE float divide(float a, float b) {
        return common::divide_normal(a, b, common::reciprocal_estimate(b));
    }

    static MK_DEVICE void unpack(uint2 pairs, float (&x)[kLaneColumns]) {
        const uint32_t words[2] = {pairs.x, pairs.y};
#pragma unroll
        for (uint32_t c = 0; c < kLaneColumns; ++c)
            x[c] = common::from_bits(c % 2 == 0 ? words[c / 2] << 16 : words[c / 2] & 0xffff0000);
    }

    MK_DEVICE void store_row(uint32_t row, uint32_t codes, float sf) const {
        const abi::StackOut& values = p.act.values;
        auto* out = static_cast<uint8_t*>(values.data) + block.a_group * values.group_stride + row * values.row_stride +
                    block.column + common::lane_idx() * kLaneColumns;
        store_codes(out, codes, values.is_aligned);
        if (common::lane_idx() == 0)
            p.act.scales[block.a_group * p.act.scales_group_stride + row * p.act.scales_row_stride +
                         block.column / common::kGranK * p.act.scales_block_stride] = sf;
    }

    static MK_DEVICE void store_codes(uint8_t* out, uint32_t codes, bool is_aligned) {
        if (is_aligned) {
            *reinterpret_cast<uint32_t*>(out) = codes;
            return;
        }
#pragma unroll
        for (uint32_t i = 0; i < kLaneColumns; ++i)
            out[i] = static_cast<uint8_t>(codes >> (8 * i));
    }
};

// Rows `first`, `first + step` and so on of the block, by a warp. Those without a token become zeros.
template <layout::GemmTile kTile>
MK_DEVICE void activate_rows(const abi::GemmSwigluParams& p, const sched::Block& block, uint32_t tile_smem,
                             uint32_t first, uint32_t step) {
    for (uint32_t i = first; i < block.num_rows + block.num_zero_rows; i += kRowsAtOnce * step) {
        const RowsAtOnce<kTile> rows = {p, block, tile_smem, i, step};
        LaneActivations act;
        rows.load(act);
        rows.store(act);
    }
}

}  // namespace moekit::epilogue
