// The math of E4M3 products with weights on the M side of the tensor core and tokens on its N side.
#pragma once

#include "kernels/gemm/columns_math.cuh"
#include "kernels/gemm/fp8_pipeline.cuh"
#include "mma/fp8.cuh"

namespace moekit::kernels {

// Scales of one block of K that a thread of the products needs.
template <layout::GemmTile kTile>
struct Fp8SwappedScales {
    using Smem = layout::GemmSmem<kTile>;
    float2 a[kTile.block_m / 8];  // of the thread's two tokens in each eight
    float b;

    MK_DEVICE void read(const abi::GemmParams& p, const ScaleRing<kTile>& ring) {
        const uint32_t token = 2 * (common::lane_idx() % 4);
        if (p.a_scale_order == abi::ScaleOrder::kBlocks)
            read_a<layout::kScaleBlocks>(ring.data() + 4 * ring.block, token);
        else
            read_a<1>(ring.data() + 4 * kTile.block_m * ring.block, token);
        b = load_shared(ring.data() + Smem::kAScaleBytes +
                        ScaleSteps(p.b_scale_order, Smem::kNumBScaleRows).block * ring.block);
    }

    MK_DEVICE void promote(uint32_t, const float (&sum)[kTile.block_m / 2], float (&accum)[kTile.block_m / 2]) const {
        mma::promote_swapped<kTile.block_m>(accum, sum, a, b);
    }

private:
    template <uint32_t kStep>
    MK_DEVICE void read_a(uint32_t of_a, uint32_t token) {
#pragma unroll
        for (uint32_t j = 0; j < kTile.block_m / 8; ++j)
            a[j] = {load_shared(of_a + 4 * kStep * token + 4 * kStep * 8 * j),
                    load_shared(of_a + 4 * kStep * token + 4 * kStep * (8 * j + 1))};
    }
};

template <layout::GemmTile kTile>
struct Fp8SwappedMath : ColumnsMath<kTile> {
    using Scales = Fp8SwappedScales<kTile>;
    using ColumnsMath<kTile>::kN;

    static_assert(kTile.block_n <= 128, "one scale of B for all of the block");

    MK_DEVICE void multiply(const sched::Block&, GemmRing<kTile>& ring, ScaleRing<kTile>& scales,
                            float (&accum)[1][kN / 2]) const {
        const auto read = [&](Scales& of_block) { of_block.read(this->at.p, scales); };
        multiply_ahead<Scales>(*this, ring, scales, read, accum[0]);
    }
};

}  // namespace moekit::kernels
