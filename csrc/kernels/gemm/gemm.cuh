// D[m, n] (+)= A[m, k] @ B[group][n, k]^T. Persistent: a CTA takes block after block. Warpgroup 0 fills a ring of
// stages in shared memory, the others multiply and store, 64 rows at a time. The layout of rows is the scheduler's
// affair alone, the format the math's. Meaning: src/gemm.
#pragma once

#include "kernels/gemm/bf16_math.cuh"
#include "kernels/gemm/fp8_math.cuh"
#include "kernels/gemm/fp8_swapped_math.cuh"
#include "kernels/gemm/load.cuh"

#include <cuda/ptx>
#include <type_traits>

namespace moekit::kernels {

template <layout::GemmTile kTile>
using ScaledMath = std::conditional_t<kTile.swaps_operands, Fp8SwappedMath<kTile>, Fp8Math<kTile>>;

template <layout::GemmTile kTile>
using UnscaledMath = Bf16Math<std::conditional_t<kTile.swaps_operands, ColumnsMath<kTile>, RowsMath<kTile>>>;

// Whether products' sums ask for more registers than a launch of three warpgroups can give.
template <layout::GemmTile kTile>
constexpr bool kShiftsRegisters = kTile.num_math_warpgroups == 2 and kTile.side_n() >= 128;

// Registers of a thread: what a launch gives, shifted from the loads to the products. NOTE: only where the kernel takes
// all that there are: shifting what was never given would wait forever.
template <layout::GemmTile kTile>
MK_DEVICE void give_registers() {
    if constexpr (kShiftsRegisters<kTile>)
        cuda::ptx::setmaxnreg_dec(cuda::ptx::n32_t<40>{});
}

template <layout::GemmTile kTile>
MK_DEVICE void take_registers() {
    if constexpr (kShiftsRegisters<kTile>)
        cuda::ptx::setmaxnreg_inc(cuda::ptx::n32_t<232>{});
}

template <layout::GemmTile kTile, typename Scheduler>
MK_DEVICE void multiply_blocks(const abi::GemmParams& p, uint32_t smem) {
    using Math = std::conditional_t<kTile.has_scales(), ScaledMath<kTile>, UnscaledMath<kTile>>;
    const Math math = {{{p, smem}}};
    GemmRing<kTile> ring = {smem, p.num_stages};
    sched::for_each_block<Scheduler>(p, [&](const sched::Block& block) {
        float accum[Math::kSlices][Math::kN / 2] = {};
        if (block.multiplies)
            math.multiply(ring, accum);
        if (block.column < p.n)
            math.store(block, accum);
    });
    // NOTE: shared memory must outlive the copies that read it.
    if (threadIdx.x % 128 == 0)
        cuda::ptx::cp_async_bulk_wait_group_read(cuda::ptx::n32_t<0>{});
}

// Makes the ring's barriers; one thread calls, and the cluster waits for it.
template <layout::GemmTile kTile>
MK_DEVICE void init_ring(const abi::GemmParams& p, uint32_t smem) {
    const uint32_t num_releases = 4 * kTile.num_math_warpgroups * ptx::cluster_nctarank();
    for (GemmRing<kTile> ring = {smem, p.num_stages}; ring.parity == 0; ring.advance()) {
        cuda::ptx::mbarrier_init(shared_barrier(ring.full()), uint32_t{kFullArrivals<kTile>});
        cuda::ptx::mbarrier_init(shared_barrier(ring.empty()), num_releases);
    }
    cuda::ptx::fence_mbarrier_init(cuda::ptx::sem_release, cuda::ptx::scope_cluster);
}

template <layout::GemmTile kTile, typename Scheduler>
MK_DEVICE void gemm(const abi::GemmParams& p) {
    extern __shared__ __align__(1024) uint8_t smem_bytes[];
    const uint32_t smem = ptx::shared_address(smem_bytes);

    if (threadIdx.x == 0)
        init_ring<kTile>(p, smem);
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
        multiply_blocks<kTile, Scheduler>(p, smem);
    }
    // NOTE: the other CTA of a cluster may still load into this one's shared memory, or arrive at its barriers.
    ptx::cluster_sync();
}

}  // namespace moekit::kernels
