// How E4M3 products of one block of K follow those of the one before. A side's math (rows_math.cuh, columns_math.cuh)
// says where operands lie, a reader takes a block's scales from their ring, and they say how sums are promoted. In any
// order a sum is promoted when its block's is due: the bits are the same.
#pragma once

#include "kernels/gemm/math.cuh"
#include "mma/fp8.cuh"

namespace moekit::kernels {

MK_DEVICE float load_shared(uint32_t address) {
    return *static_cast<const float*>(__cvta_shared_to_generic(address));
}

// A block's products, under way until they are awaited.
template <typename Scales, uint32_t kN>
struct RunningBlock {
    float sum[kN / 2];
    Scales scales;
    uint32_t stage;
};

// The next block's products run while sums of the present one are promoted: for tiles with registers for two blocks'
// sums. NOTE: so the ring needs two stages.
template <typename Math, typename Reader, typename Ring, typename OfScales>
MK_DEVICE void multiply_ahead(const Math& math, const Reader& reader, Ring& ring, OfScales& of_scales,
                              float (&accum)[Math::kN / 2]) {
    using Running = RunningBlock<typename Reader::Scales, Math::kN>;
    const auto start = [&](Running& block) {
        ring.wait_full();
        mma::start_block<Math::kN>(block.sum, math.m_descriptor(ring, 0), math.n_descriptor(ring));
        block.stage = ring.stage;
        reader.read(of_scales, block.scales);
        ring.advance();
        of_scales.advance();
    };
    const auto finish = [&](Running& block) {
        ptx::wgmma_pin(block.sum);
        // NOTE: the scales are in registers by now: the stage may be filled again.
        math.at.release(block.stage);
        block.scales.promote(0, block.sum, accum);
    };
    const uint32_t num_blocks = common::ceil_div(math.at.k_len(), common::kGranK);
    if (num_blocks == 0)
        return;
    Running even, odd;
    start(even);
    for (uint32_t next = 1; next + 1 < num_blocks; next += 2) {
        start(odd);
        ptx::wgmma_wait_group<1>();
        finish(even);
        start(even);
        ptx::wgmma_wait_group<1>();
        finish(odd);
    }
    if (num_blocks % 2 == 0) {
        start(odd);
        ptx::wgmma_wait_group<1>();
        finish(even);
        ptx::wgmma_wait_group<0>();
        finish(odd);
    } else {
        ptx::wgmma_wait_group<0>();
        finish(even);
    }
}

// Slice after slice, a sum at a time; what the next block needs is awaited and read while products run, so that only
// promotion is between those of one warpgroup, when the other's run. NOTE: so the ring needs two stages.
template <typename Math, typename Reader, typename Ring, typename OfScales>
MK_DEVICE void multiply_in_turn(const Math& math, const Reader& reader, Ring& ring, OfScales& of_scales,
                                float (&accum)[Math::kSlices][Math::kN / 2]) {
    const uint32_t num_blocks = common::ceil_div(math.at.k_len(), common::kGranK);
    if (num_blocks == 0)
        return;
    typename Reader::Scales scales, next_scales;
    ring.wait_full();
    reader.read(of_scales, scales);
    for (uint32_t next = 1; next <= num_blocks; ++next) {
        const Ring now = ring;
#pragma unroll
        for (uint32_t slice = 0; slice < Math::kSlices; ++slice) {
            const bool is_last = slice + 1 == Math::kSlices;
            float sum[Math::kN / 2];
            mma::start_block<Math::kN>(sum, math.m_descriptor(now, slice), math.n_descriptor(now));
            if (is_last) {
                ring.advance();
                of_scales.advance();
                if (next < num_blocks) {
                    ring.wait_full();
                    reader.read(of_scales, next_scales);
                }
            }
            ptx::wgmma_wait_group<0>();
            ptx::wgmma_pin(sum);
            if (is_last)
                math.at.release(now.stage);
            scales.promote(slice, sum, accum[slice]);
        }
        scales = next_scales;
    }
}

// A block after the other, with one's sums and scales at a time.
template <typename Math, typename Reader, typename Ring, typename OfScales>
MK_DEVICE void multiply_one_by_one(const Math& math, const Reader& reader, Ring& ring, OfScales& of_scales,
                                   float (&accum)[1][Math::kN / 2]) {
    for (uint32_t k = 0; k < math.at.p.k; k += common::kGranK, ring.advance(), of_scales.advance()) {
        ring.wait_full();
        typename Reader::Scales scales;
        float sum[Math::kN / 2];
        mma::start_block<Math::kN>(sum, math.m_descriptor(ring, 0), math.n_descriptor(ring));
        reader.read(of_scales, scales);
        ptx::wgmma_wait_group<0>();
        ptx::wgmma_pin(sum);
        math.at.release(ring.stage);
        scales.promote(0, sum, accum[0]);
    }
}

}  // namespace moekit::kernels
