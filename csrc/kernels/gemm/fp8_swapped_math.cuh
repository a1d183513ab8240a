// The math of E4M3 products with weights on the M side of the tensor core and tokens on its N side.
#pragma once

#include "kernels/gemm/columns_math.cuh"
#include "kernels/gemm/fp8_pipeline.cuh"
#include "mma/fp8.cuh"

namespace moekit::kernels {

// Scales of one block of K that a thread of the products needs.
template <layout::GemmTile kTile>
struct Fp8SwappedScales {
    float2 a[kTile.block_m / 8];  // of the thread's two tokens in each eight
    float b;

    MK_DEVICE void promote(uint32_t, const float (&sum)[kTile.block_m / 2], float (&accum)[kTile.block_m / 2]) const {
        mma::promote_swapped<kTile.block_m>(accum, sum, a, b);
    }
};

// Reads them from the ring.
template <layout::GemmTile kTile>
struct Fp8SwappedScaleReader {
    using Smem = layout::GemmSmem<kTile>;
    using Scales = Fp8SwappedScales<kTile>;
    ScaleSteps a_steps;
    ScaleSteps b_steps;
    uint32_t half;   // of a gated block, whose scale of B it is
    uint32_t first;  // of the thread's tokens' scales in a block

    MK_DEVICE explicit Fp8SwappedScaleReader(const abi::GemmParams& p, uint32_t which_half = 0)
        : a_steps(scale_steps<kTile>(p.a_scale_order, kTile.block_m)),
          b_steps(scale_steps<kTile>(p.b_scale_order, Smem::kNumBScaleRows)),
          half(which_half),
          first(2 * (common::lane_idx() % 4) * a_steps.row) {}

    MK_DEVICE void read(const ScaleRing<kTile>& ring, Scales& scales) const {
        const uint32_t of_a = ring.data() + a_steps.block * ring.block + first;
#pragma unroll
        for (uint32_t j = 0; j < kTile.block_m / 8; ++j) {
            constexpr uint32_t kRowStep = 4 * layout::kScaleBlocks;
            if (a_steps.by_block)
                scales.a[j] = {load_shared(of_a + kRowStep * 8 * j), load_shared(of_a + kRowStep * (8 * j + 1))};
            else
                scales.a[j] = *static_cast<const float2*>(__cvta_shared_to_generic(of_a + 4 * 8 * j));
        }
        scales.b = load_shared(ring.data() + Smem::kAScaleBytes + b_steps.block * ring.block + b_steps.row * half);
    }
};

template <layout::GemmTile kTile>
struct Fp8SwappedMath : ColumnsMath<kTile> {
    using ColumnsMath<kTile>::kN;

    static_assert(kTile.block_n <= 128, "one scale of B for all of the block");

    MK_DEVICE void multiply(const sched::Block&, GemmRing<kTile>& ring, ScaleRing<kTile>& scales,
                            float (&accum)[1][kN / 2]) const {
        multiply_ahead(*this, Fp8SwappedScaleReader<kTile>(this->at.p), ring, scales, accum[0]);
    }
};

}  // namespace moekit::kernels
