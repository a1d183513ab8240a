// What the math warpgroups of all products share: who a warp is, and when it may release and store.
#pragma once

#include "common/warp.cuh"
#include "kernels/gemm/load.cuh"
#include "ptx/cluster.cuh"

#include <cuda/ptx>

namespace moekit::kernels {

template <layout::GemmTile kTile>
struct MathWarp {
    const abi::GemmParams& p;
    uint32_t smem;
    uint32_t group_idx;  // of this warpgroup among those that multiply
    uint32_t warp_in_group;
    uint32_t part_len;    // this CTA's part of K
    uint32_t peer_empty;  // the empty barriers of CTA `lane` of those that load for each other
    bool releases;        // whether this lane tells one

    MK_DEVICE MathWarp(const abi::GemmParams& params, uint32_t shared) : p(params), smem(shared) {
        // NOTE: through a shuffle, so that the compiler sees one value for the warp.
        const uint32_t warp = __shfl_sync(common::kFullWarp, threadIdx.x / 32 - 4, 0);
        group_idx = warp / 4;
        warp_in_group = warp % 4;
        part_len = k_part<kTile>(p).len();
        releases = common::lane_idx() < num_loading_ctas<kTile>(p);
        const uint32_t cta_rank = shares_d<kTile>(p) ? ptx::cluster_ctarank() : releases ? common::lane_idx() : 0;
        peer_empty = ptx::mapa_shared_cluster_u32(smem + GemmRing<kTile>::kEmpty, cta_rank);
    }

    MK_DEVICE uint32_t k_len() const { return kTile.splits_k() ? part_len : p.k; }

    // This warp has read all that it needs of the stage. NOTE: the lanes that tell it speak for what the others read.
    MK_DEVICE void release(uint32_t stage) const {
        __syncwarp();
        if (releases)
            ptx::mbarrier_arrive_cluster(peer_empty + 8 * stage);
    }

    MK_DEVICE bool is_leader() const { return threadIdx.x % 128 == 0; }

    MK_DEVICE void sync_group() const { ptx::bar_sync(1 + group_idx, 128); }

    // What multiplies the sums of the block's row `row`. NOTE: rows that are not computed have none that could be read.
    MK_DEVICE float row_weight(const sched::Block& block, uint32_t row) const {
        const uint64_t first = static_cast<uint64_t>(block.a_group) * p.m + block.row;
        return row < block.num_rows ? p.row_weights[first + row] : 0.0f;
    }

    // Until D's tile in shared memory, of the block before, has been read.
    MK_DEVICE void wait_stored() const {
        if (is_leader())
            cuda::ptx::cp_async_bulk_wait_group_read(cuda::ptx::n32_t<0>{});
        sync_group();
    }

    // Until the warpgroup has written D's tile; whether TMA may store it. NOTE: TMA leaves out what lies outside D, but
    // knows nothing of rows that others own.
    MK_DEVICE bool ready_to_store(const sched::Block& block, uint32_t num_rows) const {
        const bool is_whole = num_rows == kTile.block_m or block.row + num_rows == p.m;
        const bool by_tma = p.stores_by_tma and is_whole;
        if (by_tma)
            cuda::ptx::fence_proxy_async(cuda::ptx::space_shared);
        sync_group();
        return by_tma;
    }
};

}  // namespace moekit::kernels
