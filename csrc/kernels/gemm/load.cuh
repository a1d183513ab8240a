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
                load_tile<kTile.out_n()>(p.b, ring.data() + Smem::kB, ring.full(), k, block.column, block.group,
                                         shares_b, cta_rank);
                if constexpr (kTile.is_gated)
                    load_tile<kTile.out_n()>(p.b, ring.data() + Smem::kB + Smem::kBBytes / 2, ring.full(), k,
                                             p.n + block.column, block.group, shares_b, cta_rank);
            }
        }
        __syncwarp();
    });
    ptx::griddepcontrol_launch_dependents();
}

// One lane's part of one operand's scales in a block: kLen of them, one a row.
template <uint32_t kLen>
struct ScaleSource {
    static constexpr uint32_t kPerLane = (kLen + 31) / 32;

    const float* data;
    uint64_t step;  // floats from one scale of this lane to its next
    uint32_t num;   // of this lane that the matrix has
    uint64_t block_stride;

    // `first` is the first scale of the block, of `end` in the matrix.
    MK_DEVICE ScaleSource(const abi::ScalesIn& scales, uint32_t group, uint32_t first, uint32_t end) {
        const uint32_t mine = first + common::lane_idx();
        data = scales.data + group * scales.group_stride + mine * scales.row_stride;
        step = 32 * scales.row_stride;
        num = mine < end ? (end - mine + 31) / 32 : 0;
        block_stride = scales.block_stride;
    }

    // Copies those of a block of K, and goes to the next block.
    MK_DEVICE void copy_to(uint32_t smem) {
        const uint32_t lane = common::lane_idx();
#pragma unroll
        for (uint32_t i = 0; i < kPerLane; ++i) {
            const bool is_valid = i < num;
            if (kLen % 32 == 0 or lane + 32 * i < kLen)
                ptx::cp_async_ca_b32(smem + 4 * (lane + 32 * i), is_valid ? data + i * step : data, is_valid);
        }
        data += block_stride;
    }
};

// As above for B's scales per 128 rows: one for some of the block's columns, which two may share.
template <layout::GemmTile kTile>
struct BlockScaleSource {
    using Smem = layout::GemmSmem<kTile>;

    const float* data;
    bool is_valid;
    uint64_t block_stride;

    MK_DEVICE BlockScaleSource(const abi::GemmParams& p, const sched::Block& block) {
        const uint32_t step = kTile.is_gated ? p.n : Smem::kScaleColumns;
        const uint32_t column = block.column + common::lane_idx() * step;
        data = p.b_scales.data + block.group * p.b_scales.group_stride + column / 128 * p.b_scales.row_stride;
        is_valid = (kTile.is_gated ? block.column : column) < p.n;
        block_stride = p.b_scales.block_stride;
    }

    MK_DEVICE void copy_to(uint32_t smem) {
        if (common::lane_idx() < Smem::kNumBScales)
            ptx::cp_async_ca_b32(smem + 4 * common::lane_idx(), data, is_valid);
        data += block_stride;
    }
};

template <layout::GemmTile kTile>
MK_DEVICE auto b_scale_source(const abi::GemmParams& p, const sched::Block& block) {
    if constexpr (kTile.scales_each_column)
        return ScaleSource<kTile.block_n>(p.b_scales, block.group, block.column, p.n);
    else
        return BlockScaleSource<kTile>(p, block);
}

template <layout::GemmTile kTile, typename Scheduler>
MK_DEVICE void load_scales(const abi::GemmParams& p, uint32_t smem) {
    using Smem = layout::GemmSmem<kTile>;
    GemmRing<kTile> ring = {smem, p.num_stages};
    sched::for_each_block<Scheduler>(p, [&](const sched::Block& block) {
        if (not block.multiplies)
            return;
        ScaleSource<kTile.block_m> a(p.a_scales, block.a_group, block.row, p.m);
        auto b = b_scale_source<kTile>(p, block);
        for (uint32_t k = 0; k < p.k; k += common::kGranK, ring.advance()) {
            ring.wait_empty();
            const uint32_t scales = ring.data() + Smem::kScales;
            a.copy_to(scales);
            b.copy_to(scales + 4 * kTile.block_m);
            ptx::cp_async_mbarrier_arrive_noinc(ring.full());
        }
    });
}

}  // namespace moekit::kernels
