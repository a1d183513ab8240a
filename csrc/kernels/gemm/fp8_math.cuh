// The math of E4M3 products with tokens on the M side of the tensor core.
#pragma once

#include "kernels/gemm/fp8_pipeline.cuh"
#include "kernels/gemm/rows_math.cuh"
#include "mma/fp8.cuh"

namespace moekit::kernels {

// Scales of one block of K that a thread of the products needs. Of B: those of the block, of its half, or of the
// thread's two columns in each eight.
template <layout::GemmTile kTile>
struct Fp8Scales {
    using Smem = layout::GemmSmem<kTile>;
    static constexpr uint32_t kNumB = kTile.scales_each_column ? kTile.block_n / 4
                                      : kTile.is_gated         ? 1
                                                               : Smem::kNumBScales;
    float a[kTile.num_slices()][2];
    float b[kNumB];

    // Slice `slice` of sums, added to what they belong to.
    MK_DEVICE void promote(uint32_t slice, const float (&sum)[kTile.out_n() / 2],
                           float (&accum)[kTile.out_n() / 2]) const {
        mma::promote(accum, sum, a[slice], b);
    }
};

// Reads them from the ring, in a block of D.
template <layout::GemmTile kTile>
struct Fp8ScaleReader {
    using Smem = layout::GemmSmem<kTile>;
    using Scales = Fp8Scales<kTile>;
    ScaleSteps a_steps, b_steps;
    uint32_t row;     // the thread's first
    uint32_t column;  // the block's first within 128, or the thread's; of a gated block, which half

    MK_DEVICE Fp8ScaleReader(const abi::GemmParams& p, const sched::Block& block, uint32_t first_row)
        : a_steps(scale_steps<kTile>(p.a_scale_order, kTile.block_m)),
          b_steps(scale_steps<kTile>(p.b_scale_order, Smem::kNumBScaleRows)),
          row(first_row),
          column(kTile.scales_each_column ? 2 * (common::lane_idx() % 4) : block.column % 128) {}

    // Of a gated block.
    MK_DEVICE Fp8ScaleReader(const abi::GemmParams& p, uint32_t half, uint32_t first_row)
        : a_steps(scale_steps<kTile>(p.a_scale_order, kTile.block_m)),
          b_steps(scale_steps<kTile>(p.b_scale_order, Smem::kNumBScaleRows)),
          row(first_row),
          column(half) {}

    MK_DEVICE void read(const ScaleRing<kTile>& ring, Scales& scales) const {
        const uint32_t of_a = ring.data() + a_steps.block * ring.block + a_steps.row * row;
        if (a_steps.by_block)
            read_a<4 * layout::kScaleBlocks>(of_a, scales);
        else
            read_a<4>(of_a, scales);
        const uint32_t of_b = ring.data() + Smem::kAScaleBytes + b_steps.block * ring.block;
#pragma unroll
        for (uint32_t i = 0; i < Scales::kNumB; ++i)
            scales.b[i] = load_shared(of_b + b_steps.row * b_row(i));
    }

private:
    template <uint32_t kRowStep>
    static MK_DEVICE void read_a(uint32_t of_a, Scales& scales) {
#pragma unroll
        for (uint32_t slice = 0; slice < kTile.num_slices(); ++slice)
#pragma unroll
            for (uint32_t half = 0; half < 2; ++half)
                scales.a[slice][half] = load_shared(of_a + kRowStep * (64 * slice + 8 * half));
    }

    // Which of the slot's rows of B's scales has `b[i]`.
    MK_DEVICE uint32_t b_row(uint32_t i) const {
        if constexpr (kTile.scales_each_column)
            return i / 2 * 8 + column + i % 2;
        else if constexpr (kTile.is_gated)
            return column;
        else
            return kTile.block_n > 128 ? (column + i * Smem::kScaleColumns) / 128 : 0;
    }
};

template <layout::GemmTile kTile>
struct Fp8Math : RowsMath<kTile> {
    using RowsMath<kTile>::kSlices, RowsMath<kTile>::kN;
    // Whether there are registers for two blocks' sums, and for two blocks' scales, beside the sums that stay.
    static constexpr bool kRunsAhead = kSlices == 1 and kN <= 128 and not kTile.scales_each_column;
    static constexpr bool kReadsAhead = not kTile.scales_each_column;

    MK_DEVICE void multiply(const sched::Block& block, GemmRing<kTile>& ring, ScaleRing<kTile>& scales,
                            float (&accum)[kSlices][kN / 2]) const {
        const Fp8ScaleReader<kTile> reader(this->at.p, block, this->first_row());
        if constexpr (kRunsAhead)
            multiply_ahead(*this, reader, ring, scales, accum[0]);
        else if constexpr (kReadsAhead)
            multiply_in_turn(*this, reader, ring, scales, accum);
        else
            multiply_one_by_one(*this, reader, ring, scales, accum);
    }
};

}  // namespace moekit::kernels
