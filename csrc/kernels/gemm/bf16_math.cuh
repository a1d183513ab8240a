// The math of BF16 products: summed in FP32 over all of K in ascending order, with either operand on the M side of the
// tensor core.
#pragma once

#include "kernels/gemm/columns_math.cuh"
#include "kernels/gemm/rows_math.cuh"
#include "mma/bf16.cuh"

namespace moekit::kernels {

// Side is RowsMath or ColumnsMath.
template <typename Side>
struct Bf16Math : Side {
    using Side::kSlices, Side::kN, Side::at;

    // The products of a stage run while the next is waited for. NOTE: so the ring needs two stages.
    MK_DEVICE void multiply(const sched::Block&, GemmRing<Side::kShape>& ring, ScaleRing<Side::kShape>&,
                            float (&accum)[kSlices][kN / 2]) const {
        uint32_t stage_before = 0;
        for (uint32_t k = 0; k < at.k_len(); k += Side::kShape.block_k(), ring.advance()) {
            ring.wait_full();
            const uint32_t n_side = this->n_descriptor(ring);
            ptx::wgmma_fence();
#pragma unroll
            for (uint32_t slice = 0; slice < kSlices; ++slice)
                mma::add_block<kN>(accum[slice], this->m_descriptor(ring, slice), n_side);
            ptx::wgmma_commit_group();
            ptx::wgmma_wait_group<1>();
            if (k > 0)
                at.release(stage_before);
            stage_before = ring.stage;
        }
        ptx::wgmma_wait_group<0>();
#pragma unroll
        for (uint32_t slice = 0; slice < kSlices; ++slice)
            ptx::wgmma_pin(accum[slice]);
        if (at.k_len() > 0)
            at.release(stage_before);
    }
};

}  // namespace moekit::kernels
