// The math of E4M3 products with tokens on the M side of the tensor core.
#pragma once

#include "kernels/gemm/fp8_pipeline.cuh"
#include "kernels/gemm/rows_math.cuh"
#include "mma/fp8.cuh"

namespace moekit::kernels {

// Scales of one block of K that a thread of the products needs. Of B: those of the block, or of the thread's two columns
// in each eight.
template <layout::GemmTile kTile>
struct Fp8Scales {
    using Smem = layout::GemmSmem<kTile>;
    static constexpr uint32_t kNumB = kTile.scales_each_column ? kTile.block_n / 4 : Smem::kNumBScales;
    float a[kTile.num_slices()][2];
    float b[kNumB];

    // `row` is the thread's first in the block.
    MK_DEVICE void read(const abi::GemmParams& p, const sched::Block& block, const ScaleRing<kTile>& ring, uint32_t row) {
        if (p.a_scale_order == abi::ScaleOrder::kBlocks)
            read_a<layout::kScaleBlocks>(ring.data() + 4 * ring.block, row);
        else
            read_a<1>(ring.data() + 4 * kTile.block_m * ring.block, row);
        const ScaleSteps steps(p.b_scale_order, Smem::kNumBScaleRows);
        const uint32_t of_b = ring.data() + Smem::kAScaleBytes + steps.block * ring.block;
#pragma unroll
        for (uint32_t i = 0; i < kNumB; ++i)
            b[i] = load_shared(of_b + steps.row * b_row(block, i));
    }

    // Slice `slice` of sums, added to what they belong to.
    MK_DEVICE void promote(uint32_t slice, const float (&sum)[kTile.block_n / 2], float (&accum)[kTile.block_n / 2]) const {
        mma::promote(accum, sum, a[slice], b);
    }

private:
    template <uint32_t kStep>
    MK_DEVICE void read_a(uint32_t of_a, uint32_t row) {
#pragma unroll
        for (uint32_t slice = 0; slice < kTile.num_slices(); ++slice)
#pragma unroll
            for (uint32_t half = 0; half < 2; ++half)
                a[slice][half] = load_shared(of_a + 4 * kStep * row + 4 * kStep * (64 * slice + 8 * half));
    }

    // Which row of B's scales in the slot is that of `b[i]`.
    static MK_DEVICE uint32_t b_row(const sched::Block& block, uint32_t i) {
        if constexpr (kTile.scales_each_column)
            return i / 2 * 8 + 2 * (common::lane_idx() % 4) + i % 2;
        else
            return (block.column % 128 + i * Smem::kScaleColumns) / 128;
    }
};

template <layout::GemmTile kTile>
struct Fp8Math : RowsMath<kTile> {
    using Scales = Fp8Scales<kTile>;
    using RowsMath<kTile>::kSlices, RowsMath<kTile>::kN;
    // Two blocks' sums at a time, beside those that stay.
    static constexpr bool kRunsAhead = kSlices == 1 and kN <= 128 and not kTile.scales_each_column;

    MK_DEVICE void multiply(const sched::Block& block, GemmRing<kTile>& ring, ScaleRing<kTile>& scales,
                            float (&accum)[kSlices][kN / 2]) const {
        const auto read = [&](Scales& of_block) { of_block.read(this->at.p, block, scales, this->first_row()); };
        if constexpr (kRunsAhead)
            multiply_ahead<Scales>(*this, ring, scales, read, accum[0]);
        else
            multiply_in_turn<Scales>(*this, ring, scales, read, accum);
    }
};

}  // namespace moekit::kernels
