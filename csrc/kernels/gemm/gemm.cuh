// D[m, n] (+)= A[m, k] @ B[group][n, k]^T. Persistent: a CTA takes block after block. Warpgroup 0 fills a ring of
// stages in shared memory, the others multiply and store, 64 rows at a time. The layout of rows is the scheduler's
// affair alone, the format that of Math: fp8.cuh, bf16.cuh. Meaning: src/gemm.
#pragma once

#include "kernels/gemm/math.cuh"

namespace moekit::kernels {

// Config checks.
template <layout::GemmTile kTile>
struct GemmTileChecks {
    static_assert(not kTile.swaps_operands);
    static_assert(kTile.block_m % (64 * kTile.num_math_warpgroups) == 0, "warpgroups share 64-row slices evenly");
    static_assert(kTile.block_n % layout::kStoreColumns == 0, "columns are stored in whole boxes");
};

// Registers of a thread: what a launch gives, shifted from the loads to the products.
template <layout::GemmTile kTile>
MK_DEVICE void give_registers() {
    if constexpr (kTile.num_math_warpgroups == 2)
        cuda::ptx::setmaxnreg_dec(cuda::ptx::n32_t<40>{});
}

template <layout::GemmTile kTile>
MK_DEVICE void take_registers() {
    if constexpr (kTile.num_math_warpgroups == 2)
        cuda::ptx::setmaxnreg_inc(cuda::ptx::n32_t<232>{});
}

template <layout::GemmTile kTile, typename Scheduler, typename Math>
MK_DEVICE void multiply_blocks(const abi::GemmParams& p, uint32_t smem) {
    const Math math(p, smem);
    Scheduler scheduler(p);
    common::RingState ring = gemm_ring<kTile>(p, smem);
    for (sched::Block block; scheduler.next(block);) {
        float accum[Math::kSlices][Math::kN / 2] = {};
        if (block.multiplies)
            math.multiply(ring, accum);
        math.store(block, accum);
    }
    // NOTE: shared memory must outlive the copies that read it.
    if (threadIdx.x % 128 == 0)
        cuda::ptx::cp_async_bulk_wait_group_read(cuda::ptx::n32_t<0>{});
}

template <layout::GemmTile kTile, typename Scheduler, typename Math>
MK_DEVICE void gemm(const abi::GemmParams& p) {
    [[maybe_unused]] constexpr GemmTileChecks<kTile> kChecks;
    using Smem = layout::GemmSmem<kTile>;
    extern __shared__ __align__(1024) uint8_t smem_bytes[];
    const uint32_t smem = ptx::shared_address(smem_bytes);

    if (threadIdx.x == 0) {
        const uint32_t num_releases = 4 * kTile.num_math_warpgroups * ptx::cluster_nctarank();
        for (uint32_t stage = 0; stage < p.num_stages; ++stage) {
            cuda::ptx::mbarrier_init(shared_barrier(smem + Smem::full(p.num_stages, stage)),
                                     uint32_t{kFullArrivals<kTile>});
            cuda::ptx::mbarrier_init(shared_barrier(smem + Smem::empty(p.num_stages, stage)), num_releases);
        }
        cuda::ptx::fence_mbarrier_init(cuda::ptx::sem_release, cuda::ptx::scope_cluster);
    }
    ptx::cluster_sync();
    ptx::griddepcontrol_wait();

    const uint32_t warp = __shfl_sync(common::kFullWarp, threadIdx.x / 32, 0);
    if (warp < 4) {
        give_registers<kTile>();
        if (warp == 0)
            load_tiles<kTile, Scheduler>(p, smem);
        else if (kTile.has_scales() and warp == 1)
            load_scales<kTile, Scheduler>(p, smem);
        else if (warp == 2 and blockIdx.x == 0)
            Scheduler::check(p);
    } else {
        take_registers<kTile>();
        multiply_blocks<kTile, Scheduler, Math>(p, smem);
    }
    // NOTE: the other CTA of a cluster may still load into this one's shared memory, or arrive at its barriers.
    ptx::cluster_sync();
}

}  // namespace moekit::kernels
