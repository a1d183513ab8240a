// The math of E4M3 products with tokens on the M side of the tensor core.
#pragma once

#include "kernels/gemm/rows_math.cuh"
#include "mma/fp8.cuh"

namespace moekit::kernels {

// Scales of one stage that a thread of the products needs. Of B: those of the block, or of the thread's two columns in
// each eight.
template <layout::GemmTile kTile>
struct Fp8Scales {
    using Smem = layout::GemmSmem<kTile>;
    static constexpr uint32_t kNumB = kTile.scales_each_column ? kTile.block_n / 4 : Smem::kNumBScales;
    float a[kTile.num_slices()][2];
    float b[kNumB];

    // `row` is the thread's first in the block.
    MK_DEVICE Fp8Scales(uint32_t scales_smem, uint32_t row) {
        const auto* scales = static_cast<const float*>(__cvta_shared_to_generic(scales_smem));
#pragma unroll
        for (uint32_t slice = 0; slice < kTile.num_slices(); ++slice) {
            a[slice][0] = scales[row + 64 * slice];
            a[slice][1] = scales[row + 64 * slice + 8];
        }
        const float* of_b = scales + kTile.block_m;
#pragma unroll
        for (uint32_t i = 0; i < kNumB; ++i)
            b[i] = of_b[kTile.scales_each_column ? i / 2 * 8 + 2 * (common::lane_idx() % 4) + i % 2 : i];
    }
};

template <layout::GemmTile kTile>
struct Fp8Math : RowsMath<kTile> {
    using typename RowsMath<kTile>::Smem;
    using RowsMath<kTile>::kSlices, RowsMath<kTile>::kN, RowsMath<kTile>::at;

    MK_DEVICE void multiply(GemmRing<kTile>& ring, float (&accum)[kSlices][kN / 2]) const {
        const abi::GemmParams& p = at.p;
        const uint32_t row = this->first_row();
        for (uint32_t k = 0; k < p.k; k += common::kGranK, ring.advance()) {
            ring.wait_full();
            const Fp8Scales<kTile> scales(ring.data() + Smem::kScales, row);
            const uint64_t b = mma::k_major_descriptor(this->n_side(ring.data()));
#pragma unroll
            for (uint32_t slice = 0; slice < kSlices; ++slice) {
                float sum[kN / 2];
                mma::start_block<kN>(sum, mma::k_major_descriptor(this->m_side(ring.data(), slice)), b);
                ptx::wgmma_wait_group<0>();
                ptx::wgmma_pin(sum);
                // NOTE: the scales are in registers by now: the stage may be filled again.
                if (slice + 1 == kSlices)
                    at.release(ring.stage);
                mma::promote(accum[slice], sum, scales.a[slice], scales.b);
            }
        }
    }
};

}  // namespace moekit::kernels
