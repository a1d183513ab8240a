// What the math warpgroups of all formats have in common: who they are, and how a finished block is stored.
#pragma once

#include "epilogue/store_bf16.cuh"
#include "epilogue/store_f32.cuh"
#include "kernels/gemm/load.cuh"
#include "ptx/cluster.cuh"
#include "ptx/wgmma.cuh"

#include <cuda/ptx>

namespace moekit::kernels {

// A math warpgroup's slices of one block.
template <layout::GemmTile kTile>
struct GemmMath {
    using Smem = layout::GemmSmem<kTile>;
    static constexpr uint32_t kSlices = kTile.num_slices();
    static constexpr uint32_t kN = kTile.block_n;

    const abi::GemmParams& p;
    uint32_t smem;
    uint32_t group_idx;  // of this warpgroup
    uint32_t warp_in_group;
    uint32_t peer_empty;  // the empty barriers of CTA `lane` of the cluster
    bool releases;        // whether this lane tells one

    MK_DEVICE GemmMath(const abi::GemmParams& params, uint32_t shared) : p(params), smem(shared) {
        // NOTE: through a shuffle, so that the compiler sees one value for the warp.
        const uint32_t warp = __shfl_sync(common::kFullWarp, threadIdx.x / 32 - 4, 0);
        group_idx = warp / 4;
        warp_in_group = warp % 4;
        releases = common::lane_idx() < ptx::cluster_nctarank();
        peer_empty =
            ptx::mapa_shared_cluster_u32(smem + Smem::empty(p.num_stages, 0), releases ? common::lane_idx() : 0);
    }

    // Tells all CTAs of the cluster that this warp is done with a stage.
    MK_DEVICE void release(uint32_t stage) const {
        if (releases)
            ptx::mbarrier_arrive_cluster(peer_empty + 8 * stage);
    }

    MK_DEVICE uint32_t a_smem(uint32_t stage, uint32_t slice) const {
        return smem + Smem::a(stage) + (group_idx * kSlices + slice) * 64 * layout::kBlockKBytes;
    }

    MK_DEVICE void store(const sched::Block& block, float (&accum)[kSlices][kN / 2]) const {
        if (block.column >= p.n)
            return;
        const uint32_t num_rows = block.num_rows + block.num_zero_rows;
        clear_zero_rows(block, accum);
        if (p.kind == abi::GemmOut::kBf16)
            return store_bf16(block, num_rows, accum);
#pragma unroll
        for (uint32_t slice = 0; slice < kSlices; ++slice) {
            const uint32_t first = (group_idx * kSlices + slice) * 64;
            const auto of_slice = [&](uint32_t rows) { return rows > first ? rows - first : 0; };
            epilogue::store_f32<kN>(p, block, block.row + first, of_slice(block.num_rows), of_slice(num_rows),
                                    accum[slice], warp_in_group);
        }
    }

    MK_DEVICE void clear_zero_rows(const sched::Block& block, float (&accum)[kSlices][kN / 2]) const {
        if (block.num_zero_rows == 0)
            return;
#pragma unroll
        for (uint32_t slice = 0; slice < kSlices; ++slice) {
            const uint32_t row = (group_idx * kSlices + slice) * 64 + warp_in_group * 16 + common::lane_idx() / 4;
#pragma unroll
            for (uint32_t i = 0; i < kN / 2; ++i)
                if (row + i / 2 % 2 * 8 >= block.num_rows)
                    accum[slice][i] = 0.0f;
        }
    }

    MK_DEVICE void store_bf16(const sched::Block& block, uint32_t num_rows,
                              const float (&accum)[kSlices][kN / 2]) const {
        // NOTE: TMA leaves out what lies outside D, but knows nothing of rows that others own.
        const bool is_whole = num_rows == kTile.block_m or block.row + num_rows == p.m;
        const bool by_tma = p.stores_by_tma and is_whole;
        const uint32_t barrier = 1 + group_idx;
        const bool is_leader = threadIdx.x % 128 == 0;
        if (is_leader)
            cuda::ptx::cp_async_bulk_wait_group_read(cuda::ptx::n32_t<0>{});
        ptx::bar_sync(barrier, 128);
        const uint32_t first_smem = smem + Smem::kD + group_idx * kSlices * 64 * kN * 2;
#pragma unroll
        for (uint32_t slice = 0; slice < kSlices; ++slice)
            epilogue::slice_to_shared<kN>(accum[slice], first_smem + slice * 64 * kN * 2, warp_in_group);
        if (by_tma)
            cuda::ptx::fence_proxy_async(cuda::ptx::space_shared);
        ptx::bar_sync(barrier, 128);
#pragma unroll
        for (uint32_t slice = 0; slice < kSlices; ++slice) {
            const uint32_t first = (group_idx * kSlices + slice) * 64;
            const uint32_t slice_smem = first_smem + slice * 64 * kN * 2;
            if (not by_tma)
                epilogue::copy_rows<kN>(p, block, block.row + first, num_rows > first ? min(num_rows - first, 64) : 0,
                                        slice_smem);
            else if (is_leader)
                epilogue::store_slice<kN>(p, block, block.row + first, slice_smem);
        }
        if (by_tma and is_leader)
            cuda::ptx::cp_async_bulk_commit_group();
    }
};

}  // namespace moekit::kernels
