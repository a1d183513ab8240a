// Packs FP32 scales [num_groups, num_rows, num_blocks] into UE8M0 bytes, four to a word: `pack_scales`, one thread a
// word, one CTA a tile of 32 rows x 32 words. A scale that is no power of two is rounded up and recorded; the first in
// the order of tiles is told, and `explain_pack_scales`, launched behind, finds what to tell.
// Meaning: src/moe/quant/scales.rs.
#pragma once

#include "abi/quant.h"
#include "common/e4m3.cuh"
#include "common/fault.cuh"
#include "kernels/quant/scales.cuh"

namespace moekit::kernels {

constexpr uint32_t kTile = 32;
constexpr uint32_t kPackThreads = kTile * kTile;

static_assert(kPackThreads <= 1024, "a CTA has at most 1,024 threads");

// A word by its number in the order of tiles, rows before words within a tile.
struct PackedWord {
    uint32_t group, row, word;

    MK_DEVICE PackedWord(const abi::PackScalesParams& p, uint32_t tile, uint32_t idx_in_tile) {
        word = tile % p.num_word_tiles * kTile + idx_in_tile % kTile;
        row = tile / p.num_word_tiles % p.num_row_tiles * kTile + idx_in_tile / kTile;
        group = tile / p.num_word_tiles / p.num_row_tiles;
    }

    MK_DEVICE float scale(const abi::PackScalesParams& p, uint32_t byte) const {
        return p.scales[offset(p.in_strides, group, row, 4 * word + byte)];
    }
};

MK_DEVICE void pack_scales(const abi::PackScalesParams& p) {
    const PackedWord at(p, blockIdx.x, threadIdx.x);
    if (at.row >= p.num_rows or 4 * at.word >= p.num_blocks)
        return;
    uint32_t packed = 0;
#pragma unroll
    for (uint32_t byte = 0; byte < 4; ++byte) {
        if (4 * at.word + byte >= p.num_blocks)
            break;
        const float sf = at.scale(p, byte);
        const uint32_t code = common::ue8m0_of_f32_ceil(sf);
        if (not(common::ue8m0_to_f32(code) == sf))
            common::claim_fault(p.faults, abi::FaultKind::kPackScales,
                                (blockIdx.x * kPackThreads + threadIdx.x) * 4 + byte);
        packed |= code << (8 * byte);
    }
    p.out[offset(p.out_strides, at.group, at.row, at.word)] = packed;
}

// One thread.
MK_DEVICE void explain_pack_scales(const abi::PackScalesParams& p) {
    const uint64_t order = common::recorded_fault(p.faults, abi::FaultKind::kPackScales);
    if (order >> 32 != p.faults.launch_idx)
        return;
    const uint32_t position = static_cast<uint32_t>(order), idx = position / 4, byte = position % 4;
    const PackedWord at(p, idx / kPackThreads, idx % kPackThreads);
    const int64_t place = static_cast<int64_t>(static_cast<uint64_t>(at.group) << 32 | at.row);
    common::explain_fault(p.faults, abi::FaultKind::kPackScales, position, common::to_bits(at.scale(p, byte)), place,
                          4 * at.word + byte);
}

}  // namespace moekit::kernels
