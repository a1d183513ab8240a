// The math of E4M3 products whose weights are a gate's and an up-projection's: each of two warpgroups multiplies one of
// them with all tokens of the block, which stand on either side of the tensor core. The sums are those of fp8_math.cuh
// and fp8_swapped_math.cuh, in the same order: the same bits.
#pragma once

#include "epilogue/swiglu_rows.cuh"
#include "kernels/gemm/fp8_math.cuh"
#include "kernels/gemm/fp8_swapped_math.cuh"

#include <type_traits>

namespace moekit::kernels {

// Config checks.
template <layout::GemmTile kTile>
struct GatedTileChecks {
    static_assert(kTile.is_gated and kTile.has_scales() and not kTile.scales_each_column);
    static_assert(kTile.num_math_warpgroups == 2, "one for the gate, one for the up-projection");
    static_assert(kTile.out_n() == 128, "one scale of B for each half");
};

template <layout::GemmTile kTile>
struct Fp8GatedMath : GatedTileChecks<kTile> {
    using Smem = layout::GemmSmem<kTile>;
    using Tile = epilogue::GatedTile<kTile>;
    using Reader = std::conditional_t<kTile.swaps_operands, Fp8SwappedScaleReader<kTile>, Fp8ScaleReader<kTile>>;
    static constexpr uint32_t kSlices = kTile.num_slices();
    static constexpr uint32_t kN = kTile.swaps_operands ? kTile.block_m : kTile.out_n();

    MathWarp<kTile> at;

    // Descriptors of the tensor core's M and N side in the ring's stage.
    MK_DEVICE uint32_t m_descriptor(const GemmRing<kTile>& ring, uint32_t slice) const {
        return side_descriptor(ring, not kTile.swaps_operands, slice * 64 * layout::kBlockKBytes);
    }
    MK_DEVICE uint32_t n_descriptor(const GemmRing<kTile>& ring) const {
        return side_descriptor(ring, kTile.swaps_operands, 0);
    }

    MK_DEVICE void multiply(GemmRing<kTile>& ring, ScaleRing<kTile>& of_scales, float (&accum)[kSlices][kN / 2]) const {
        multiply_in_turn(*this, reader(), ring, of_scales, accum);
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
    // Of the tokens, or of this warpgroup's weights.
    MK_DEVICE uint32_t side_descriptor(const GemmRing<kTile>& ring, bool is_a, uint32_t first) const {
        const uint32_t side = is_a ? Smem::kA : Smem::kB + at.group_idx * (Smem::kBBytes / 2);
        return mma::k_major_descriptor(ring.first_data() + side + first) + mma::descriptor_step(ring);
    }

    MK_DEVICE Reader reader() const {
        if constexpr (kTile.swaps_operands)
            return Reader(at.p, at.group_idx);
        else
            return Reader(at.p, at.group_idx, 16 * at.warp_in_group + common::lane_idx() / 4);
    }
};

}  // namespace moekit::kernels
