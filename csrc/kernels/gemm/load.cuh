// The roles that fill the ring: one thread loads tiles of A and B with TMA, one warp their scales.
#pragma once

#include "abi/gemm.h"
#include "common/ring.cuh"
#include "common/scale.cuh"
#include "common/warp.cuh"
#include "layout/gemm_smem.cuh"
#include "ptx/cluster.cuh"
#include "sched/block.cuh"

#include <cuda/ptx>

namespace moekit::kernels {

template <layout::GemmTile kTile>
using GemmRing = common::RingState<layout::GemmSmem<kTile>::kRing, layout::GemmSmem<kTile>::kStageBytes>;

// Arrivals that end a stage's filling: the thread that expects the tiles' bytes, and every lane that loads scales.
template <layout::GemmTile kTile>
constexpr uint32_t kFullArrivals = 1 + (kTile.has_scales() ? 32 : 0);

MK_DEVICE uint64_t* shared_barrier(uint32_t address) {
    return static_cast<uint64_t*>(__cvta_shared_to_generic(address));
}

// Loads kRows rows from `row` on to `destination`, or this CTA's half of them to both CTAs of the cluster.
template <uint32_t kRows>
MK_DEVICE void load_tile(const abi::TensorMap& map, uint32_t destination, uint32_t barrier, uint32_t k, uint32_t row,
                         uint32_t group, bool is_shared, uint32_t cta_rank) {
    using namespace cuda::ptx;
    const uint32_t half = kRows / 2;
    const uint32_t first = is_shared ? cta_rank * half : 0;
    const int32_t at[3] = {static_cast<int32_t>(k), static_cast<int32_t>(row + first), static_cast<int32_t>(group)};
    void* tile = __cvta_shared_to_generic(destination + first * layout::kBlockKBytes);
    if (is_shared)
        cp_async_bulk_tensor(space_cluster, space_global, tile, &map, at, shared_barrier(barrier), 0b11);
    else
        cp_async_bulk_tensor(space_cluster, space_global, tile, &map, at, shared_barrier(barrier));
}

template <layout::GemmTile kTile, typename Scheduler>
MK_DEVICE void load_tiles(const abi::GemmParams& p, uint32_t smem) {
    using Smem = layout::GemmSmem<kTile>;
    const bool shares_a = p.cluster_shares == abi::ClusterShares::kA;
    const bool shares_b = p.cluster_shares == abi::ClusterShares::kB;
    GemmRing<kTile> ring = {smem, p.num_stages};
    const uint32_t cta_rank = ptx::cluster_ctarank();
    sched::for_each_block<Scheduler>(p, [&](const sched::Block& block) {
        if (block.multiplies and common::lane_idx() == 0) {
            for (uint32_t k = 0; k < p.k; k += kTile.block_k(), ring.advance()) {
                ring.wait_empty();
                cuda::ptx::mbarrier_arrive_expect_tx(cuda::ptx::sem_release, cuda::ptx::scope_cta,
                                                     cuda::ptx::space_shared, shared_barrier(ring.full()),
                                                     Smem::kABytes + Smem::kBBytes);
                load_tile<kTile.block_m>(p.a, ring.data() + Smem::kA, ring.full(), k, block.row, block.a_group,
                                         shares_a, cta_rank);
                load_tile<kTile.block_n>(p.b, ring.data() + Smem::kB, ring.full(), k, block.column, block.group,
                                         shares_b, cta_rank);
            }
        }
        __syncwarp();
    });
    ptx::griddepcontrol_launch_dependents();
}

// One lane's part of a block's scales: rows lane, lane + 32, .. of A, and one column of scales of B.
template <layout::GemmTile kTile>
struct ScaleSource {
    using Smem = layout::GemmSmem<kTile>;
    static constexpr uint32_t kRowsPerLane = (kTile.block_m + 31) / 32;

    const float* a;
    const float* b;
    uint64_t row_step;  // floats from one row of this lane to its next
    uint32_t num_rows;  // of this lane that the matrix has
    bool has_b;

    MK_DEVICE ScaleSource(const abi::GemmParams& p, const sched::Block& block) {
        const uint32_t lane = common::lane_idx(), row = block.row + lane;
        a = p.a_scales.data + block.a_group * p.a_scales.group_stride + row * p.a_scales.row_stride;
        row_step = 32 * p.a_scales.row_stride;
        const uint32_t end = min(p.m, block.row + kTile.block_m);
        num_rows = row < end ? (end - row + 31) / 32 : 0;
        const uint32_t column = block.column + lane * Smem::kScaleColumns;
        b = p.b_scales.data + block.group * p.b_scales.group_stride + column / 128 * p.b_scales.row_stride;
        has_b = column < p.n;
    }

    MK_DEVICE void copy_to(uint32_t scales) const {
        const uint32_t lane = common::lane_idx();
#pragma unroll
        for (uint32_t i = 0; i < kRowsPerLane; ++i) {
            const bool is_valid = i < num_rows;
            if (kTile.block_m % 32 != 0 and lane >= kTile.block_m)
                continue;
            ptx::cp_async_ca_b32(scales + 4 * (lane + 32 * i), is_valid ? a + i * row_step : a, is_valid);
        }
        if (lane < Smem::kNumBScales)
            ptx::cp_async_ca_b32(scales + 4 * (kTile.block_m + lane), b, has_b);
    }
};

template <layout::GemmTile kTile, typename Scheduler>
MK_DEVICE void load_scales(const abi::GemmParams& p, uint32_t smem) {
    using Smem = layout::GemmSmem<kTile>;
    GemmRing<kTile> ring = {smem, p.num_stages};
    sched::for_each_block<Scheduler>(p, [&](const sched::Block& block) {
        if (not block.multiplies)
            return;
        ScaleSource<kTile> source(p, block);
        for (uint32_t k = 0; k < p.k; k += common::kGranK, ring.advance()) {
            ring.wait_empty();
            source.copy_to(ring.data() + Smem::kScales);
            ptx::cp_async_mbarrier_arrive_noinc(ring.full());
            source.a += p.a_scales.block_stride;
            source.b += p.b_scales.block_stride;
        }
    });
}

}  // namespace moekit::kernels
