// Where a product's tiles lie in shared memory: src/backend/cuda/heuristics has the same sums, and a test compares.
#pragma once

#include "common/bits.cuh"

namespace moekit::layout {

// Stages of a ring at most: so many barriers are there.
constexpr uint32_t kMaxStages = 16;

// Format of A and B.
enum class GemmFormat : uint32_t { kE4m3, kBf16 };

// Shape of a CTA's block of D; all that a kernel is specialised on.
struct GemmTile {
    uint32_t block_m, block_n;        // tokens, weights
    uint32_t num_math_warpgroups;     // share the block's 64-row slices of the product's M side
    bool swaps_operands;              // whether weights are the M side of the product, and tokens the N side
    bool scales_each_column = false;  // whether B has a scale per column of D, not per 128
    GemmFormat format = GemmFormat::kE4m3;
    bool is_gated = false;  // whether the weights are two halves of block_n / 2: the gate's, and the up-projection's

    MK_HOST_DEVICE constexpr uint32_t num_threads() const { return 128 * (1 + num_math_warpgroups); }
    // Extents of the product that the tensor core sees.
    MK_HOST_DEVICE constexpr uint32_t side_m() const { return swaps_operands ? block_n : block_m; }
    MK_HOST_DEVICE constexpr uint32_t side_n() const { return swaps_operands ? block_m : block_n; }
    // Columns of the result: of a gated block, two of the product make one.
    MK_HOST_DEVICE constexpr uint32_t out_n() const { return is_gated ? block_n / 2 : block_n; }
    // 64-row slices that each math warpgroup multiplies: its part of the product's M side, or, of a gated block, all of
    // one half of the weights and the tokens.
    MK_HOST_DEVICE constexpr uint32_t num_slices() const {
        return is_gated ? (swaps_operands ? out_n() : block_m) / 64 : side_m() / (64 * num_math_warpgroups);
    }
    // Whether CTAs of a cluster can share the block's K: with few rows, which do not fill a device.
    MK_HOST_DEVICE constexpr bool splits_k() const { return swaps_operands and not is_gated; }
    // Only E4M3 has scales.
    MK_HOST_DEVICE constexpr bool has_scales() const { return format == GemmFormat::kE4m3; }
    // Values of K in a stage.
    MK_HOST_DEVICE constexpr uint32_t block_k() const { return has_scales() ? 128 : 64; }
};

// Bytes of K in a stage, as far as the swizzle reaches: 128 values of E4M3, as many as a scale covers; 64 of BF16.
constexpr uint32_t kBlockKBytes = 128;
// Columns of a box of D: 128 bytes of BF16, as far as the swizzle reaches.
constexpr uint32_t kStoreColumns = 64;

constexpr uint32_t greatest_common_divisor(uint32_t a, uint32_t b) {
    return b == 0 ? a : greatest_common_divisor(b, a % b);
}

// Blocks of K whose scales lie together: four FP32 are the least that TMA copies.
constexpr uint32_t kScaleBlocks = 4;

// Byte offsets from the start of shared memory, which is aligned to 1024: barriers; the stages; D on its way out, if it
// is BF16; then a ring of scales; then sums of a cluster's CTAs, if these share K. NOTE: what a stage needs of tiles
// lies together, at offsets known to the compiler, so that one product finds all of it.
template <GemmTile kTile>
struct GemmSmem {
    // Columns of a block that surely share a scale of B, wherever the block starts.
    static constexpr uint32_t kScaleColumns =
        kTile.scales_each_column ? 1 : greatest_common_divisor(kTile.block_n, 128);
    static constexpr uint32_t kNumBScales = kTile.block_n / kScaleColumns;

    static constexpr uint32_t kAlign = 1024;
    static constexpr uint32_t kBarrierBytes = kMaxStages * 2 * 8;
    static constexpr uint32_t kDBytes = kTile.block_m * kTile.block_n * 2;
    static constexpr uint32_t kABytes = kTile.block_m * kBlockKBytes;
    static constexpr uint32_t kBBytes = kTile.block_n * kBlockKBytes;
    static constexpr uint32_t kStageBytes = kABytes + kBBytes;

    // Scales of kScaleBlocks blocks of K: an FP32 of each block per row of A, and then those of B, per row of it or per
    // 128 rows, of which a block's columns meet two at most.
    static constexpr uint32_t kNumBScaleRows = kTile.scales_each_column ? kTile.block_n : kTile.block_n > 128 ? 2 : 1;
    static constexpr uint32_t kAScaleBytes = kTile.block_m * kScaleBlocks * 4;
    static constexpr uint32_t kBScaleBytes = kNumBScaleRows * kScaleBlocks * 4;
    static constexpr uint32_t kScaleAlign = 128;
    static constexpr uint32_t kScaleSlotBytes =
        kTile.has_scales() ? (kAScaleBytes + kBScaleBytes + kScaleAlign - 1) / kScaleAlign * kScaleAlign : 0;

    static constexpr uint32_t kRing = (kBarrierBytes + kAlign - 1) / kAlign * kAlign;

    // Slots of the ring of scales. NOTE: so many that a slot's last block of K has been released when the stage of its
    // next first one has: nothing else guards them.
    MK_HOST_DEVICE static constexpr uint32_t num_scale_slots(uint32_t num_stages) {
        return (num_stages + 2 * (kScaleBlocks - 1)) / kScaleBlocks;
    }

    MK_HOST_DEVICE static constexpr uint32_t stage(uint32_t idx) { return kRing + idx * kStageBytes; }
    MK_HOST_DEVICE static constexpr uint32_t d(uint32_t num_stages) { return stage(num_stages); }
    MK_HOST_DEVICE static constexpr uint32_t scales(uint32_t num_stages, bool has_d) {
        return d(num_stages) + (has_d ? kDBytes : 0);
    }
    MK_HOST_DEVICE static constexpr uint32_t total(uint32_t num_stages, bool has_d) {
        return scales(num_stages, has_d) + num_scale_slots(num_stages) * kScaleSlotBytes;
    }

    // Sums of some rows of the block, in whole eights, from each of `split_k` CTAs, which share them.
    MK_HOST_DEVICE static constexpr uint32_t partial_bytes(uint32_t split_k) {
        const uint32_t num_rows = kTile.block_m > 8 * split_k ? kTile.block_m : 8 * split_k;
        return split_k == 1 ? 0 : 4 * kTile.block_n * num_rows;
    }
    MK_HOST_DEVICE static constexpr uint32_t partials(uint32_t num_stages, bool has_d) {
        return total(num_stages, has_d);
    }

    // Within a stage.
    static constexpr uint32_t kA = 0;
    static constexpr uint32_t kB = kABytes;
};

}  // namespace moekit::layout
