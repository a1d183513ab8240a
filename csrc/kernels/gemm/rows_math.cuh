// What products with tokens on the M side of the tensor core share in all formats: operands' places, and storing.
#pragma once

#include "epilogue/store_bf16.cuh"
#include "epilogue/store_f32.cuh"
#include "kernels/gemm/math.cuh"
#include "mma/block.cuh"

#include <cuda/ptx>

namespace moekit::kernels {

// Config checks.
template <layout::GemmTile kTile>
struct RowsTileChecks {
    static_assert(not kTile.swaps_operands);
    static_assert(kTile.block_m % (64 * kTile.num_math_warpgroups) == 0, "warpgroups share 64-row slices evenly");
    static_assert(kTile.block_n % layout::kStoreColumns == 0, "columns are stored in whole boxes");
};

// A math warpgroup's slices of one block.
template <layout::GemmTile kTile>
struct RowsMath {
    using Smem = layout::GemmSmem<kTile>;
    static constexpr layout::GemmTile kShape = kTile;
    static constexpr uint32_t kSlices = kTile.num_slices();
    static constexpr uint32_t kN = kTile.block_n;

    MathWarp<kTile> at;

    // The thread's first row in the block; 8 below is its second, and 64 below that of the next slice.
    MK_DEVICE uint32_t first_row() const {
        return at.group_idx * kSlices * 64 + at.warp_in_group * 16 + common::lane_idx() / 4;
    }

    // Where the tensor core finds its M and N side.
    MK_DEVICE uint32_t m_side(uint32_t stage_smem, uint32_t slice) const {
        return stage_smem + Smem::kA + (at.group_idx * kSlices + slice) * 64 * layout::kBlockKBytes;
    }
    MK_DEVICE uint32_t n_side(uint32_t stage_smem) const { return stage_smem + Smem::kB; }

    // Descriptors of them in the ring's stage. NOTE: all but the stage is the same in all of K.
    MK_DEVICE uint32_t m_descriptor(const GemmRing<kTile>& ring, uint32_t slice) const {
        return mma::k_major_descriptor(m_side(ring.first_data(), slice)) + mma::descriptor_step(ring);
    }
    MK_DEVICE uint32_t n_descriptor(const GemmRing<kTile>& ring) const {
        return mma::k_major_descriptor(n_side(ring.first_data())) + mma::descriptor_step(ring);
    }

    // Multiplies the sums by the weights of their rows. NOTE: an operation of its own, which the addition to D must not
    // take in: one rounding would be missing.
    MK_DEVICE void weigh(const sched::Block& block, float (&accum)[kSlices][kN / 2]) const {
#pragma unroll
        for (uint32_t slice = 0; slice < kSlices; ++slice) {
            const uint32_t lane = common::lane_idx(), first = first_row() - lane / 4 + slice * 64;
            const float mine = at.row_weight(block, first + lane % 16);
            const float weights[2] = {__shfl_sync(common::kFullWarp, mine, lane / 4),
                                      __shfl_sync(common::kFullWarp, mine, lane / 4 + 8)};
#pragma unroll
            for (uint32_t i = 0; i < kN / 2; ++i)
                accum[slice][i] = __fmul_rn(accum[slice][i], weights[i / 2 % 2]);
        }
    }

    MK_DEVICE void store(const sched::Block& block, float (&accum)[kSlices][kN / 2]) const {
        const abi::GemmParams& p = at.p;
        const uint32_t num_rows = block.num_rows + block.num_zero_rows;
        clear_zero_rows(block, accum);
        if (p.kind == abi::GemmOut::kBf16)
            return store_bf16(block, num_rows, accum);
#pragma unroll
        for (uint32_t slice = 0; slice < kSlices; ++slice) {
            const uint32_t first = (at.group_idx * kSlices + slice) * 64;
            const auto of_slice = [&](uint32_t rows) { return rows > first ? rows - first : 0; };
            epilogue::store_f32<kN>(p, block, block.row + first, of_slice(block.num_rows), of_slice(num_rows),
                                    accum[slice], at.warp_in_group);
        }
    }

private:
    MK_DEVICE void clear_zero_rows(const sched::Block& block, float (&accum)[kSlices][kN / 2]) const {
        if (block.num_zero_rows == 0)
            return;
#pragma unroll
        for (uint32_t slice = 0; slice < kSlices; ++slice)
#pragma unroll
            for (uint32_t i = 0; i < kN / 2; ++i)
                if (first_row() + slice * 64 + i / 2 % 2 * 8 >= block.num_rows)
                    accum[slice][i] = 0.0f;
    }

    MK_DEVICE void store_bf16(const sched::Block& block, uint32_t num_rows,
                              const float (&accum)[kSlices][kN / 2]) const {
        const uint32_t first_smem =
            at.smem + Smem::d(at.p.num_stages) + at.group_idx * kSlices * epilogue::Bf16Box<64, kN>::kBytes;
        at.wait_stored();
#pragma unroll
        for (uint32_t slice = 0; slice < kSlices; ++slice)
            epilogue::rows_to_shared<kN>(accum[slice], first_smem + slice * epilogue::Bf16Box<64, kN>::kBytes,
                                         at.warp_in_group);
        const bool by_tma = at.ready_to_store(block, num_rows);
#pragma unroll
        for (uint32_t slice = 0; slice < kSlices; ++slice) {
            const uint32_t first = (at.group_idx * kSlices + slice) * 64;
            const epilogue::Bf16Box<64, kN> box = {first_smem + slice * epilogue::Bf16Box<64, kN>::kBytes,
                                                   block.a_group, block.row + first, block.column};
            if (not by_tma)
                box.copy_rows(at.p, num_rows > first ? min(num_rows - first, 64) : 0);
            else if (at.is_leader())
                box.store(at.p);
        }
        if (by_tma and at.is_leader())
            cuda::ptx::cp_async_bulk_commit_group();
    }
};

}  // namespace moekit::kernels
