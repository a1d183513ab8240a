// Products in BF16, summed in FP32 over all of K in ascending order.
#pragma once

#include "kernels/gemm/gemm.cuh"
#include "mma/bf16.cuh"

namespace moekit::kernels {

template <layout::GemmTile kTile>
struct Bf16Math : GemmMath<kTile> {
    using typename GemmMath<kTile>::Smem;
    using GemmMath<kTile>::GemmMath, GemmMath<kTile>::kSlices, GemmMath<kTile>::kN;

    // The products of a stage run while those of the next are waited for.
    MK_DEVICE void multiply(common::RingState& ring, float (&accum)[kSlices][kN / 2]) const {
        uint32_t stage_before = 0;
        for (uint32_t k = 0; k < this->p.k; k += kTile.block_k(), ring.advance()) {
            ring.wait_full();
            const uint64_t b = mma::k_major_descriptor(this->smem + Smem::b(this->p.num_stages, ring.stage));
            ptx::wgmma_fence();
#pragma unroll
            for (uint32_t slice = 0; slice < kSlices; ++slice)
                mma::add_block<kN>(accum[slice], mma::k_major_descriptor(this->a_smem(ring.stage, slice)), b);
            ptx::wgmma_commit_group();
            ptx::wgmma_wait_group<1>();
            if (k > 0)
                this->release(stage_before);
            stage_before = ring.stage;
        }
        ptx::wgmma_wait_group<0>();
#pragma unroll
        for (uint32_t slice = 0; slice < kSlices; ++slice)
            ptx::wgmma_pin(accum[slice]);
        if (this->p.k > 0)
            this->release(stage_before);
    }
};

template <layout::GemmTile kTile, typename Scheduler>
MK_DEVICE void gemm_bf16(const abi::GemmParams& p) {
    static_assert(not kTile.has_scales());
    gemm<kTile, Scheduler, Bf16Math<kTile>>(p);
}

}  // namespace moekit::kernels
