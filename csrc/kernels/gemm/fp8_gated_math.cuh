// The math of E4M3 products whose weights are a gate's and an up-projection's: each of two warpgroups multiplies one of
// them with all tokens of the block, which stand on either side of the tensor core. The sums are those of fp8_math.cuh
// and fp8_swapped_math.cuh, in the same order: the same bits.
#pragma once

#include "epilogue/swiglu_rows.cuh"
#include "kernels/gemm/math.cuh"
#include "mma/fp8.cuh"

namespace moekit::kernels {

// Config checks.
template <layout::GemmTile kTile>
struct GatedTileChecks {
    static_assert(kTile.is_gated and kTile.has_scales() and not kTile.scales_each_column);
    static_assert(kTile.num_math_warpgroups == 2, "one for the gate, one for the up-projection");
    static_assert(kTile.out_n() == 128, "one scale of B for each half");
};

// Scales of one stage that a thread of the products needs.
template <layout::GemmTile kTile>
struct GatedScales {
    // Of the thread's two rows in each slice, or of its two columns in each eight.
    static constexpr uint32_t kNumPairs = kTile.swaps_operands ? kTile.block_m / 8 : kTile.block_m / 64;
    float2 a[kNumPairs];
    float b[1];

    // As copies leave them.
    MK_DEVICE GatedScales(const ScaleRing<kTile>& ring, uint32_t half, uint32_t warp_in_group) {
        using Smem = layout::GemmSmem<kTile>;
        const uint32_t of_a = ring.data() + 4 * kTile.block_m * ring.block;
        const uint32_t of_b = ring.data() + Smem::kAScaleBytes + 4 * Smem::kNumBScaleRows * ring.block;
        const auto* scales = static_cast<const float*>(__cvta_shared_to_generic(of_a));
        const uint32_t lane = common::lane_idx();
#pragma unroll
        for (uint32_t i = 0; i < kNumPairs; ++i) {
            const uint32_t first =
                kTile.swaps_operands ? 8 * i + 2 * (lane % 4) : 64 * i + 16 * warp_in_group + lane / 4;
            a[i] = {scales[first], scales[first + (kTile.swaps_operands ? 1 : 8)]};
        }
        b[0] = static_cast<const float*>(__cvta_shared_to_generic(of_b))[half];
    }
};

template <layout::GemmTile kTile>
struct Fp8GatedMath : GatedTileChecks<kTile> {
    using Smem = layout::GemmSmem<kTile>;
    using Tile = epilogue::GatedTile<kTile>;
    static constexpr uint32_t kSlices = (kTile.swaps_operands ? kTile.out_n() : kTile.block_m) / 64;
    static constexpr uint32_t kN = kTile.swaps_operands ? kTile.block_m : kTile.out_n();

    MathWarp<kTile> at;

    MK_DEVICE void multiply(GemmRing<kTile>& ring, ScaleRing<kTile>& of_scales, float (&accum)[kSlices][kN / 2]) const {
        for (uint32_t k = 0; k < at.p.k; k += common::kGranK, ring.advance(), of_scales.advance()) {
            ring.wait_full();
            const GatedScales<kTile> scales(of_scales, at.group_idx, at.warp_in_group);
            const uint32_t a = ring.data() + Smem::kA, b = ring.data() + Smem::kB + at.group_idx * (Smem::kBBytes / 2);
#pragma unroll
            for (uint32_t slice = 0; slice < kSlices; ++slice) {
                const uint32_t first = slice * 64 * layout::kBlockKBytes;
                float sum[kN / 2];
                mma::start_block<kN>(sum, mma::k_major_descriptor(kTile.swaps_operands ? b + first : a + first),
                                     mma::k_major_descriptor(kTile.swaps_operands ? a : b));
                ptx::wgmma_wait_group<0>();
                ptx::wgmma_pin(sum);
                // NOTE: the scales are in registers by now: the stage may be filled again.
                if (slice + 1 == kSlices)
                    at.release(ring.stage);
                promote(accum[slice], sum, scales, slice);
            }
        }
    }

    // Leaves this warpgroup's half in shared memory.
    MK_DEVICE void to_shared(const float (&accum)[kSlices][kN / 2], uint32_t tile_smem) const {
        const uint32_t half = tile_smem + at.group_idx * Tile::kHalfBytes;
#pragma unroll
        for (uint32_t slice = 0; slice < kSlices; ++slice) {
            const uint32_t smem = half + slice * (Tile::kHalfBytes / kSlices);
            if constexpr (kTile.swaps_operands)
                epilogue::columns_to_shared<kN>(accum[slice], smem, at.warp_in_group);
            else
                epilogue::rows_to_shared<kN>(accum[slice], smem, at.warp_in_group);
        }
    }

private:
    static MK_DEVICE void promote(float (&accum)[kN / 2], const float (&sum)[kN / 2], const GatedScales<kTile>& scales,
                                  uint32_t slice) {
        if constexpr (kTile.swaps_operands)
            mma::promote_swapped<kN>(accum, sum, scales.a, scales.b[0]);
        else
            mma::promote(accum, sum, {scales.a[slice].x, scales.a[slice].y}, scales.b);
    }
};

}  // namespace moekit::kernels
