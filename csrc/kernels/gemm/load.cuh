// The role that fills the ring: one thread loads tiles of A and B with TMA, and their scales where it can.
#pragma once

#include "abi/gemm.h"
#include "common/ring.cuh"
#include "common/warp.cuh"
#include "kernels/gemm/k_part.cuh"
#include "kernels/gemm/load_scales.cuh"
#include "layout/gemm_smem.cuh"
#include "ptx/cluster.cuh"
#include "sched/block.cuh"

#include <cuda/ptx>

namespace moekit::kernels {

template <layout::GemmTile kTile>
using GemmRing = common::RingState<layout::GemmSmem<kTile>::kRing, layout::GemmSmem<kTile>::kStageBytes>;

// Arrivals that end a stage's filling: the thread that expects TMA's bytes, and every lane that copies scales.
template <layout::GemmTile kTile>
MK_DEVICE uint32_t num_full_arrivals(const abi::GemmParams& p) {
    return 1 + (kTile.has_scales() and not loads_scales_by_tma(p) ? 32 : 0);
}

MK_DEVICE uint64_t* shared_barrier(uint32_t address) {
    return static_cast<uint64_t*>(__cvta_shared_to_generic(address));
}

// Loads kRows rows from `row` on to `destination`, or this CTA's part of them to all CTAs of the cluster.
template <uint32_t kRows>
MK_DEVICE void load_tile(const abi::TensorMap& map, uint32_t destination, uint32_t barrier, uint32_t k, uint32_t row,
                         uint32_t group, bool is_shared, uint32_t first_shared, uint16_t ctas) {
    using namespace cuda::ptx;
    const uint32_t first = is_shared ? first_shared : 0;
    const int32_t at[3] = {static_cast<int32_t>(k), static_cast<int32_t>(row + first), static_cast<int32_t>(group)};
    void* tile = __cvta_shared_to_generic(destination + first * layout::kBlockKBytes);
    if (is_shared)
        cp_async_bulk_tensor(space_cluster, space_global, tile, &map, at, shared_barrier(barrier), ctas);
    else
        cp_async_bulk_tensor(space_cluster, space_global, tile, &map, at, shared_barrier(barrier));
}

template <layout::GemmTile kTile, typename Scheduler>
MK_DEVICE void load_tiles(const abi::GemmParams& p, uint32_t smem) {
    using Smem = layout::GemmSmem<kTile>;
    const bool shares_a = p.cluster_shares == abi::ClusterShares::kA;
    const bool shares_b = p.cluster_shares == abi::ClusterShares::kB;
    const uint32_t shift = ptx::cluster_len_log2(), cta_rank = ptx::cluster_ctarank();
    const uint16_t ctas = static_cast<uint16_t>((1u << (1u << shift)) - 1);
    const uint32_t first_a = (kTile.block_m >> shift) * cta_rank, first_b = (kTile.out_n() >> shift) * cta_rank;
    const bool loads_scales = kTile.has_scales() and loads_scales_by_tma(p);
    const KPart part = k_part<kTile>(p);
    GemmRing<kTile> ring = {smem, p.num_stages};
    ScaleRing<kTile> scales = scale_ring<kTile>(p, smem);
    sched::for_each_block<Scheduler>(p, [&](const sched::Block& block) {
        if (not block.multiplies)
            return;
        for (uint32_t k = part.begin; k < part.end; k += kTile.block_k(), ring.advance(), scales.advance()) {
            ring.wait_empty();
            const bool fills_slot = loads_scales and scales.block == 0;
            if (common::elect_lane()) {
                cuda::ptx::mbarrier_arrive_expect_tx(
                    cuda::ptx::sem_release, cuda::ptx::scope_cta, cuda::ptx::space_shared, shared_barrier(ring.full()),
                    Smem::kStageBytes + (fills_slot ? Smem::kAScaleBytes + Smem::kBScaleBytes : 0));
                load_tile<kTile.block_m>(p.a, ring.data() + Smem::kA, ring.full(), k, block.row, block.a_group,
                                         shares_a, first_a, ctas);
                load_tile<kTile.out_n()>(p.b, ring.data() + Smem::kB, ring.full(), k, block.column, block.group,
                                         shares_b, first_b, ctas);
                if constexpr (kTile.is_gated)
                    load_tile<kTile.out_n()>(p.b, ring.data() + Smem::kB + Smem::kBBytes / 2, ring.full(), k,
                                             p.n + block.column, block.group, shares_b, first_b, ctas);
                if (fills_slot)
                    load_scale_slot<kTile>(p, block, k, scales.data(), shared_barrier(ring.full()));
            }
            __syncwarp();
        }
    });
    ptx::griddepcontrol_launch_dependents();
    // NOTE: shared memory must outlive the other CTAs' arrivals at its barriers.
    for (uint32_t i = 0; i < p.num_stages; ++i, ring.advance())
        ring.wait_empty();
}

}  // namespace moekit::kernels
