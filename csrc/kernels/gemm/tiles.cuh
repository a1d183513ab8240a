// The tiles that products are compiled for: src/backend/cuda/heuristics has the same lists, and a test compares.
#pragma once

#include "layout/gemm_smem.cuh"

namespace moekit::kernels {

constexpr layout::GemmTile kM128N128 = {128, 128, 2, false};
constexpr layout::GemmTile kM128N192 = {128, 192, 2, false};
constexpr layout::GemmTile kM128N256 = {128, 256, 2, false};
constexpr layout::GemmTile kM256N128 = {256, 128, 2, false};
constexpr layout::GemmTile kSwappedM8N64 = {8, 64, 1, true};
constexpr layout::GemmTile kSwappedM16N64 = {16, 64, 1, true};
constexpr layout::GemmTile kSwappedM32N64 = {32, 64, 1, true};
constexpr layout::GemmTile kSwappedM64N64 = {64, 64, 1, true};
constexpr layout::GemmTile kSwappedM8N128 = {8, 128, 2, true};
constexpr layout::GemmTile kSwappedM16N128 = {16, 128, 2, true};
constexpr layout::GemmTile kSwappedM32N128 = {32, 128, 2, true};
constexpr layout::GemmTile kSwappedM64N128 = {64, 128, 2, true};

// Groups along K.
constexpr layout::GemmTile kKGroupedM128N64 = {128, 64, 2, false, true};
constexpr layout::GemmTile kKGroupedM128N128 = {128, 128, 2, false, true};

// Gate and up-projection: 128 columns of each.
MK_HOST_DEVICE constexpr layout::GemmTile gated(uint32_t block_m, bool swaps_operands) {
    return {block_m, 256, 2, swaps_operands, false, layout::GemmFormat::kE4m3, true};
}

constexpr layout::GemmTile kGatedM128 = gated(128, false);
constexpr layout::GemmTile kGatedSwappedM16 = gated(16, true);
constexpr layout::GemmTile kGatedSwappedM32 = gated(32, true);
constexpr layout::GemmTile kGatedSwappedM64 = gated(64, true);

constexpr layout::GemmTile kGatedTiles[] = {kGatedM128, kGatedSwappedM16, kGatedSwappedM32, kGatedSwappedM64};

MK_HOST_DEVICE constexpr layout::GemmTile in_bf16(layout::GemmTile tile) {
    tile.format = layout::GemmFormat::kBf16;
    return tile;
}

constexpr layout::GemmTile kFp8Tiles[] = {kM128N128,       kM128N192,       kM256N128,      kSwappedM8N64,
                                          kSwappedM16N64,  kSwappedM32N64,  kSwappedM64N64, kSwappedM8N128,
                                          kSwappedM16N128, kSwappedM32N128, kSwappedM64N128};

constexpr layout::GemmTile kBf16Tiles[] = {in_bf16(kM128N128),       in_bf16(kM128N192),      in_bf16(kM128N256),
                                           in_bf16(kM256N128),       in_bf16(kSwappedM8N64),  in_bf16(kSwappedM16N64),
                                           in_bf16(kSwappedM32N64),  in_bf16(kSwappedM64N64), in_bf16(kSwappedM16N128),
                                           in_bf16(kSwappedM32N128), in_bf16(kSwappedM64N128)};

}  // namespace moekit::kernels
