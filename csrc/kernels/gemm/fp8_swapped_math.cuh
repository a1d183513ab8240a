// The math of E4M3 products with weights on the M side of the tensor core and tokens on its N side.
#pragma once

#include "kernels/gemm/columns_math.cuh"
#include "mma/fp8.cuh"

namespace moekit::kernels {

// Scales of one stage that a thread of the products needs.
template <layout::GemmTile kTile>
struct Fp8SwappedScales {
    float2 a[kTile.block_m / 8];  // of the thread's two tokens in each eight
    float b;

    MK_DEVICE explicit Fp8SwappedScales(uint32_t scales_smem) {
        const auto* scales = static_cast<const float*>(__cvta_shared_to_generic(scales_smem));
#pragma unroll
        for (uint32_t j = 0; j < kTile.block_m / 8; ++j)
            a[j] = *reinterpret_cast<const float2*>(scales + 8 * j + 2 * (common::lane_idx() % 4));
        b = scales[kTile.block_m];
    }
};

template <layout::GemmTile kTile>
struct Fp8SwappedMath : ColumnsMath<kTile> {
    using typename ColumnsMath<kTile>::Smem;
    using ColumnsMath<kTile>::kN, ColumnsMath<kTile>::at;

    static_assert(kTile.block_n <= 128, "one scale of B for all of the block");

    MK_DEVICE void multiply(GemmRing<kTile>& ring, float (&accum)[1][kN / 2]) const {
        const abi::GemmParams& p = at.p;
        for (uint32_t k = 0; k < p.k; k += common::kGranK, ring.advance()) {
            ring.wait_full();
            const Fp8SwappedScales<kTile> scales(ring.data() + Smem::kScales);
            float sum[kN / 2];
            mma::start_block<kN>(sum, mma::k_major_descriptor(this->m_side(ring.data(), 0)),
                                 mma::k_major_descriptor(this->n_side(ring.data())));
            ptx::wgmma_wait_group<0>();
            ptx::wgmma_pin(sum);
            // NOTE: the scales are in registers by now: the stage may be filled again.
            at.release(ring.stage);
            mma::promote_swapped<kN>(accum[0], sum, scales.a, scales.b);
        }
    }
};

}  // namespace moekit::kernels
