// Products in E4M3, with a scale per row x 128 of A and per 128 x 128 of B: summed over 128 of K, then promoted to
// FP32, blocks of K in ascending order.
#pragma once

#include "kernels/gemm/gemm.cuh"
#include "mma/fp8.cuh"

namespace moekit::kernels {

// Scales of one stage that a thread of the products needs.
template <layout::GemmTile kTile>
struct Fp8Scales {
    using Smem = layout::GemmSmem<kTile>;
    float a[kTile.num_slices()][2];
    float b[Smem::kNumBScales];

    // `row` is the thread's first in the block.
    MK_DEVICE Fp8Scales(uint32_t scales_smem, uint32_t row) {
        const auto* scales = static_cast<const float*>(__cvta_shared_to_generic(scales_smem));
#pragma unroll
        for (uint32_t slice = 0; slice < kTile.num_slices(); ++slice) {
            a[slice][0] = scales[row + 64 * slice];
            a[slice][1] = scales[row + 64 * slice + 8];
        }
#pragma unroll
        for (uint32_t i = 0; i < Smem::kNumBScales; ++i)
            b[i] = scales[kTile.block_m + i];
    }
};

template <layout::GemmTile kTile>
struct Fp8Math : GemmMath<kTile> {
    using typename GemmMath<kTile>::Smem;
    using GemmMath<kTile>::GemmMath, GemmMath<kTile>::kSlices, GemmMath<kTile>::kN;

    MK_DEVICE void multiply(common::RingState& ring, float (&accum)[kSlices][kN / 2]) const {
        const uint32_t row = this->group_idx * kSlices * 64 + this->warp_in_group * 16 + common::lane_idx() / 4;
        for (uint32_t k = 0; k < this->p.k; k += common::kGranK, ring.advance()) {
            ring.wait_full();
            const Fp8Scales<kTile> scales(this->smem + Smem::scales(this->p.num_stages, ring.stage), row);
            const uint64_t b = mma::k_major_descriptor(this->smem + Smem::b(this->p.num_stages, ring.stage));
#pragma unroll
            for (uint32_t slice = 0; slice < kSlices; ++slice) {
                float sum[kN / 2];
                mma::start_block<kN>(sum, mma::k_major_descriptor(this->a_smem(ring.stage, slice)), b);
                ptx::wgmma_wait_group<0>();
                ptx::wgmma_pin(sum);
                // NOTE: the scales are in registers by now: the stage may be filled again.
                if (slice + 1 == kSlices)
                    this->release(ring.stage);
                mma::promote<kN, Smem::kScaleColumns>(accum[slice], sum, scales.a[slice], scales.b);
            }
        }
    }
};

template <layout::GemmTile kTile, typename Scheduler>
MK_DEVICE void gemm_fp8(const abi::GemmParams& p) {
    static_assert(kTile.has_scales());
    gemm<kTile, Scheduler, Fp8Math<kTile>>(p);
}

}  // namespace moekit::kernels
