// What products with weights on the M side of the tensor core and tokens on its N side share in all formats, so that
// few tokens leave no rows of a product idle: operands' places, and storing. The sums are those of rows_math.cuh, in
// the same order: the same bits.
#pragma once

#include "epilogue/store_bf16.cuh"
#include "epilogue/store_f32.cuh"
#include "kernels/gemm/math.cuh"
#include "mma/block.cuh"

#include <cuda/ptx>

namespace moekit::kernels {

// A math warpgroup's 64 weights of one block.
template <layout::GemmTile kTile>
struct ColumnsMath {
    using Smem = layout::GemmSmem<kTile>;
    using Box = epilogue::Bf16Box<kTile.block_m, 64>;
    static constexpr layout::GemmTile kShape = kTile;
    static constexpr uint32_t kSlices = 1;
    static constexpr uint32_t kN = kTile.block_m;

    static_assert(kTile.swaps_operands and kTile.num_slices() == 1);

    MathWarp<kTile> at;

    // Where the tensor core finds its M and N side.
    MK_DEVICE uint32_t m_side(uint32_t stage_smem, uint32_t) const {
        return stage_smem + Smem::kB + at.group_idx * 64 * layout::kBlockKBytes;
    }
    MK_DEVICE uint32_t n_side(uint32_t stage_smem) const { return stage_smem + Smem::kA; }

    // Descriptors of them in the ring's stage. NOTE: all but the stage is the same in all of K.
    MK_DEVICE uint32_t m_descriptor(const GemmRing<kTile>& ring, uint32_t slice) const {
        return mma::k_major_descriptor(m_side(ring.first_data(), slice)) + mma::descriptor_step(ring);
    }
    MK_DEVICE uint32_t n_descriptor(const GemmRing<kTile>& ring) const {
        return mma::k_major_descriptor(n_side(ring.first_data())) + mma::descriptor_step(ring);
    }

    // Multiplies the sums by the weights of their rows, as rows_math.cuh does.
    MK_DEVICE void weigh(const sched::Block& block, float (&accum)[1][kN / 2]) const {
        float of_lanes = 0.0f;
#pragma unroll
        for (uint32_t i = 0; i < kN / 2; i += 4) {
            const uint32_t lane = common::lane_idx(), row = i / 4 * 8 + 2 * (lane % 4);
            if (i % 16 == 0)
                of_lanes = at.row_weight(block, i / 4 * 8 + lane);
            const float weights[2] = {__shfl_sync(common::kFullWarp, of_lanes, row % 32),
                                      __shfl_sync(common::kFullWarp, of_lanes, row % 32 + 1)};
#pragma unroll
            for (uint32_t j = 0; j < 4; ++j)
                accum[0][i + j] = __fmul_rn(accum[0][i + j], weights[j % 2]);
        }
    }

    MK_DEVICE void store(const sched::Block& block, float (&accum)[1][kN / 2]) const {
        const uint32_t num_rows = block.num_rows + block.num_zero_rows;
        if (block.num_zero_rows != 0) {
#pragma unroll
            for (uint32_t i = 0; i < kN / 2; ++i)
                if (i / 4 * 8 + 2 * (common::lane_idx() % 4) + i % 2 >= block.num_rows)
                    accum[0][i] = 0.0f;
        }
        const uint32_t column = block.column + at.group_idx * 64;
        if (at.p.kind == abi::GemmOut::kBf16)
            return store_bf16(block, num_rows, column, accum[0]);
        epilogue::store_f32_swapped<kN>(at.p, block, column + at.warp_in_group * 16, num_rows, accum[0]);
    }

private:
    MK_DEVICE void store_bf16(const sched::Block& block, uint32_t num_rows, uint32_t column,
                              const float (&accum)[kN / 2]) const {
        const Box box = {at.smem + Smem::d(at.p.num_stages) + at.group_idx * Box::kBytes, block.a_group, block.row,
                         column};
        at.wait_stored();
        epilogue::columns_to_shared<kN>(accum, box.smem, at.warp_in_group);
        const bool by_tma = at.ready_to_store(block, num_rows);
        if (not by_tma) {
            box.copy_rows(at.p, num_rows);
        } else if (at.is_leader()) {
            box.store(at.p);
            cuda::ptx::cp_async_bulk_commit_group();
        }
    }
};

}  // namespace moekit::kernels
