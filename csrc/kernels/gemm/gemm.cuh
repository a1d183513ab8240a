// D[m, n] (+)= A[m, k] @ B[group][n, k]^T. Persistent: a CTA takes block after block. Warpgroup 0 fills a ring of
// stages in shared memory, the others multiply and store, 64 rows at a time. The layout of rows is the scheduler's
// affair alone, the format the math's. Meaning: src/gemm.
#pragma once

#include "kernels/gemm/bf16_math.cuh"
#include "kernels/gemm/fp8_math.cuh"
#include "kernels/gemm/fp8_swapped_math.cuh"
#include "kernels/gemm/load.cuh"
#include "kernels/gemm/load_scales.cuh"
#include "kernels/gemm/split_k.cuh"

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

// Registers of a thread: what a launch gives, shifted from the loads to the products; copies of a scale for each row of
// both operands ask for more of it. NOTE: only where the kernel takes all that there are: shifting what was never given
// would wait forever.
template <layout::GemmTile kTile>
constexpr uint32_t kLoadRegisters = kTile.scales_each_column ? 56 : 40;
template <layout::GemmTile kTile>
constexpr uint32_t kMathRegisters = kTile.scales_each_column ? 224 : 232;

template <layout::GemmTile kTile>
MK_DEVICE void give_registers() {
    if constexpr (kShiftsRegisters<kTile>)
        cuda::ptx::setmaxnreg_dec(cuda::ptx::n32_t<kLoadRegisters<kTile>>{});
}

template <layout::GemmTile kTile>
MK_DEVICE void take_registers() {
    if constexpr (kShiftsRegisters<kTile>)
        cuda::ptx::setmaxnreg_inc(cuda::ptx::n32_t<kMathRegisters<kTile>>{});
}

template <layout::GemmTile kTile, typename Scheduler>
MK_DEVICE void multiply_blocks(const abi::GemmParams& p, uint32_t smem) {
    using Math = std::conditional_t<kTile.has_scales(), ScaledMath<kTile>, UnscaledMath<kTile>>;
    const Math math = {{{p, smem}}};
    GemmRing<kTile> ring = {smem, p.num_stages};
    ScaleRing<kTile> scales = scale_ring<kTile>(p, smem);
    SplitK<kTile> split(p, smem);
    sched::for_each_block<Scheduler>(p, [&](const sched::Block& block) {
        float accum[Math::kSlices][Math::kN / 2] = {};
        if (block.multiplies) {
            math.multiply(block, ring, scales, accum);
            split.add_up(accum);
        }
        if (block.column >= p.n)
            return;
        const sched::Block& part = split.part_of(block);
        if (Scheduler::kHasRowWeights and p.row_weights != nullptr)
            math.weigh(part, accum);
        math.store(part, accum);
    });
    split.finish();
    // NOTE: shared memory must outlive the copies that read it.
    if (threadIdx.x % 128 == 0)
        cuda::ptx::cp_async_bulk_wait_group_read(cuda::ptx::n32_t<0>{});
}

// By the loading warpgroup, each warp every fourth stage's. All lanes call.
template <layout::GemmTile kTile>
MK_DEVICE void init_barriers(const abi::GemmParams& p, uint32_t smem, uint32_t warp) {
    using namespace cuda::ptx;
    if (not common::elect_lane())
        return;
    GemmRing<kTile> ring = {smem, p.num_stages};
#pragma unroll 1
    for (ring.stage = warp; ring.stage < p.num_stages; ring.stage += 4) {
        mbarrier_init(shared_barrier(ring.full()), num_full_arrivals<kTile>(p));
        mbarrier_init(shared_barrier(ring.empty()), 4 * kTile.num_math_warpgroups * num_loading_ctas<kTile>(p));
    }
    if (warp == 0)
        SplitK<kTile>(p, smem).init();
    fence_mbarrier_init(sem_release, scope_cluster);
}

template <layout::GemmTile kTile, typename Scheduler>
MK_DEVICE void gemm(const abi::GemmParams& p) {
    extern __shared__ __align__(1024) uint8_t smem_bytes[];
    // NOTE: through a shuffle, so that the compiler keeps the address and does not compute it again in every loop.
    const uint32_t smem = __shfl_sync(common::kFullWarp, ptx::shared_address(smem_bytes), 0);

    const uint32_t warp = __shfl_sync(common::kFullWarp, threadIdx.x / 32, 0);
    if (warp < 4) {
        init_barriers<kTile>(p, smem, warp);
    } else if (warp == 4 and common::elect_lane()) {
        ptx::prefetch_tensormap(&p.a);
        ptx::prefetch_tensormap(&p.b);
        if (kTile.has_scales() and loads_scales_by_tma(p)) {
            ptx::prefetch_tensormap(&p.a_scale_map);
            ptx::prefetch_tensormap(&p.b_scale_map);
        }
        if (p.stores_by_tma)
            ptx::prefetch_tensormap(&p.d);
    }
    ptx::cluster_sync_relaxed();
    ptx::griddepcontrol_wait();

    if (warp < 4) {
        give_registers<kTile>();
        if (warp == 0)
            load_tiles<kTile, Scheduler>(p, smem);
        else if (kTile.has_scales() and warp == 1 and not loads_scales_by_tma(p))
            copy_scales<kTile, Scheduler, GemmRing<kTile>>(p, smem);
        else if (warp == 2 and blockIdx.x == 0)
            Scheduler::check(p);
    } else {
        take_registers<kTile>();
        multiply_blocks<kTile, Scheduler>(p, smem);
    }
}

}  // namespace moekit::kernels
